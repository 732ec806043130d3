"""Results of an experiment that nobody ran: what the report's tests show, on screen and in files."""

from __future__ import annotations

import numpy as np

from simulation.experiments.describe import Arm, Column, Experiment, Figure, Group, PaperTable, Sweep
from simulation.experiments.measures import accuracy, auc, recall
from simulation.experiments.results import Examined, HeatMap, Point, Predictions, UnitResult

CLASSES = ("normal", "pneumonia", "covid-19")
SITES = ("site-1", "site-2")
SKILL = {"federated": 0.9, "centralised": 1.1, "alone": 0.5, "federated-3-epochs": 1.0}
#: As a cohort's data.json.
SHEET = {
    "words": "made-up: 6 cases of 6 patients\nLicence: none",
    "warning": "Nobody was ill.",
    "tables": [
        {
            "title": "Data distribution",
            "header": ["site", "split", *CLASSES, "cases", "patients"],
            "rows": [["site-1", "train", 40, 30, 12, 82, 80], ["site-2", "train", 20, 60, 2, 82, 81]],
        },
        {"title": "Left out", "header": ["a case that", "class", "cases", "patients"], "rows": []},
    ],
}


def predictions(skill: float, seed: int, cases: int = 90) -> Predictions:
    """The larger `skill`, the likelier the true class. Two cases a patient."""
    rng = np.random.default_rng(seed)
    labels = np.arange(cases) // 2 % 3
    raw = rng.random((cases, 3)) + skill * np.eye(3)[labels]
    numbers = np.arange(cases) // 2
    patients = np.array([f"P{number:03}" for number in numbers])
    sites = np.array(SITES)[numbers // 3 % 2]
    return Predictions((raw / raw.sum(axis=1, keepdims=True)).astype(np.float32), labels, patients, sites)


def heat_maps(skill: float) -> tuple[HeatMap, ...]:
    """A bright spot at another place for each class."""
    rows, columns = np.mgrid[:32, :32]
    maps = []
    for number, label in enumerate(CLASSES):
        spot = np.exp(-((rows - 8 - 7 * number) ** 2 + (columns - 16) ** 2) / 40).astype(np.float32)
        lungs = (0.3 + 0.5 * np.cos(columns / 5) ** 2 * (rows > 4)).astype(np.float32)
        maps.append(HeatMap(label, f"P00{number}", 0.5 + skill / 4, lungs, spot))
    return tuple(maps)


def unit(arm: str, seed: int) -> UnitResult:
    skill = SKILL[arm]
    curve = tuple(
        Point(
            round=number,
            loss=1.1 / (1 + skill * number / 3) + seed / 100,
            accuracy=1 - 0.6 / (1 + skill * number),
            auc=1 - 0.5 / (1 + skill * number) - seed / 100,
            training_loss=None if arm == "federated" else 1.0 / (1 + number),
        )
        for number in range(9)
    )
    names = SITES if arm == "alone" else (arm,)
    models = {
        name: Examined(
            predictions(skill, 100 * seed + n), predictions(skill + 0.3, 7 + seed), heat_maps=heat_maps(skill)
        )
        for n, name in enumerate(names)
    }
    cases = {
        site: {"training": {"normal": 40, "pneumonia": 30, "covid-19": 12}, "test": {"normal": 15, "pneumonia": 15}}
        for site in SITES
    }
    sent = {site: [46_000_000 + seed] * 8 for site in SITES} if arm.startswith("federated") else {}
    seconds = {"train": 120.0 + seed, "wall": 150.0 + seed} | ({"seal": 1.5, "as sites": 60.0} if sent else {})
    return UnitResult(
        arm, seed, CLASSES, models, curve, cases, seconds, sent, 11_178_051, 44_750_000, {"name": "fl-cxr-resnet18"}
    )


def units(seeds: int = 3) -> dict[str, list[UnitResult]]:
    return {arm: [unit(arm, seed) for seed in range(1, seeds + 1)] for arm in SKILL}


def experiment() -> Experiment:
    return Experiment(
        name="made-up",
        title="Made-up experiment",
        paper="Nobody et al.",
        lead=("Nothing of this was measured: it shows what a report looks like.",),
        data={},
        arms=(
            Arm("federated", "fl-cxr-resnet18", "films"),
            Arm("centralised", "fl-cxr-resnet18", "films", "centralised"),
            Arm("alone", "fl-cxr-resnet18", "films", "alone"),
            Arm("federated-3-epochs", "fl-cxr-resnet18", "films"),
        ),
        tables=(
            PaperTable(
                "accuracy",
                "Accuracy and AUC",
                "Tables 2 and 4",
                (Column("training cases", "percent"), Column("test cases", "percent"), Column("AUC, covid-19")),
                tuple(
                    (
                        arm,
                        (
                            Figure(arm, accuracy("training"), "96.15 ± 0.003"),
                            Figure(arm, accuracy(), "91.26 ± 0.014"),
                            Figure(arm, auc("covid-19")),
                        ),
                    )
                    for arm in ("federated", "centralised")
                ),
                "Its ± is as printed.",
            ),
            PaperTable(
                "recall", "Sensitivity", "text", (Column("federated", "percent"),),
                (("covid-19", (Figure("federated", recall("covid-19"), "66.32"),)), ("normal", (None,))),
            ),
        ),
        groups=(Group("main", "ResNet-18", ("federated", "centralised", "alone"), "centralised"),),
        sweeps=(Sweep("epochs", "Local epochs", "epochs a round", {1: "federated", 3: "federated-3-epochs"}),),
    )  # fmt: skip
