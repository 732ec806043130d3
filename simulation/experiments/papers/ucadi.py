"""UCADI: a 3D network on chest CTs of three hospitals, then of a fourth that joins; grades of severity; five folds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from participant.data.cases import Split
from simulation.datasets import FOURTH, Phantoms
from simulation.experiments.cohort import Cohort
from simulation.experiments.describe import (
    SAME_ROUNDS,
    Arm,
    Column,
    Experiment,
    Figure,
    Group,
    Measure,
    PaperTable,
    Reader,
    ScaleName,
    Sweep,
    plaintext_twins,
)
from simulation.experiments.measures import auc, macro_recall, macro_specificity, of_model, recall, specificity
from simulation.experiments.severities import GRADES, Severities
from simulation.phantoms import SITES

PAPER = "UCADI, medRxiv 2020, doi:10.1101/2020.05.10.20096073"
COVID = "covid-19"
CLASSES = ("healthy", COVID, "other-viral", "bacterial")
THREE = ("site-1", "site-2", "site-3")
NEW = "site-4"
FOLDS = 5

INITIAL, FEDERATED, ALONE = "initial", "federated", "alone"
JOINED, JOINED_DYNAMIC, JOINED_CENTRALISED = "joined", "joined-dynamic", "joined-centralised"
UNJOINED = "unjoined"  # the three go on for as many rounds without the fourth: what its joining adds is told from this
FIVE_FOLD = "five-fold"
SEVERITY, SEVERITY_FEDERATED = "severity", "severity-federated"

#: Cases of each class from each scanner, and severities of each grade.
CASES: Mapping[ScaleName, tuple[int, int]] = {"small": (16, 10), "results": (40, 30), "full": (150, 60)}
#: As the paper's hospitals: only the first has other viral pneumonia, the fourth is known by COVID-19 alone. It keeps
#: its other classes for testing, which the paper could not: what a model calls COVID-19 there that is none.
ABSENT = {"site-2": ("other-viral",), "site-3": ("other-viral",)}
UNTRAINED = {NEW: ("healthy", "other-viral", "bacterial")}
#: Phantoms cost little and training on them much, so that more of them are held out than a hospital could spare.
HALF: Mapping[Split, float] = {"train": 0.5, "validation": 0.12, "test": 0.38}
SHARES: Mapping[ScaleName, Mapping[Split, float]] = {
    "small": HALF,
    "results": {"train": 0.3, "validation": 0.1, "test": 0.6},
    "full": HALF,
}
EPOCHS: Mapping[ScaleName, tuple[int, ...]] = {"small": (1, 2), "results": (1, 2), "full": (1, 2, 4)}

#: Blocks dropped pay in the 200 rounds that they were published for; a falling rate makes the last of few rounds good.
SMALL = {
    "input.size": [12, 24, 24],
    "preprocessing.ct.subsets": 1,
    "network.options.stem_drop": 0.0,
    "network.options.final_drop": 0.0,
    "training.batch": 4,
    "training.lr": 0.03,
    "training.schedule": "cosine",
    "training.class_weights": "none",
}
SCALES: Mapping[ScaleName, Mapping[str, Any]] = {
    "small": {**SMALL, "federation.rounds": 8},
    "results": {**SMALL, "federation.rounds": 10},
    "full": {},
}
#: Local epochs of a round, and centralised ones, of the classes' networks: more make up for few cases.
USUAL_EPOCHS: Mapping[ScaleName, int] = {"small": 1, "results": 2, "full": 1}
JOINED_ROUNDS: Mapping[ScaleName, int] = {"small": 4, "results": 10, "full": 30}

#: Sensitivity and specificity of the paper's six radiologists for COVID-19, from its text; their majority, their mean.
READERS = (
    *(Reader(sensitivity, specificity) for sensitivity, specificity in zip(
        (0.875, 0.90, 0.55, 0.80, 0.68, 0.93), (0.92, 0.97, 0.89, 0.95, 0.88, 0.79), strict=True
    )),
    Reader(0.90, 0.956, "majority of the six"),
    Reader(0.79, 0.90, "mean of the six"),
)  # fmt: skip
AREAS = {"healthy": "0.98", COVID: "0.98", "other-viral": "0.88", "bacterial": "0.91"}
LEAD = (
    "Three hospitals train a 3D network on chest CTs of four classes (experiment I); then a fourth with another "
    "scanner joins and all go on from there (experiment II). No such CTs are public: these are phantoms, drawn with "
    "scanners that differ, and no figure here is clinical performance.",
    "As in the paper, only the first hospital has other viral pneumonia, and the fourth trains on COVID-19 alone. The "
    "paper could test only sensitivity there; phantoms of the other classes, held back from training, show what such "
    "training does to specificity.",
    "The paper's grades of severity have no published limits; here a grade is the share of the lungs that is diseased.",
)


def describe(scale: ScaleName) -> Experiment:
    """At `scale`: both experiments, severities, five folds, and the paper's open question about local epochs."""
    cases, graded = CASES[scale]
    hospitals = Phantoms("ct", cases, (*SITES, FOURTH), seed=1)
    return Experiment(
        name="ucadi",
        title="UCADI: three hospitals, and a fourth that joins",
        paper=PAPER,
        lead=LEAD,
        data={
            "hospitals": Cohort(hospitals, 4, "source", shares=SHARES[scale], absent=ABSENT, untrained=UNTRAINED),
            "severities": Cohort(Severities(graded), 3, "source", shares=SHARES[scale]),
        },
        arms=list(_arms(scale)),
        tables=[_areas(), _readers(), _joining(), _severities(), _folds()],
        groups=_groups(),
        sweeps=[
            Sweep(
                "local-epochs",
                "Local epochs of a round",
                "local epochs",
                {n: _of_epochs(scale, n) for n in EPOCHS[scale]},
                SAME_ROUNDS,
            )
        ],
    )


def _arms(scale: ScaleName) -> Iterator[Arm]:
    changes, initial = _changes(scale), _initial(scale)
    yield Arm(FIVE_FOLD, "ucadi-initial", "hospitals", "centralised", initial, THREE, folds=FOLDS, also=("validation",))
    yield Arm(INITIAL, "ucadi-initial", "hospitals", "centralised", initial, THREE)
    yield Arm(FEDERATED, "ucadi", "hospitals", changes=changes, members=THREE)
    if scale != "small":
        yield from plaintext_twins(Arm(FEDERATED, "ucadi", "hospitals", changes=changes, members=THREE))
    yield Arm(ALONE, "ucadi", "hospitals", "alone", changes, THREE)
    for number in EPOCHS[scale]:
        if number != USUAL_EPOCHS[scale]:
            more, once = {**changes, "training.local_epochs": number}, scale == "results"
            yield Arm(_of_epochs(scale, number), "ucadi", "hospitals", changes=more, members=THREE, once=once)
    joined = {**changes, "federation.rounds": JOINED_ROUNDS[scale]}
    dynamic = {**joined, "federation.weighting": "dynamic"}
    yield Arm(JOINED, "ucadi", "hospitals", changes=joined, start=FEDERATED)
    yield Arm(UNJOINED, "ucadi", "hospitals", changes=joined, members=THREE, start=FEDERATED)
    yield Arm(JOINED_DYNAMIC, "ucadi", "hospitals", changes=dynamic, start=FEDERATED)
    yield Arm(JOINED_CENTRALISED, "ucadi", "hospitals", "centralised", joined, start=FEDERATED)
    yield Arm(SEVERITY, "ucadi-severity", "severities", "centralised", SCALES[scale])
    yield Arm(SEVERITY_FEDERATED, "ucadi-severity", "severities", changes=SCALES[scale])


def _changes(scale: ScaleName) -> Mapping[str, Any]:
    return {**SCALES[scale], "training.local_epochs": USUAL_EPOCHS[scale]}


def _initial(scale: ScaleName) -> Mapping[str, Any]:
    return SCALES[scale] if scale == "full" else {**_changes(scale), "training.warmup_rounds": 0}


def _of_epochs(scale: ScaleName, number: int) -> str:
    return FEDERATED if number == USUAL_EPOCHS[scale] else f"{FEDERATED}-{number}-epochs"


def _groups() -> list[Group]:
    before_and_after = [JOINED, UNJOINED, FEDERATED, INITIAL]
    return [
        Group("one", "Experiment I", [FEDERATED, INITIAL, ALONE], INITIAL, THREE, readers={COVID: READERS}),
        Group("joining", "Experiment II", [JOINED, JOINED_DYNAMIC, JOINED_CENTRALISED], JOINED_CENTRALISED),
        Group("fourth", "At the fourth hospital", before_and_after, sites=(NEW,), curves=False),
        Group("others", "At the three others", before_and_after, sites=THREE, curves=False),
        Group("severity", "Severity", [SEVERITY_FEDERATED, SEVERITY], SEVERITY),
    ]


def _areas() -> PaperTable:
    rows = [
        (
            label,
            [
                Figure(INITIAL, auc(label, THREE), printed),
                Figure(FEDERATED, auc(label, THREE)),
                Figure(ALONE, of_model("site-1", auc(label, THREE))),
            ],
        )
        for label, printed in AREAS.items()
    ]
    columns = [Column(name, "area") for name in ("centralised", "federated", "first hospital alone")]
    note = "Held-out cases of the three hospitals. The paper shows federated and single curves without figures."
    return PaperTable("areas", "AUC of each class", "its text and figure 4", columns, rows, note)


def _covid(arm: str, sites: Sequence[str], printed: tuple[str, str] = ("", "")) -> list[Figure]:
    measures: tuple[Measure, Measure] = (recall(COVID, sites=sites), specificity(COVID, sites=sites))
    return [Figure(arm, measure, own) for measure, own in zip(measures, printed, strict=True)]


def _readers() -> PaperTable:
    rows = [
        ("initial model, centralised", _covid(INITIAL, THREE, ("97.5", "89.4"))),
        ("federated model", _covid(FEDERATED, THREE)),
        ("six radiologists, mean", _covid("", THREE, ("79", "90"))),
        ("six radiologists, majority", _covid("", THREE, ("90", "95.6"))),
    ]
    columns = [Column("sensitivity", "percent"), Column("specificity", "percent")]
    note = "Radiologists read the paper's CTs, not these."
    return PaperTable("covid", "COVID-19 against the rest, at three hospitals", "its text", columns, rows, note)


def _joining() -> PaperTable:
    printed = {INITIAL: ("72", "97"), JOINED: ("98", "similar")}
    names = {
        INITIAL: "before: initial model, centralised",
        FEDERATED: "before: federated",
        UNJOINED: "as long without the fourth",
        JOINED: "after: federated, equal weights",
        JOINED_DYNAMIC: "after: federated, dynamic weights",
        JOINED_CENTRALISED: "after: centralised, from the federated model",
    }
    rows = []
    for arm, name in names.items():
        new, others = printed.get(arm, ("", ""))
        rows.append((name, [*_covid(arm, (NEW,), (new, "")), *_covid(arm, THREE, (others, ""))]))
    columns = [
        Column(f"{where}, {what}", "percent")
        for where in ("fourth", "three others")
        for what in ("sensitivity", "specificity")
    ]
    note = (
        "COVID-19 against the rest, before and after the fourth hospital joins. In the paper five rounds were as good "
        "as centralised training at the fourth. What more rounds alone do is seen where the three went on without it. "
        "Dynamic weights go by cases as well, of which the fourth has few."
    )
    return PaperTable("joining", "A fourth hospital joins", "its experiment II", columns, rows, note)


def _severities() -> PaperTable:
    rows = [
        (grade, [Figure(SEVERITY, auc(grade), printed), Figure(SEVERITY_FEDERATED, auc(grade))])
        for grade, printed in zip(GRADES, ("0.92", "0.92", "0.95"), strict=True)
    ]
    columns = [Column("centralised", "area"), Column("federated", "area")]
    return PaperTable("severities", "AUC of each grade of severity", "its text", columns, rows)


def _folds() -> PaperTable:
    measures = (macro_recall("validation"), macro_specificity("validation"))
    figures = [Figure(FIVE_FOLD, measure, own) for measure, own in zip(measures, ("77.2", "91.9"), strict=True)]
    columns = [Column("sensitivity", "percent"), Column("specificity", "percent")]
    note = "Means over the four classes; intervals over the folds."
    return PaperTable(
        "five-fold", "Five-fold validation, centralised", "its text", columns, [("overall", figures)], note
    )
