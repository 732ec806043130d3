"""Experiments run: cohorts, units that need each other, units that are done, and the whole way to a report."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from fnmatch import fnmatchcase
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file
from typer.testing import CliRunner

from models.flatten import read_model, study_layout
from models.recipe_problems import RecipeError
from models.registry import build
from participant.data.cases import Split
from participant.data.errors import DataError
from simulation.cli import app
from simulation.datasets import CtShift, Phantoms
from simulation.experiments.cohort import PANEL, SHEET, Cohort, Sources, settle
from simulation.experiments.describe import (
    Arm,
    Column,
    Experiment,
    Figure,
    Group,
    PaperTable,
    ScaleName,
    plaintext_twin,
)
from simulation.experiments.facts import command_of
from simulation.experiments.federating import as_sites, contributors_of
from simulation.experiments.main import run_experiment
from simulation.experiments.measures import accuracy
from simulation.experiments.papers import EXPERIMENTS
from simulation.experiments.progress import Bars
from simulation.experiments.results import RESULT, Point, read_result
from simulation.experiments.runner import (
    Cohorts,
    Settings,
    arms_of,
    numbers,
    recipe_of,
    results_of,
    run_units,
    steps_missing,
    task_of,
    waves,
)
from simulation.experiments.severities import GRADES, LIMITS, Severities, grade_of, severity_dataset
from simulation.experiments.training import first_of, train_unit
from simulation.phantoms import SITES, Difficulty, ct_phantom
from simulation.report import Timing

pytestmark = pytest.mark.timeout(900)  # six trainings in two processes, on a machine that may have other work

CLASSES = ("normal", "pneumonia")
FILMS = Phantoms("xray", cases=5, scanners=SITES, matrix=32)
HEAD = ("head.*",)
TINY = {"input.size": [32, 32], "training.batch": 4, "federation.rounds": 2, "training.precision": "32"}


def tiny() -> Experiment:
    frozen = {**TINY, "network.frozen": ["features.*"]}
    arms = [
        Arm("federated", "intermittent-cnn", "films", changes=TINY, also=("training",)),
        plaintext_twin(Arm("federated", "intermittent-cnn", "films", changes=TINY)),
        Arm("centralised", "intermittent-cnn", "films", "centralised", TINY, without=HEAD),
        Arm("alone", "intermittent-cnn", "films", "alone", TINY, members=("site-1", "site-2")),
        Arm("joined", "intermittent-cnn", "films", changes=TINY, start="federated", arrivals={"site-3": 2}),
        Arm("frozen", "intermittent-cnn", "films", changes=frozen, checkpoint="centralised"),
    ]
    rows = [(arm.name, [Figure(arm.name, accuracy(), "90")]) for arm in arms]
    shares: dict[Split, float] = {"train": 0.6, "validation": 0.2, "test": 0.2}
    cohort = Cohort(FILMS, 3, "source", names={"covid-19": "pneumonia"}, shares=shares)
    return Experiment(
        name="tiny",
        title="Tiny",
        paper="None",
        lead=("A test.",),
        data={"films": cohort},
        arms=arms,
        tables=[PaperTable("accuracy", "Accuracy", "nowhere", [Column("accuracy", "percent")], rows)],
        groups=[Group("all", "All", ["federated", "centralised", "alone"], "centralised")],
    )


class Silent:
    def unit(self, name: str, done: int, total: int) -> None:
        assert done <= total

    def beside(self, what: str, done: int, total: int) -> None:
        assert done <= total


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = Settings(None, tmp_path_factory.mktemp("experiment"), seeds=1)
    assert steps_missing(tiny(), settings) == 3 + 3 + 3 + 5 + 3 + 3
    run_experiment(tiny(), settings, "small", Console(quiet=True))
    return settings


def test_every_arm_leaves_its_result(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    assert {arm: list(units[0].models) for arm, units in results.items()} == {
        "federated": ["federated"],
        "federated-plaintext": ["federated-plaintext"],
        "centralised": ["centralised"],
        "alone": ["site-1", "site-2"],
        "joined": ["joined"],
        "frozen": ["frozen"],
    }
    for arm, (unit,) in results.items():
        assert [point.round for point in unit.curve] == [0, 1, 2], arm
        for model in unit.models.values():
            assert set(model.test.sites) == {"site-1", "site-2", "site-3"}
            assert [found.label for found in model.heat_maps] == list(CLASSES)
            assert model.heat_maps[0].image.shape == (32, 32)
    federated = results["federated"][0]
    assert federated.model.training is not None
    assert {site: len(sent) for site, sent in federated.upload_bytes.items()} == dict.fromkeys(federated.cases, 3)
    assert federated.seconds["as sites"] < federated.seconds["wall"]
    frozen = results["frozen"][0]
    assert frozen.parameters < federated.parameters
    assert steps_missing(tiny(), finished) == 0


def test_arms_are_tried_on_the_same_cases(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    first = results["federated"][0].model
    for (unit,) in results.values():
        for model in unit.models.values():
            np.testing.assert_array_equal(model.test.patients, first.test.patients)
            assert [found.case for found in model.heat_maps] == [found.case for found in first.heat_maps]


def test_encryption_costs_next_to_nothing(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    sealed, plain = (results[arm][0].model.test.probabilities for arm in ("federated", "federated-plaintext"))
    np.testing.assert_allclose(sealed, plain, atol=0.02)
    assert not any(results["federated-plaintext"][0].upload_bytes.values())


def test_an_arm_goes_on_from_another_ones_model(finished: Settings) -> None:
    experiment = tiny()
    task = task_of(experiment, finished, experiment.arm("joined"), 1, Cohorts(experiment, finished, Silent()))
    end = read_model(finished.unit("federated", 1) / "model.safetensors")
    np.testing.assert_array_equal(first_of(task).vector, end.vector)


def test_an_arm_takes_anothers_weights_without_its_head(finished: Settings) -> None:
    experiment = tiny()
    task = task_of(experiment, finished, experiment.arm("frozen"), 1, Cohorts(experiment, finished, Silent()))
    assert task.checkpoint == finished.unit("centralised", 1) / "weights.safetensors"
    handed = load_file(task.checkpoint)
    given = read_model(finished.unit("centralised", 1) / "model.safetensors")
    kept = {t.name: given.vector[place].reshape(t.shape) for t, place in given.layout.slices()}
    assert {name for name in kept if name not in handed} == {name for name in kept if fnmatchcase(name, *HEAD)}
    for name, values in handed.items():
        np.testing.assert_array_equal(values, kept[name])
    first = first_of(task)
    for tensor, place in first.layout.slices():
        if tensor.kind == "parameter" and len(tensor.shape) > 1:  # what is trained there is the head alone
            assert not np.array_equal(first.vector[place], kept[tensor.name].ravel())


@pytest.mark.parametrize("name", ["chexnet-transfer", "vgg16-transfer"])
def test_pretraining_hands_on_all_but_its_head(name: str) -> None:
    experiment = EXPERIMENTS[name]("small")
    arm = experiment.arm("pretraining")
    layout = study_layout(build(recipe_of(arm)), recipe_of(arm))
    left_out = [t.name for t in layout.tensors if any(fnmatchcase(t.name, pattern) for pattern in arm.without)]
    assert left_out
    assert not any(tensor.startswith("features.") for tensor in left_out)
    others = [t.name for t in layout.tensors if t.name not in left_out]
    assert all(tensor.startswith("features.") for tensor in others)


def test_no_hospitals_weight_is_capped_by_another_division(tmp_path: Path) -> None:
    changes = {**TINY, "federation.n_max": 3, "federation.weighting": "samples"}
    arms = [
        Arm("samples", "intermittent-cnn", "films", changes=changes),
        Arm("equal", "intermittent-cnn", "films", changes={**changes, "federation.weighting": "equal"}),
        Arm("pooled", "intermittent-cnn", "films", "centralised", changes),
    ]
    experiment = replace(tiny(), arms=arms, data={"films": replace(tiny().data["films"], division="quantity:4")})
    settings = Settings(None, tmp_path, 1)
    cohorts = Cohorts(experiment, settings, Silent())
    tasks = [task_of(experiment, settings, arm, 1, cohorts) for arm in arms]
    cases = [len([r for r in rows_of(h.data) if r["split"] == "train"]) for h in tasks[0].hospitals]
    assert max(cases) > 3 * min(cases)
    assert [task.recipe.federation.n_max for task in tasks] == [max(cases), 3, 3]
    roomy = replace(arms[0], changes={**changes, "federation.n_max": 1000})
    assert task_of(experiment, settings, roomy, 1, cohorts).recipe.federation.n_max == 1000


def test_what_stays_at_sites_cannot_be_tried(finished: Settings, tmp_path: Path) -> None:
    experiment = tiny()
    task = task_of(experiment, finished, experiment.arm("federated"), 1, Cohorts(experiment, finished, Silent()))
    local = task.recipe.overridden({"network.local": ["features.1.*"]})
    with pytest.raises(RecipeError, match=r"network\.local.*never part of it"):
        train_unit(replace(task, recipe=local, folder=tmp_path), lambda: None)


def test_the_folder_that_is_shared_holds_no_work(finished: Settings) -> None:
    report = finished.out / "report"
    assert {path.name for path in report.iterdir()} == {
        "report.html",
        "report.md",
        "tables.md",
        "tables",
        "pictures",
    }
    text = (report / "report.md").read_text()
    assert "pleura-simulate experiment tiny" in text
    assert str(finished.out) not in text
    assert not list(finished.unit("federated", 1).glob("federation"))


def test_what_is_done_is_not_done_again_and_what_is_not_is(finished: Settings) -> None:
    kept = finished.unit("federated", 1) / RESULT
    gone = finished.unit("centralised", 1) / RESULT
    before, old = kept.stat().st_mtime_ns, json.loads(gone.read_text())
    gone.unlink()
    run_units(tiny(), finished, Silent())
    assert kept.stat().st_mtime_ns == before
    again = json.loads(gone.read_text())
    assert again["curve"] == old["curve"]  # the same seed gives the same training


def test_a_unit_of_other_settings_is_not_taken_for_this_one(finished: Settings) -> None:
    experiment = tiny()
    changed = replace(experiment.arms[1], changes={**TINY, "training.lr": 0.5})
    with pytest.raises(FileExistsError, match="other settings"):
        run_units(replace(experiment, arms=[changed]), finished, Silent())


def test_a_unit_that_fails_leaves_the_others(finished: Settings) -> None:
    experiment = tiny()
    hopeless = {**TINY, "network.frozen": ["no-such-layer.*"]}
    broken = Arm("broken", "intermittent-cnn", "films", "centralised", hopeless)
    arms = [broken, Arm("after", "intermittent-cnn", "films", changes=TINY, start="broken"), *experiment.arms]
    failed = run_units(replace(experiment, arms=arms), finished, Silent())
    assert set(failed) == {"broken, seed 1", "after, seed 1"}
    assert "no-such-layer" in failed["broken, seed 1"]
    assert "needs" in failed["after, seed 1"]


def test_arms_come_after_those_that_they_need() -> None:
    assert [[arm.name for arm in wave] for wave in waves(tiny().arms)] == [
        ["federated", "centralised", "alone"],
        ["federated-plaintext", "joined", "frozen"],
    ]
    circle = [Arm("a", "ucadi", "d", start="b"), Arm("b", "ucadi", "d", start="a")]
    with pytest.raises(ValueError, match="need each other"):
        list(waves(circle))


def test_given_weights_replace_the_pretraining(tmp_path: Path) -> None:
    settings = Settings(None, tmp_path, 1, checkpoint=tmp_path / "chexnet.pth")
    experiment = EXPERIMENTS["chexnet-transfer"]("small")
    assert "pretraining" in {arm.name for arm in experiment.arms}
    assert "pretraining" not in {arm.name for arm in arms_of(experiment, settings)}


def test_how_often_an_arm_is_repeated() -> None:
    arm = Arm("a", "ucadi", "d")
    assert numbers(arm, 3) == [1, 2, 3]
    assert numbers(replace(arm, once=True), 3) == [1]
    assert numbers(replace(arm, folds=5), 3) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("name", EXPERIMENTS)
@pytest.mark.parametrize("scale", ["small", "results", "full"])
def test_the_papers_experiments_hang_together(name: str, scale: str) -> None:
    experiment = EXPERIMENTS[name](scale)  # type: ignore[arg-type]
    arms = {arm.name: arm for arm in experiment.arms}
    assert len(arms) == len(experiment.arms)
    for arm in arms.values():
        recipe = recipe_of(arm)  # raises where a key or value does not fit
        assert arm.data in experiment.data
        assert set(arm.needs) <= set(arms)
        if arm.kind == "federated":
            sites = len(arm.members) or experiment.data[arm.data].sites
            assert round(sites * recipe.federation.fraction) >= recipe.federation.minimum_contributors
            assert arm.folds is None
    figures = [cell for table in experiment.tables for _, row in table.rows for cell in row if cell]
    named = {cell.arm for cell in figures} | {cell.against for cell in figures}
    named |= {arm for group in experiment.groups for arm in (*group.arms, group.control or "")}
    named |= {arm for sweep in experiment.sweeps for arm in sweep.arms.values()}
    assert named - {""} <= set(arms)
    for table in experiment.tables:
        assert all(len(row) == len(table.columns) for _, row in table.rows), table.key
    for parts in (experiment.tables, experiment.groups, experiment.sweeps):
        keys = [part.key for part in parts]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize(("scale", "epochs", "words"), [
    ("small", (1, 1, 1), "one epoch everywhere"),
    ("results", (1, 3, 3), "centralised one epoch of all films, federated three epochs"),
    ("full", (3, 3, 3), "three epochs everywhere"),
])  # fmt: skip
def test_fl_cxr_says_what_a_round_is(scale: ScaleName, epochs: tuple[int, ...], words: str) -> None:
    experiment = EXPERIMENTS["fl-cxr"](scale)
    arms = [experiment.arm(f"resnet18-{kind}") for kind in ("centralised", "federated", "alone")]
    assert tuple(recipe_of(arm).training.local_epochs for arm in arms) == epochs
    assert words in experiment.lead[-1]


def test_at_full_scale_recipes_are_as_published() -> None:
    for name, describe in EXPERIMENTS.items():
        for arm in describe("full").arms:
            assert not {"input.size", "training.lr"} & set(arm.changes) or arm.name.startswith("rate-"), (
                name,
                arm.name,
            )


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_a_cohort_is_divided_with_one_test_set_for_all_divisions(tmp_path: Path) -> None:
    cohort = Cohort(FILMS, 2, names={"covid-19": "pneumonia"})
    tests, sources = [], Sources(None, tmp_path / "drawn")
    for sites in (2, 4):
        folder = tmp_path / str(sites)
        hospitals = settle(replace(cohort, sites=sites), CLASSES, sources, folder, seed=3)
        rows = [row for hospital in hospitals for row in rows_of(hospital.data)]
        assert len(rows) == 5 * 3 * 3
        tests.append({row["patient"] for row in rows if row["split"] == "test"})
        assert json.loads((folder / SHEET).read_text())["tables"][0]["title"] == "Data distribution"
    assert tests[0] == tests[1]


def test_a_hospital_without_a_class_and_one_that_only_tests_it(tmp_path: Path) -> None:
    cohort = Cohort(FILMS, 3, "source", names={"covid-19": "pneumonia"})
    cohort = replace(cohort, absent={"site-2": ["normal"]}, untrained={"site-3": ["pneumonia"]})
    hospitals = settle(cohort, CLASSES, Sources(None, tmp_path / "drawn"), tmp_path / "hospitals", seed=1)
    first, second, third = (rows_of(hospital.data) for hospital in hospitals)
    assert {row["label"] for row in first} == set(CLASSES)
    assert {row["label"] for row in second} == {"pneumonia"}
    assert {row["split"] for row in third if row["label"] == "pneumonia"} == {"test"}
    assert {"train", "test"} <= {row["split"] for row in third if row["label"] == "normal"}


def test_a_cohort_of_nothing_is_explained(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere"):
        settle(Cohort("xray-3class"), CLASSES, Sources(tmp_path / "nowhere", tmp_path), tmp_path / "hospitals", seed=1)


def test_marks_are_painted_over_where_a_cohort_wants_it(tmp_path: Path) -> None:
    folder = tmp_path / "sets" / "films" / "normal"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    for number in range(4):
        film = (100 + 20 * rng.random((256, 256))).astype(np.uint8)
        Image.fromarray(film).save(folder / f"P{number}.png")
        film[14:34, 14:20] = film[28:34, 14:30] = 255  # an L in the corner
        Image.fromarray(film).save(folder / f"Q{number}.png")
    sources = Sources(tmp_path / "sets", tmp_path / "drawn")
    plain, clean = sources.open("films"), sources.open("films", inpaint=True)
    changed = {row.patient for row in clean.rows} & {
        after.patient for before, after in zip(plain.rows, clean.rows, strict=True) if before.path != after.path
    }
    assert changed == {f"Q{number}" for number in range(4)}
    assert (tmp_path / "drawn" / PANEL).exists()


def test_shifts_are_for_their_modality(tmp_path: Path) -> None:
    cohort = Cohort(FILMS, 2, names={"covid-19": "pneumonia"}, shifts={"site-1": CtShift(offset=20)})
    with pytest.raises(ValueError, match="modality"):
        settle(cohort, CLASSES, Sources(None, tmp_path / "drawn"), tmp_path / "hospitals", seed=1)


def test_grades_of_severity_are_shares_of_the_lungs(tmp_path: Path) -> None:
    dataset = severity_dataset(tmp_path, Severities(cases=2))
    assert dataset.count_by_class() == dict.fromkeys(GRADES, 2 * len(SITES))
    assert severity_dataset(tmp_path, Severities(cases=2)).rows == dataset.rows
    phantom = ct_phantom("covid-19", SITES[0], 7, Difficulty(0.5))
    share = phantom.lesions.sum() / phantom.lungs.sum()
    assert grade_of(phantom) == GRADES[sum(share >= limit for limit in LIMITS)]


def test_every_arm_is_judged_on_all_members_validation_cases(finished: Settings) -> None:
    curves = {arm: units[0].curve for arm, units in results_of(tiny(), finished).items()}
    assert curves["federated"][0] == curves["centralised"][0]  # the same first model
    # In its first round site-3 has not joined yet, and the federation itself counts two sites' cases.
    assert replace_round(curves["joined"][0], 2) == curves["federated"][2]


def replace_round(point: Point, number: int) -> Point:
    return point.model_copy(update={"round": number})


def test_who_took_part_in_each_completed_attempt() -> None:
    def row(number: int, state: str = "complete", carried: tuple[str, ...] = ()) -> dict[str, object]:
        return {"round": number, "state": state, "contributors": ["a", "b", "c"], "carried": list(carried)}

    history = [row(1), row(2, "failed"), row(3, carried=("b",)), row(2)]
    assert contributors_of(history) == [["a", "b", "c"], ["a", "b", "c"], ["a", "c"]]


def test_a_twin_asks_whom_its_original_asked(finished: Settings) -> None:
    results = results_of(tiny(), finished)
    own, twin = results["federated"][0], results["federated-plaintext"][0]
    assert own.contributors == twin.contributors == (("site-1", "site-2", "site-3"),) * 3
    assert set(twin.seconds) == {"train", "wall"}
    experiment = tiny()
    cohorts = Cohorts(experiment, finished, Silent())
    task = task_of(experiment, finished, experiment.arm("federated-plaintext"), 1, cohorts)
    assert task.original == finished.unit("federated", 1)


def test_one_set_does_not_stand_for_several(tmp_path: Path) -> None:
    (tmp_path / "normal").mkdir()
    experiment = EXPERIMENTS["chexnet-transfer"]("small")
    settings = Settings(tmp_path, tmp_path / "run", 1)
    with pytest.raises(DataError, match=r"xray-2class, xray-3class"):
        Cohorts(experiment, settings, Silent())
    Cohorts(experiment, replace(settings, checkpoint=tmp_path / "chexnet.pth"), Silent())  # no pretraining, one set
    for name in ("xray-2class", "xray-3class"):
        (tmp_path / name).mkdir()
    Cohorts(experiment, settings, Silent())


def test_sites_on_machines_of_their_own_wait_for_the_slowest() -> None:
    def timing(number: int, train: float, seal: float, opened: float | None) -> Timing:
        return Timing(study="s", round=number, attempt=1, train_seconds=train, seal_seconds=seal, open_seconds=opened)

    def row(number: int) -> dict[str, object]:
        return {"round": number, "attempt": 1, "state": "complete", "seconds": {"add": 0.5, "open": None}}

    timings = [timing(1, 4, 1, None), timing(1, 2, 1, 2), timing(2, 3, 1, 1), timing(9, 99, 0, 0)]
    assert as_sites([row(1), row(2)], timings) == (5 + 2 + 0.5) + (4 + 1 + 0.5)


def test_a_result_without_the_unit_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path / "nothing") is None


def test_the_command_explains_what_is_missing(tmp_path: Path) -> None:
    where = ["--data", str(tmp_path / "nowhere"), "--out", str(tmp_path / "run")]
    told = CliRunner().invoke(app, ["experiment", "fl-cxr", *where])
    assert told.exit_code == 1
    assert "failed:" in told.output
    assert "nowhere" in told.output.replace("\n", "")


def test_films_are_divided_as_wished(tmp_path: Path) -> None:
    own, wished = EXPERIMENTS["fl-cxr"]("small"), EXPERIMENTS["fl-cxr"]("small").divided("dirichlet:0.5")
    assert [cohort.division for cohort in wished.data.values()] == ["dirichlet:0.5"] * len(own.data)
    settings = Settings(None, tmp_path, 1)
    assert "--division dirichlet:0.5" in command_of(wished, settings, "small", None)
    assert "--division" not in command_of(own, settings, "small", None)


@pytest.mark.parametrize(("name", "division", "words"), [
    ("fl-cxr", "by-moon", "no way of dividing cases is called 'by-moon'"),
    ("ucadi", "iid", "hospitals of ucadi are its scanners"),
])  # fmt: skip
def test_a_division_that_cannot_be_is_explained(tmp_path: Path, name: str, division: str, words: str) -> None:
    told = CliRunner().invoke(app, ["experiment", name, "--division", division, "--out", str(tmp_path / "run")])
    assert told.exit_code == 2
    assert words in " ".join(told.output.replace("│", " ").split())


def test_one_bar_counts_the_steps_of_all_units_and_each_unit_ends_with_a_line() -> None:
    console = Console(record=True, width=100, file=io.StringIO())
    with Bars(console, total=6) as bars:
        bars.beside("drawing phantoms", 1, 2)
        bars.beside("drawing phantoms", 2, 2)
        for done in (1, 1, 2, 3):
            bars.unit("a, seed 1", done, 3)
        bars.unit("b, seed 1", 1, 3)
        assert (bars.done, bars.shown) == (4, ["b, seed 1"])
    text = console.export_text()
    assert text.count("a, seed 1: done") == 1
    assert "b, seed 1: done" not in text
