"""Sáinz-Pardo Díaz and López García: 3 and 10 clients against training in one place, and clients that come and go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from simulation.experiments.cohort import Cohort
from simulation.experiments.describe import (
    Arm,
    Column,
    Experiment,
    Figure,
    Group,
    PaperTable,
    ScaleName,
    plaintext_twins,
)
from simulation.experiments.measures import accuracy, auc, loss, over_sites, seconds

PAPER = "Sáinz-Pardo Díaz and López García 2023, Neurocomputing 518, doi:10.1016/j.neucom.2022.11.011 (poster)"
RECIPE = "intermittent-cnn"
CENTRALISED = "centralised"

#: Rounds of each federated arm in the paper's table 3: (clients, rounds).
FEDERATIONS = ((3, 10), (3, 8), (10, 10), (10, 9))
#: Who leaves after which round, and who joins before which: the poster does not say, so these are ours.
MOVES: Mapping[int, tuple[Mapping[str, int], Mapping[str, int]]] = {
    3: ({"site-3": 4}, {"site-4": 6}),
    10: ({"site-8": 3, "site-9": 5, "site-10": 6}, {"site-11": 4, "site-12": 6}),
}
#: Centralised epochs: the poster names none; as many as the longest federation has rounds of one local epoch. Smaller
#: batches make up for fewer films: the running statistics of the norms need steps. `n_max` is near the largest client's
#: films, as it should.
SCALES: Mapping[ScaleName, Mapping[str, Any]] = {
    "small": {"input.size": [48, 48], "training.batch": 8, "federation.n_max": 200},
    "results": {"input.size": [64, 64], "training.batch": 4, "federation.n_max": 200},
    "full": {},
}
#: A round's steps at `results`: as many as a third of the set's 5,216 films gives in batches of 32. By epochs of
#: so few films the norms never come to know them.
STEPS: Mapping[ScaleName, Mapping[str, Any]] = {"results": {"training.local_steps": 54}}
OF_STEPS = (
    "A client takes 54 steps of 4 films a round here, however many films it has; of the whole set's 5,216 films to "
    "train on, an epoch is 54 steps of 32 for each of 3 clients and 16 for each of 10. Federations hence train more "
    "than one place does (in ten rounds 1,620 steps with 3 clients, 5,400 with 10; centralised about 1,050), and times "
    "saved do not compare with the poster's.",
)
LEAD = (
    "A small network tells pneumonia from normal films. Clients leave and join during training: in approach 1 a "
    "leaver's weights count no more, in approach 2 its last sealed contribution goes on counting.",
    "The poster does not say who left when: with 3 clients here site-3 leaves after round 4 and a fourth joins before "
    "round 6; with 10, three leave after rounds 3, 5 and 6 and two join before rounds 4 and 6. So that there is "
    "somebody to join, the films are divided among 4 and 12 there, and each client has fewer than where all stay. Its "
    "losses above 1 at accuracies near 0.75 are the poster's.",
)


def describe(scale: ScaleName) -> Experiment:
    """At `scale`: all of the poster's tables."""
    as_client = {**SCALES[scale], **STEPS.get(scale, {})}
    twins = plaintext_twins(Arm(_stays(3, 10), RECIPE, "3-sites", changes=as_client)) if scale != "small" else []
    return Experiment(
        name="intermittent",
        title="Intermittent clients",
        paper=PAPER,
        lead=(*LEAD, *(OF_STEPS if scale in STEPS else ())),
        data={f"{sites}-sites": Cohort("xray-2class", sites) for sites in (3, 10, *(_sites(n) for n in MOVES))},
        arms=[Arm(CENTRALISED, RECIPE, "3-sites", "centralised", SCALES[scale]), *_arms(as_client), *twins],
        tables=[_own_tests(), _approaches(), _summary(), _times()],
        groups=[
            Group("clients", "Clients that stay", [_stays(3, 10), _stays(10, 10), CENTRALISED], CENTRALISED),
            *(
                Group(f"moves-{n}", f"{n} clients, some come and go", [_moves(n, 1), _moves(n, 2), _stays(n, 10)])
                for n in MOVES
            ),
        ],
    )


def _arms(changes: Mapping[str, Any]) -> Iterator[Arm]:
    for clients, rounds in FEDERATIONS:
        yield Arm(_stays(clients, rounds), RECIPE, f"{clients}-sites", changes={**changes, "federation.rounds": rounds})
    for clients, (departures, arrivals) in MOVES.items():
        for approach in (1, 2):
            carried = {**changes, "federation.carry": approach == 2}
            yield Arm(
                _moves(clients, approach),
                RECIPE,
                f"{_sites(clients)}-sites",
                changes=carried,
                departures=departures,
                arrivals=arrivals,
            )


def _stays(clients: int, rounds: int) -> str:
    return f"{clients}-clients-{rounds}-rounds"


def _moves(clients: int, approach: int) -> str:
    return f"{clients}-clients-approach-{approach}"


def _sites(clients: int) -> int:
    """All that ever take part."""
    return clients + len(MOVES[clients][1])


def _own_tests() -> PaperTable:
    printed = {3: ("0.1246", "97.26"), 10: ("0.1405", "97.86")}
    rows = [
        (
            f"{clients} clients",
            [
                Figure(_stays(clients, 10), over_sites("loss"), own[0]),
                Figure(_stays(clients, 10), over_sites("accuracy"), own[1]),
            ],
        )
        for clients, own in printed.items()
    ]
    columns = [Column("average loss"), Column("average accuracy", "percent")]
    note = "Each client's own test cases, each client counting alike."
    return PaperTable("own-test-sets", "On each client's test set", "its table 1", columns, rows, note)


def _approaches() -> PaperTable:
    printed = {3: ("3.0453", "79.27", "3.3200", "77.03"), 10: ("3.6947", "75.52", "4.7223", "70.93")}
    rows = [
        (
            f"{clients} clients",
            [
                Figure(_moves(clients, approach), measure, own[2 * (approach - 1) + n] if n < 2 else "")
                for approach in (1, 2)
                for n, measure in enumerate((loss(), accuracy(), auc("pneumonia")))
            ],
        )
        for clients, own in printed.items()
    ]
    columns = [
        column
        for approach in (1, 2)
        for column in (
            Column(f"approach {approach}, loss"),
            Column(f"approach {approach}, accuracy", "percent"),
            Column(f"approach {approach}, AUC", "area"),
        )
    ]
    note = (
        "In approach 2 a leaver's running statistics go on counting with its weights, as old as they are; where the "
        "norms have not come to know their films yet, all films may go to one class however well they are ranked."
    )
    return PaperTable("approaches", "Intermittent clients, on the common test set", "its table 2", columns, rows, note)


#: Table 3 of the poster: loss, accuracy in percent, AUC, seconds, and the time saved in percent.
SUMMARY = {
    CENTRALISED: ("3.0694", "66.19", "0.9429", "1386", ""),
    _stays(3, 10): ("2.6034", "80.29", "0.9185", "401", "71.07"),
    _stays(3, 8): ("4.3232", "73.08", "0.9313", "320.8", "76.85"),
    _stays(10, 10): ("4.7813", "72.12", "0.9095", "110", "92.06"),
    _stays(10, 9): ("3.8730", "73.40", "0.9130", "99", "92.85"),
}


def _summary() -> PaperTable:
    measures = (loss(), accuracy(), auc("pneumonia"))
    columns = [Column("loss"), Column("accuracy", "percent"), Column("AUC", "area")]
    rows = [
        (arm, [Figure(arm, measure, printed[n]) for n, measure in enumerate(measures)])
        for arm, printed in SUMMARY.items()
    ]
    return PaperTable("summary", "On the common test set", "its table 3 and figure 3", columns, rows)


def _saved(own: float, centralised: float) -> float:
    return 1 - own / centralised


def _times() -> PaperTable:
    rows = [
        (
            arm,
            [
                Figure(arm, seconds("as sites"), printed[3]),
                Figure(arm, seconds("as sites"), printed[4], CENTRALISED, _saved),
            ],
        )
        for arm, printed in SUMMARY.items()
    ]
    columns = [Column("seconds", "seconds"), Column("time saved", "gain")]
    note = (
        "Seconds with every client on a machine of its own: the slowest of each round, sealing and opening included. "
        "Other work may have shared the machine that they were measured on: a wide interval says that it did."
    )
    return PaperTable("times", "Time", "its table 3", columns, rows, note)
