"""An experiment of six arms on a few drawn films, small enough to be run whole."""

from __future__ import annotations

import csv
from pathlib import Path

from participant.data.cases import Split
from simulation.datasets import Phantoms
from simulation.experiments.cohort import Cohort
from simulation.experiments.describe import Arm, Column, Experiment, Figure, Group, PaperTable, plaintext_twins
from simulation.experiments.measures import accuracy
from simulation.phantoms import SITES

CLASSES = ("normal", "pneumonia")
FILMS = Phantoms("xray", cases=5, scanners=SITES, matrix=32)
HEAD = ("head.*",)
TINY = {"input.size": [32, 32], "training.batch": 4, "federation.rounds": 2, "training.precision": "32"}


def tiny() -> Experiment:
    frozen = {**TINY, "network.frozen": ["features.*"]}
    arms = [
        Arm("federated", "intermittent-cnn", "films", changes=TINY, also=("training",)),
        *plaintext_twins(Arm("federated", "intermittent-cnn", "films", changes=TINY)),
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


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "labels.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))
