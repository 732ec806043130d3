"""`evaluate --out` and `export` on the command line, against a coordinator and a study that has run."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_federation as tiny
import torch
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner, Result

sys.path.insert(0, str(Path(__file__).parents[1] / "participant"))

import small_volumes

from models.export import read_network
from models.flatten import load_vector, read_model, save_model
from models.registry import build
from participant.cli import app
from participant.settings import dump

CLASSES = ("front", "back")  # as many as the tiny trainer counts
RECIPE = small_volumes.recipe(
    network__classes=list(CLASSES),
    evaluation__bins=4,
    federation__rounds=2,
    federation__weighting="samples",
    federation__n_max=tiny.N_MAX,
)


@dataclass
class Finished:
    """A study that has run, and the hospital that types."""

    server: tiny.Server
    hospital: tiny.Hospital
    study: dict[str, Any]
    rows: list[dict[str, Any]]

    def run(self, *arguments: object, code: int = 0) -> str:
        result: Result = CliRunner().invoke(app, ["--home", str(self.hospital.home.path), *map(str, arguments)])
        assert result.exit_code == code, result.output
        return " ".join(result.output.split())


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Finished]:
    folder = tmp_path_factory.mktemp("files-out")
    vector, layout = small_volumes.first_model(RECIPE)
    save_model(folder / "first.safetensors", vector, layout, RECIPE)
    with tiny.serving(folder / "coordinator") as server:
        hospitals = [tiny.make_hospital(folder, server.url, server.invite(), n, scale=0.01) for n in (1, 2, 3)]
        study = str(server.create_study(folder / "first.safetensors", name="ct 1", expected_sites=3)["id"])
        for hospital in hospitals:
            hospital.start()
        tiny.wait_until(lambda: bool(server.study(study)["state"] == "finished"), "the study to finish")
        for hospital in hospitals:
            hospital.stop()
        home = hospitals[0].home
        data = small_volumes.write_site(folder / "data", (12, 12))
        home.config.write_text(dump(home.load_config().model_copy(update={"data": str(data)})))
        yield Finished(server, hospitals[0], server.study(study), server.rounds(study))


def test_a_report_of_the_test_split(finished: Finished, tmp_path: Path) -> None:
    sent = len(finished.hospital.events("sent"))
    said = finished.run("evaluate", "ct 1", "--out", tmp_path / "report", "--split", "test")
    assert "evaluation.html" in said
    assert len(finished.hospital.events("sent")) == sent
    value = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    assert (value["study"], value["split"], value["round"]) == ("ct 1", "test", 2)
    assert value["model"] == finished.study["model"]
    probabilities, labels = judged(finished)
    assert value["cases"] == value["patients"] == len(labels) >= 4
    area = roc_auc_score(labels, probabilities[:, 1])
    assert value["classes"][1]["auc"]["value"] == pytest.approx(area)
    assert f"{value['accuracy']['value']:.3f}" in said


def judged(finished: Finished) -> tuple[np.ndarray, np.ndarray]:
    """The newest model's probabilities of the test cases, by the trainer itself."""
    home = finished.hospital.home
    with finished.hospital.open() as site:
        path = site.models.fetch(site.client, finished.study["model"])
    config, saved = home.load_config(), read_model(path)
    trainer = small_volumes.site_trainer(RECIPE, Path(config.data), home.path / "again", config.seed)
    split = trainer.cases.test
    return trainer.probabilities(saved.vector, saved.layout, split, lambda *_: None), split.labels


def test_readers_stand_beside_the_model_and_their_faults_are_all_told(finished: Finished, tmp_path: Path) -> None:
    data = Path(finished.hospital.home.load_config().data)
    lines = [f"{path.relative_to(data)},{path.parent.name}" for path in sorted(data.rglob("*.nii.gz"))]
    table = tmp_path / "readers.csv"
    table.write_text("reader,case,class\n" + "".join(f"A,{line}\n" for line in lines))
    command = ["evaluate", "ct 1", "--split", "test", "--readers", table, "--out"]
    finished.run(*command, tmp_path / "report")
    value = json.loads((tmp_path / "report" / "evaluation.json").read_text())
    (reader,) = value["classes"][0]["readers"]
    assert (reader["name"], reader["cases"], reader["sensitivity"]["value"]) == ("A", value["cases"], 1.0)
    assert (
        f"{24 - value['cases']} reads of cases that are in other splits"
        in (tmp_path / "report" / "evaluation.md").read_text()
    )
    table.write_text("reader,case,class\nA,nobody,front\nA,nobody,side\n")
    said = finished.run(*command, tmp_path / "other", code=1)
    assert "line 2: there is no case 'nobody'" in said
    assert "line 3: class 'side'" in said
    assert not (tmp_path / "other").exists()


def test_a_rounds_model_with_the_figures_that_the_coordinator_opened(finished: Finished, tmp_path: Path) -> None:
    finished.run("evaluate", "ct 1", "--round", 1, "--out", tmp_path / "report")
    said = finished.run(
        "export", "ct 1", "--round", 1, "--format", "safetensors", "--out", tmp_path / "files",
        "--evaluation", tmp_path / "report" / "evaluation.json",
    )  # fmt: skip
    assert "model-card.md" in said
    assert sorted(each.name for each in (tmp_path / "files").iterdir()) == [
        "ct-1-after-round-1.safetensors",
        "model-card.json",
        "model-card.md",
    ]
    card = json.loads((tmp_path / "files" / "model-card.json").read_text())
    first, second, _ = finished.rows
    assert card["model"]["sha256"] == first["model"]
    assert card["study"]["hospitals"] == ["site-1", "site-2", "site-3"]
    assert card["study"]["training_cases"] == 20 + 40 + 60
    measured = card["study"]["measured"]
    assert (measured["round"], measured["cases"]) == (2, 30), "the next round measured it"
    assert measured["accuracy"]["value"] == second["metrics"]["accuracy"]
    assert [measured["macro_auc"][end] for end in ("low", "high")] == second["metrics"]["intervals"]["macro_auc"]
    assert [each["round"] for each in card["study"]["rounds"]] == [row["round"] for row in finished.rows]
    assert card["evaluation_of_this_site"]["model"] == first["model"]
    check_is_model(tmp_path / "files" / "ct-1-after-round-1.safetensors", finished, first["model"])


def check_is_model(exported: Path, finished: Finished, digest: str) -> None:
    with finished.hospital.open() as site:
        saved = read_model(site.models.fetch(site.client, digest))
    torch.manual_seed(0)
    network = build(saved.recipe).eval()
    load_vector(network, saved.layout, saved.vector)
    found = read_network(exported).state_dict()
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(found[name], value, rtol=0, atol=0)


def test_the_newest_model_in_every_format(finished: Finished, tmp_path: Path) -> None:
    finished.run("export", "ct 1", "--out", tmp_path)
    stems = {each.suffix for each in tmp_path.iterdir() if each.stem == "ct-1-after-round-2"}
    assert stems == {".safetensors", ".pt2", ".onnx"}
    card = json.loads((tmp_path / "model-card.json").read_text())
    assert card["study"]["measured"]["round"] == finished.rows[-1]["round"], "by the evaluation at the end"
    assert card["evaluation_of_this_site"] is None, "this site's figures are its own unless it gives them"


def test_a_model_file_by_itself(finished: Finished, tmp_path: Path) -> None:
    first = finished.hospital.home.path.parent / "first.safetensors"
    arguments = ["--home", str(tmp_path / "none"), "export", "--model", str(first), "--out", str(tmp_path / "files")]
    result = CliRunner().invoke(app, [*arguments, "--format", "torch"])
    assert result.exit_code == 0, result.output
    card = (tmp_path / "files" / "model-card.md").read_text()
    assert "first.pt2" in card
    assert "Not measured yet" in card


def test_a_file_that_is_not_whole_by_itself_is_refused(tmp_path: Path) -> None:
    """Each site keeps its own norms (FedBN): without them the file would answer with fresh ones."""
    recipe = small_volumes.recipe(network__local=["stem.1.*"])
    save_model(tmp_path / "first.safetensors", *small_volumes.first_model(recipe), recipe)
    arguments = ["--home", str(tmp_path / "none"), "export", "--out", str(tmp_path / "files"), "--model"]
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "first.safetensors")])
    assert result.exit_code == 1
    assert "not whole without the tensors that each site keeps (stem.1.*)" in " ".join(result.output.split())
    assert not list((tmp_path / "files").iterdir())
    (tmp_path / "torn").write_bytes(b"torn")
    result = CliRunner().invoke(app, [*arguments, str(tmp_path / "torn")])
    assert (result.exit_code, "no safetensors file" in result.output) == (1, True)


def test_what_cannot_be_done_is_said(finished: Finished, tmp_path: Path) -> None:
    out = ["--out", tmp_path / "files"]
    assert "Name a study, or give a model file" in finished.run("export", *out, code=1)
    assert "--format is safetensors, torch, onnx, not tf" in finished.run("export", "x", "--format", "tf", *out, code=1)
    assert "no round 7 of ct 1 made a model; there is 0 to 2" in finished.run(
        "export", "ct 1", "--round", 7, *out, code=1
    )
    assert "say with --out" in finished.run("evaluate", "ct 1", "--split", "test", code=1)
    assert "validation or test, not all" in finished.run("evaluate", "ct 1", "--split", "all", *out, code=1)
    finished.run("evaluate", "ct 1", *out)
    evaluation = tmp_path / "files" / "evaluation.json"
    other = ["export", "ct 1", "--round", 0, "--evaluation", evaluation, "--out", tmp_path / "other"]
    assert "evaluate this one first" in finished.run(*other, code=1)
    evaluation.write_text("{}")
    assert "is no evaluation" in finished.run(*other, code=1)
    assert not (tmp_path / "other").exists()
