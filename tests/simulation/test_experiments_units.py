"""The units of an experiment before and after their training: order, repetitions, weights, attempts, seconds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_experiment import TINY, Silent, rows_of, tiny

from participant.data.errors import DataError
from simulation.experiments.describe import Arm
from simulation.experiments.federating import as_sites, contributors_of
from simulation.experiments.papers import EXPERIMENTS
from simulation.experiments.results import read_result
from simulation.experiments.runner import Cohorts, Settings, arms_of, numbers, task_of, waves
from simulation.report import Timing


def test_arms_come_after_those_that_they_need() -> None:
    assert [[arm.name for arm in wave] for wave in waves(tiny().arms)] == [
        ["federated", "centralised", "alone"],
        ["federated-plaintext", "federated-plaintext-last-bit", "joined", "frozen"],
    ]
    circle = [Arm("a", "ucadi", "d", start="b"), Arm("b", "ucadi", "d", start="a")]
    with pytest.raises(ValueError, match="need each other"):
        list(waves(circle))


def test_how_often_an_arm_is_repeated() -> None:
    arm = Arm("a", "ucadi", "d")
    assert numbers(arm, 3) == [1, 2, 3]
    assert numbers(replace(arm, once=True), 3) == [1]
    assert numbers(replace(arm, folds=5), 3) == [1, 2, 3, 4, 5]


def test_given_weights_replace_the_pretraining(tmp_path: Path) -> None:
    settings = Settings(None, tmp_path, 1, checkpoint=tmp_path / "chexnet.pth")
    experiment = EXPERIMENTS["chexnet-transfer"]("small")
    assert "pretraining" in {arm.name for arm in experiment.arms}
    assert "pretraining" not in {arm.name for arm in arms_of(experiment, settings)}


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


def test_who_took_part_in_each_completed_attempt() -> None:
    def row(number: int, state: str = "complete", carried: tuple[str, ...] = ()) -> dict[str, object]:
        return {"round": number, "state": state, "contributors": ["a", "b", "c"], "carried": list(carried)}

    history = [row(1), row(2, "failed"), row(3, carried=("b",)), row(2)]
    assert contributors_of(history) == [["a", "b", "c"], ["a", "b", "c"], ["a", "c"]]


def test_sites_on_machines_of_their_own_wait_for_the_slowest() -> None:
    def timing(number: int, train: float, seal: float, opened: float | None) -> Timing:
        return Timing(study="s", round=number, attempt=1, train_seconds=train, seal_seconds=seal, open_seconds=opened)

    def row(number: int) -> dict[str, object]:
        return {"round": number, "attempt": 1, "state": "complete", "seconds": {"add": 0.5, "open": None}}

    timings = [timing(1, 4, 1, None), timing(1, 2, 1, 2), timing(2, 3, 1, 1), timing(9, 99, 0, 0)]
    assert as_sites([row(1), row(2)], timings) == (5 + 2 + 0.5) + (4 + 1 + 0.5)


def test_a_result_without_the_unit_is_none(tmp_path: Path) -> None:
    assert read_result(tmp_path / "nothing") is None
