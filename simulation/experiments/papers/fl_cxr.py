"""Yan et al.: four networks on chest films at five hospitals, two of them a round, against training in one place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulation.experiments.cohort import Cohort
from simulation.experiments.describe import (
    SAME_ROUNDS,
    Arm,
    Column,
    Experiment,
    Figure,
    Group,
    PaperTable,
    ScaleName,
    Sweep,
    plaintext_twins,
)
from simulation.experiments.measures import accuracy, recall
from simulation.experiments.results import Split

PAPER = "Yan et al. 2020, Experiments of Federated Learning for COVID-19 Chest X-ray Images"
CLASSES = ("normal", "pneumonia", "covid-19")
SITES = 5
#: Network: its name in the paper. The first is the one that sweeps and single hospitals are shown for.
NETWORKS = {
    "resnet18": "ResNet18",
    "covidnet": "COVID-Net",
    "mobilenetv2": "MobileNet_v2",
    "resnext50": "ResNeXt",
}
FIRST = next(iter(NETWORKS))
TRAINING: tuple[Split, ...] = ("training",)
EPOCHS = (1, 3, 5)  # local epochs of a round; the paper has 3

#: Accuracies in percent (training, testing) of tables 2 and 4, as printed.
FEDERATED = {
    "covidnet": ("92.40 ± 0.004", "89.17 ± 0.015"),
    "mobilenetv2": ("91.16 ± 0.005", "86.83 ± 0.017"),
    "resnet18": ("96.15 ± 0.003", "91.26 ± 0.014"),
    "resnext50": ("94.66 ± 0.004", "90.37 ± 0.015"),
}
CENTRALISED = {
    "covidnet": ("94.50 ± 0.004", "90.06 ± 0.015"),
    "mobilenetv2": ("94.10 ± 0.004", "88.98 ± 0.015"),
    "resnet18": ("98.06 ± 0.002", "91.07 ± 0.014"),
    "resnext50": ("97.66 ± 0.003", "91.26 ± 0.01"),
}
#: Accuracy of each class in percent, table 3: normal, pneumonia, COVID-19.
BY_CLASS = {
    "covidnet": ("96.47 ± 0.004", "88.24 ± 0.009", "51.04 ± 0.05"),
    "mobilenetv2": ("94.87 ± 0.005", "87.20 ± 0.009", "50.26 ± 0.05"),
    "resnet18": ("98.16 ± 0.003", "93.91 ± 0.006", "66.32 ± 0.047"),
    "resnext50": ("96.18 ± 0.004", "92.66 ± 0.007", "73.58 ± 0.044"),
}

#: What each scale changes in every recipe. The published rate is for 100 rounds of 15,000 films. `n_max` is near the
#: largest hospital's films, as it should be.
SCALES: Mapping[ScaleName, Mapping[str, Any]] = {
    "small": {
        "input.size": [32, 32],
        "training.lr": 1e-3,
        "training.schedule": "cosine",
        "training.local_epochs": 1,
        "federation.rounds": 8,
        "federation.n_max": 80,
    },
    "results": {
        "input.size": [64, 64],
        "training.lr": 5e-4,
        "training.schedule": "cosine",
        "federation.rounds": 10,
        "federation.n_max": 80,
    },
    "full": {},
}
#: In one place a round is one epoch: about the work of a federated one, where two of five hospitals see theirs thrice.
CENTRALISED_CHANGES: Mapping[ScaleName, Mapping[str, Any]] = {
    "small": {},
    "results": {"training.local_epochs": 1},
    "full": {},
}
ROUND: Mapping[ScaleName, str] = {
    "small": "one epoch everywhere: centralised of all films, federated at two of the five hospitals, alone of the "
    "hospital's own films",
    "results": "centralised one epoch of all films, federated three epochs at two of the five hospitals, alone three "
    "epochs of the hospital's own films",
    "full": "three epochs everywhere: centralised of all films, federated at two of the five hospitals, alone of the "
    "hospital's own films",
}
LEAD = (
    "Four networks are trained on films of three classes by five hospitals, of which two take part in each round, and "
    "by one place that has all films. The paper used COVIDx (15,282 films).",
)


def describe(scale: ScaleName) -> Experiment:
    """At `scale`: everything of the paper; of the sweep and the single hospitals, the first network."""
    return Experiment(
        name="fl-cxr",
        title="Federated chest X-rays: four networks",
        paper=PAPER,
        lead=(*LEAD, f"A round is {ROUND[scale]}."),
        data={"films": Cohort("xray-3class", SITES)},
        arms=list(_arms(scale)),
        tables=[_accuracies(), _classes(), _gaps()],
        groups=[
            Group(
                network,
                name,
                [f"{network}-federated", f"{network}-centralised", *_alone(network)],
                f"{network}-centralised",
            )
            for network, name in NETWORKS.items()
        ],
        sweeps=[
            Sweep(
                "local-epochs",
                "Local epochs of a round",
                "local epochs",
                {n: _sweep_arm(scale, n) for n in _epochs(scale)},
                SAME_ROUNDS,
            )
        ],
    )


def _arms(scale: ScaleName) -> Iterator[Arm]:
    changes = SCALES[scale]
    for network in NETWORKS:
        recipe = f"fl-cxr-{network}"
        yield Arm(f"{network}-federated", recipe, "films", changes=changes, also=TRAINING)
        pooled = {**changes, **CENTRALISED_CHANGES[scale]}
        yield Arm(f"{network}-centralised", recipe, "films", "centralised", pooled, also=TRAINING)
    if scale != "small":
        yield from plaintext_twins(Arm(f"{FIRST}-federated", f"fl-cxr-{FIRST}", "films", changes=changes))
    yield Arm(f"{FIRST}-alone", f"fl-cxr-{FIRST}", "films", "alone", changes)
    for number in _epochs(scale):
        name = _sweep_arm(scale, number)
        if name != f"{FIRST}-federated":
            more = {**changes, "training.local_epochs": number}
            yield Arm(name, f"fl-cxr-{FIRST}", "films", changes=more, once=scale == "results")


def _epochs(scale: ScaleName) -> tuple[int, ...]:
    return EPOCHS[:2] if scale == "small" else EPOCHS


def _sweep_arm(scale: ScaleName, number: int) -> str:
    usual = SCALES[scale].get("training.local_epochs", 3)
    return f"{FIRST}-federated" if number == usual else f"{FIRST}-federated-{number}-epochs"


def _alone(network: str) -> list[str]:
    return [f"{FIRST}-alone"] if network == FIRST else []


def _accuracies() -> PaperTable:
    def rows(arm: str, printed: Mapping[str, tuple[str, str]]) -> Iterator[tuple[str, list[Figure]]]:
        for network, name in NETWORKS.items():
            own = f"{network}-{arm}"
            training, test = printed[network]
            yield f"{name}, {arm}", [Figure(own, accuracy("training"), training), Figure(own, accuracy(), test)]

    return PaperTable(
        "accuracy",
        "Accuracy with and without federation",
        "its tables 2 and 4",
        [Column("training set", "percent"), Column("testing set", "percent")],
        [*rows("federated", FEDERATED), *rows("centralised", CENTRALISED)],
        "The paper's ± are as printed there.",
    )


def _classes() -> PaperTable:
    def row(network: str) -> list[Figure]:
        pairs = zip(CLASSES, BY_CLASS[network], strict=True)
        return [Figure(f"{network}-federated", recall(label), printed) for label, printed in pairs]

    columns = [Column(label, "percent") for label in CLASSES]
    rows = [(name, row(network)) for network, name in NETWORKS.items()]
    return PaperTable(
        "accuracy-by-class", "Accuracy of each class, federated", "its table 3 and figure 4", columns, rows
    )


def _gaps() -> PaperTable:
    def gap(network: str) -> str:
        federated, centralised = (float(printed[network][1].split()[0]) for printed in (FEDERATED, CENTRALISED))
        return f"{federated - centralised:+.2f}"

    return PaperTable(
        "gap",
        "What federation costs: test accuracy, federated less centralised",
        "from its tables 2 and 4",
        [Column("difference", "points")],
        [
            (name, [Figure(f"{network}-federated", accuracy(), gap(network), f"{network}-centralised")])
            for network, name in NETWORKS.items()
        ],
        "The paper's differences are computed from its tables.",
    )
