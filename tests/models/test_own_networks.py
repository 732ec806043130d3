"""Networks from a researcher's file: which are run, which are not, and that the worked example in the docs trains."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import nn

from models import registry
from models.recipe import Recipe, load_recipe
from models.recipe_problems import RecipeError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "own-networks.md").read_text(encoding="utf-8")

SOURCE = """
from __future__ import annotations
import dataclasses
from pathlib import Path
from torch import nn

Path(__file__).with_name("ran").touch()

@dataclasses.dataclass
class Options:
    width: int

NUMBER = 7

def Tiny(classes: int, channels: int, width: int = 2) -> nn.Module:
    width = Options(width).width
    layers = [nn.Conv2d(channels, width, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, classes)]
    return nn.Sequential(*layers)
"""


def recipe(source: str, name: str = "Tiny", file: str = "tiny.py") -> Recipe:
    digest = hashlib.sha256(source.encode()).hexdigest()
    changes = {"name": name, "file": file, "file_sha256": digest, "options": {}}
    return load_recipe("fl-cxr-resnet18").overridden({f"network.{key}": value for key, value in changes.items()})


def refused(made: Recipe, folder: Path | None) -> str:
    with pytest.raises(RecipeError) as caught:
        registry.build(made, folder=folder)
    assert [problem.key for problem in caught.value.problems] == ["network.file"]
    return str(caught.value)


def test_a_file_of_the_recipes_digest_is_run_and_gives_the_network(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SOURCE)
    network = registry.build(recipe(SOURCE).overridden({"network.options": {"width": 5}}), folder=tmp_path)
    assert isinstance(network, nn.Sequential)
    assert network[3].in_features == 5
    assert (tmp_path / "ran").exists()


def test_another_file_of_that_name_is_not_run(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SOURCE + "\n")
    assert "is another file than the recipe's" in refused(recipe(SOURCE), tmp_path)
    assert not (tmp_path / "ran").exists()


def test_without_the_file_it_is_said_who_has_to_put_it_there(tmp_path: Path) -> None:
    assert f"{tmp_path / 'tiny.py'} cannot be read" in refused(recipe(SOURCE), tmp_path)
    assert "no folder here to find tiny.py in" in refused(recipe(SOURCE), None)


@pytest.mark.parametrize(
    ("source", "name", "says"),
    [
        (SOURCE, "Tidy", "no class or function 'Tidy'"),
        (SOURCE, "NUMBER", "no class or function 'NUMBER'"),
        ("import nowhere_to_be_found", "Tiny", "does not run: ModuleNotFoundError"),
        ("def Tiny(:", "Tiny", "does not run: SyntaxError"),
    ],
)
def test_a_file_that_is_no_network_is_refused_in_words(tmp_path: Path, source: str, name: str, says: str) -> None:
    (tmp_path / "tiny.py").write_text(source)
    assert says in refused(recipe(source, name), tmp_path)


def test_options_that_the_network_has_not_are_named(tmp_path: Path) -> None:
    (tmp_path / "tiny.py").write_text(SOURCE)
    with pytest.raises(RecipeError, match="Tiny has the options width"):
        registry.build(recipe(SOURCE).overridden({"network.options": {"depth": 5}}), folder=tmp_path)


def block(language: str, beginning: str) -> str:
    blocks = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    return next(text for text in blocks if text.startswith(beginning))


def write_films(folder: Path) -> None:
    """Films with pneumonia have a bright patch, always on another place."""
    rng = np.random.default_rng(5)
    for label in ("normal", "pneumonia"):
        (folder / label).mkdir(parents=True)
        for number in range(20):
            film = rng.normal(90, 12, (32, 32))
            if label == "pneumonia":
                top, left = rng.integers(2, 18, 2)
                film[top : top + 12, left : left + 12] += 70
            Image.fromarray(film.clip(0, 255).astype(np.uint8)).save(folder / label / f"{label}-{number}.png")


def test_the_worked_example_is_whole_and_trains(tmp_path: Path) -> None:
    network, recipe_text = block("python", '"""A small network'), block("toml", "name")
    digest = hashlib.sha256(network.encode()).hexdigest()
    assert f'file_sha256 = "{digest}"' in recipe_text, (
        "docs/own-networks.md: the digest is not that of the network there"
    )
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "lung_net.py").write_text(network)
    (tmp_path / "lung.toml").write_text(recipe_text)
    write_films(tmp_path / "films")
    script = tmp_path / "try.py"
    script.write_text(f"import torch\ntorch.set_num_threads(1)\n{block('python', 'from pathlib')}")
    result = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    # Two convolutions with biases, two norms of four values a channel, and the head, at width 8.
    assert f"{8 * 9 + 8 + 8 * 16 * 9 + 16 + 4 * (8 + 16) + 16 * 2 + 2} values travel" in result.stdout
    losses = [float(value) for value in re.findall(r"loss (\d\.\d+)", result.stdout)]
    assert len(losses) == 5
    assert losses[-1] < 0.2 < losses[0], losses
