"""Ljung et al.: VGG-16 with its convolutions frozen or trained, on many films or on a balanced few."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulation.datasets import COVIDX_MINI
from simulation.datasets.sampling import Caps
from simulation.experiments.cohort import Cohort
from simulation.experiments.describe import (
    Arm,
    Column,
    Experiment,
    Figure,
    Group,
    Kind,
    PaperTable,
    ScaleName,
    plaintext_twins,
)
from simulation.experiments.measures import accuracy, precision, recall

PAPER = "Ljung, Dyremark, Kindbom and Taherifard 2020, Transfer Learning for COVID-19 Detection"
COVID = "covid-19"
SITES = 3
PRETRAINING = "pretraining"
#: The paper's experiments, its table 4: recipe, data, what it is.
EXPERIMENTS = {
    1: ("vgg16-transfer", "plus", "all films, convolutions frozen"),
    2: ("vgg16-transfer-all", "plus", "all films, all layers trained"),
    3: ("vgg16-transfer-mini", "mini", "balanced few, convolutions frozen"),
    4: ("vgg16-transfer-mini-all", "mini", "balanced few, all layers trained"),
}
#: Accuracy in percent, table 5; precision and recall of COVID-19 in percent, table 6 (of two experiments only).
ACCURACY = {1: "86.9 (83.5 in its text)", 2: "43.4", 3: "77.9", 4: "43.4"}
COVID_CLASS = {1: ("100.0", "22.6"), 3: ("75.7", "90.3")}

SCALES: Mapping[ScaleName, Mapping[str, Any]] = {
    "small": {"input.size": [32, 32], "training.lr": 1e-4, "federation.rounds": 3, "federation.n_max": 64},
    "results": {
        "input.size": [48, 48],
        "training.lr": 1e-4,
        "training.batch": 16,
        "federation.rounds": 6,
        "federation.n_max": 128,
    },
    "full": {},
}
PRETRAINING_CHANGES: Mapping[ScaleName, Mapping[str, Any]] = {
    "small": {"federation.rounds": 3},
    "results": {"federation.rounds": 8},
    "full": {},
}
CLASSES = ("normal", "pneumonia", COVID)
#: COVIDxMINI has 200, 200 and 152 films to train on. Of the smaller sets here the largest balanced part is taken.
MINI: Mapping[ScaleName, Caps] = {
    "small": {"train": dict.fromkeys(CLASSES, 24)},
    "results": {"train": dict.fromkeys(CLASSES, 60)},
    "full": COVIDX_MINI,
}
#: COVIDxPLUS is all there is.
PLUS: Mapping[ScaleName, Caps] = {
    "small": {"train": {"normal": 60, "pneumonia": 60, COVID: 24}},
    "results": {},
    "full": {},
}
PRETRAINING_CAPS: Mapping[ScaleName, Caps] = {
    "small": {"train": {"normal": 80, "pneumonia": 80}},
    "results": {},
    "full": {},
}
LEAD = (
    "VGG-16 with a new head, its convolutions frozen or trained with it, on all films or on a balanced few. The paper "
    "trains in one place; here three hospitals train too. What is frozen never travels.",
    "The paper starts from ImageNet's weights. Without such a file (--checkpoint) a substitute takes their place: the "
    "network is first trained on xray-2class (normal, pneumonia), which is far less than ImageNet.",
)

FEWER = '"All films" are but a part of them at this scale.'


def describe(scale: ScaleName) -> Experiment:
    """At `scale`: all four experiments, in one place and federated."""
    return Experiment(
        name="vgg16-transfer",
        title="VGG-16: how many layers to train",
        paper=PAPER,
        lead=(*LEAD, *([FEWER] if PLUS[scale] else [])),
        data={
            "pretraining": Cohort("xray-2class", caps=PRETRAINING_CAPS[scale]),
            "plus": Cohort("xray-3class", SITES, caps=PLUS[scale]),
            "mini": Cohort("xray-3class", SITES, caps=MINI[scale]),
        },
        arms=list(_arms(scale)),
        tables=[_accuracies(), _covid()],
        groups=[
            *(_group(number) for number in EXPERIMENTS),
            Group("frozen-plus", "All films: frozen or not", [_name(1, "centralised"), _name(2, "centralised")]),
            Group("frozen-mini", "Balanced few: frozen or not", [_name(3, "centralised"), _name(4, "centralised")]),
        ],
    )


def _arms(scale: ScaleName) -> Iterator[Arm]:
    weights = {"network.classes": ["normal", "pneumonia"], "training.class_weights": "none"}
    changes = {**SCALES[scale], **PRETRAINING_CHANGES[scale], **weights}
    yield Arm(PRETRAINING, "vgg16-transfer-all", "pretraining", "centralised", changes, once=True, without=("head.*",))
    for number, (recipe, data, _) in EXPERIMENTS.items():
        for kind in KINDS:
            arm = Arm(_name(number, kind), recipe, data, kind, SCALES[scale], checkpoint=PRETRAINING)
            yield arm
            if scale != "small" and (number, kind) == (3, "federated"):
                yield from plaintext_twins(arm)


KINDS: tuple[Kind, ...] = ("centralised", "federated")


def _name(number: int, kind: Kind) -> str:
    return f"experiment-{number}-{kind}"


def _group(number: int) -> Group:
    control = _name(number, "centralised")
    return Group(f"e{number}", f"Experiment {number}", [_name(number, "federated"), control], control)


def _accuracies() -> PaperTable:
    rows = [
        (
            f"{number}: {what}",
            [
                Figure(_name(number, "centralised"), accuracy(), ACCURACY[number]),
                Figure(_name(number, "federated"), accuracy()),
            ],
        )
        for number, (_, _, what) in EXPERIMENTS.items()
    ]
    columns = [Column("centralised, accuracy", "percent"), Column("federated, accuracy", "percent")]
    return PaperTable("accuracy", "Test accuracy of the four experiments", "its table 5", columns, rows)


def _covid() -> PaperTable:
    rows = []
    for number, (_, _, what) in EXPERIMENTS.items():
        printed = COVID_CLASS.get(number, ("", ""))
        measures = (precision(COVID), recall(COVID))
        centralised = [Figure(_name(number, "centralised"), m, p) for m, p in zip(measures, printed, strict=True)]
        rows.append((f"{number}: {what}", [*centralised, *(Figure(_name(number, "federated"), m) for m in measures)]))
    columns = [Column(f"{kind}, {name}", "percent") for kind in KINDS for name in ("precision", "recall")]
    note = "Where no film was called COVID-19 there is no precision. The paper prints experiments 1 and 3 only."
    return PaperTable("covid", "Precision and recall of COVID-19", "its table 6", columns, rows, note)
