"""What a recipe's network is built of: names, options, packages, checkpoints, and frozen values that never travel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from models import registry
from models.densenet3d import DenseNet3d
from models.flatten import study_layout
from models.recipe import Recipe, available, load_recipe
from models.recipe_problems import RecipeError

FROZEN = ["stem.*", "stages.0.*"]


def ucadi(**network: object) -> Recipe:
    return load_recipe("ucadi").overridden({f"network.{key}": value for key, value in network.items()})


def state(recipe: Recipe, seed: int, **files: Path) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return registry.build(recipe, **files).state_dict()


def split(names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Weights that are frozen here, and those that are not."""
    weights = [name for name in names if name.endswith("weight") and "head.5" not in name]
    frozen = [name for name in weights if name.startswith(("stem.0", "stages.0."))]
    return frozen, [name for name in weights if not name.startswith(("stem", "stages.0."))]


def checkpoint(folder: Path, tensors: dict[str, Tensor]) -> tuple[Path, str]:
    folder.mkdir(exist_ok=True)
    path = folder / "weights.safetensors"
    save_file(tensors, path)
    return path, hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", available())
def test_every_recipes_network_is_built_and_can_show_where_it_looked(name: str) -> None:
    recipe = load_recipe(name)
    network = registry.build(recipe)
    assert network.get_submodule(str(network.heat_map_layer))
    assert network.dimensions == len(recipe.input.size)
    frozen = {name for name, parameter in network.named_parameters() if not parameter.requires_grad}
    travelling = {tensor.name for tensor in study_layout(network, recipe).tensors}
    assert travelling
    assert not travelling & frozen
    assert bool(frozen) is bool(recipe.network.frozen)


def test_equal_seeds_give_equal_weights_and_others_others() -> None:
    first, again, other = (state(ucadi(), seed) for seed in (7, 7, 8))
    assert all(torch.equal(values, again[name]) for name, values in first.items())
    assert not torch.equal(first["stem.0.weight"], other["stem.0.weight"])


@pytest.mark.parametrize(
    ("changes", "key", "says"),
    [
        (
            {"network.name": "densenet3D"},
            "network.name",
            "perhaps you meant densenet3d or densenet121; installed here: covidnet,",
        ),
        ({"network.name": "vit"}, "network.name", "known are covidnet, densenet121, densenet3d,"),
        ({"network.options": {"depth": 4}}, "network.options", "has the options width, growth"),
        ({"network.options": {"stem_drop": 2}}, "network.options", "a share in"),
        ({"network.frozen": ["feature.*"]}, "network.frozen", "'feature.*'"),
        ({"network.name": "resnet18", "network.options": {}}, "input.size", "resnet18 takes 2 sides"),
    ],
)
def test_what_cannot_be_built_is_said_with_key_and_file(changes: dict[str, object], key: str, says: str) -> None:
    with pytest.raises(RecipeError) as caught:
        registry.build(load_recipe("ucadi").overridden(changes))
    assert [problem.key for problem in caught.value.problems] == [key]
    assert "ucadi.toml" in str(caught.value)
    assert says in str(caught.value)


class Own(nn.Module):
    def __init__(self, classes: int, channels: int, width: int = 2) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(width), nn.Linear(width, classes))


def test_an_installed_package_adds_networks_but_replaces_none(monkeypatch: pytest.MonkeyPatch) -> None:
    class Entry:
        def __init__(self, name: str) -> None:
            self.name = name

        def load(self) -> type[nn.Module]:
            return Own

    def entry_points(group: str) -> list[Entry]:
        return [Entry("own"), Entry("densenet3d")] if group == "pleura.networks" else []

    monkeypatch.setattr(registry, "entry_points", entry_points)
    assert registry.names() == sorted([*registry.BUILT_IN, "own"])
    assert isinstance(registry.build(ucadi(name="own", options={"width": 3})), Own)
    assert isinstance(registry.build(ucadi()), DenseNet3d)


def test_two_sites_have_the_same_frozen_values_and_their_own_others() -> None:
    recipe = ucadi(frozen=FROZEN)
    here, there = state(recipe, 1), state(recipe, 2)
    frozen, others = split(here)
    assert len(frozen) > 4 < len(others)
    assert all(torch.equal(here[name], there[name]) for name in frozen)
    convolutions = [name for name in others if here[name].ndim > 1]
    assert convolutions
    assert not any(torch.equal(here[name], there[name]) for name in convolutions)


def test_freezing_takes_nothing_from_torchs_generator() -> None:
    plain, recipe = state(ucadi(), 1), ucadi(frozen=FROZEN)
    after_plain = torch.rand(3)
    frozen_too = state(recipe, 1)
    assert torch.equal(torch.rand(3), after_plain)
    _, others = split(plain)
    assert all(torch.equal(plain[name], frozen_too[name]) for name in others)
    assert not torch.equal(plain["stem.0.weight"], frozen_too["stem.0.weight"])


def test_another_recipe_has_other_frozen_values() -> None:
    recipe = ucadi(frozen=FROZEN)
    other = recipe.overridden({"training.batch": 34})
    assert not torch.equal(state(recipe, 1)["stem.0.weight"], state(other, 1)["stem.0.weight"])


def test_pretrained_weights_come_from_the_file_with_that_digest(tmp_path: Path) -> None:
    source = state(ucadi(), 5)
    path, digest = checkpoint(tmp_path / "checkpoints", source)
    recipe = ucadi(frozen=FROZEN, pretrained=digest)
    given, found = state(recipe, 1, pretrained=path), state(recipe, 2, folder=path.parent)
    for name, values in source.items():
        assert torch.equal(given[name], values)
        assert torch.equal(found[name], values)


@pytest.mark.parametrize("given", [True, False])
def test_another_file_is_refused(tmp_path: Path, given: bool) -> None:
    path, _ = checkpoint(tmp_path / "checkpoints", state(ucadi(), 5))
    recipe = ucadi(pretrained="0" * 64)
    with pytest.raises(RecipeError, match="the SHA-256 0000" if not given else "and the recipe names 0000") as caught:
        registry.build(recipe, **({"pretrained": path} if given else {"folder": path.parent}))
    assert [problem.key for problem in caught.value.problems] == ["network.pretrained"]


def test_without_the_file_or_without_its_digest_nothing_is_built(tmp_path: Path) -> None:
    path, digest = checkpoint(tmp_path, state(ucadi(), 5))
    with pytest.raises(RecipeError, match="no folder here to find the file in"):
        registry.build(ucadi(pretrained=digest))
    with pytest.raises(RecipeError, match="the recipe names no such file"):
        registry.build(ucadi(), pretrained=path)


def test_what_is_frozen_has_to_be_in_the_file(tmp_path: Path) -> None:
    tensors = {name: values for name, values in state(ucadi(), 5).items() if name != "stages.0.1.layers.2.weight"}
    _, digest = checkpoint(tmp_path, tensors)
    with pytest.raises(
        RecipeError, match=r"does not give stages\.0\.1\.layers\.2\.weight, which is frozen: it is not in"
    ):
        registry.build(ucadi(frozen=FROZEN, pretrained=digest), folder=tmp_path)
    assert registry.build(ucadi(frozen=["stem.*"], pretrained=digest), folder=tmp_path)
    changes = {"classes": ["a", "b"], "frozen": ["head.*"], "pretrained": digest}
    everything = load_recipe("ucadi-severity").overridden({f"network.{key}": value for key, value in changes.items()})
    with pytest.raises(
        RecipeError, match=r"head\.\d\.weight, which is frozen: it has the shape \[4, 120\] in the file"
    ):
        registry.build(everything, folder=tmp_path)
