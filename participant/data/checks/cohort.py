"""Who is there: cases and patients of each class in each split."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from typing import Final

from participant.data.cases import SPLITS, Case
from participant.data.checks.facts import Data
from participant.data.checks.report import CaseNote, ClassCount, Finding, named

_FEW: Final = 10  # training cases of a class, below which a network learns them by heart
_MANY_TIMES: Final = 10


def in_two_splits(cases: Iterable[Case]) -> Mapping[str, list[Case]]:
    """The cases of each patient whom a table puts into more than one split, by patient."""
    placed: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        if case.split is not None:
            placed[case.patient].append(case)
    return {patient: own for patient, own in placed.items() if len({case.split for case in own}) > 1}


def counts(data: Data) -> tuple[ClassCount, ...]:
    """Readable cases and their patients, class by class."""
    made = []
    for label, name in enumerate(data.recipe.network.classes):
        own = {split: [f.case for f in data.of_class(label) if data.split[f.case.path] == split] for split in SPLITS}
        made.append(
            ClassCount(
                label=name,
                cases={split: len(cases) for split, cases in own.items()},
                patients={split: len({case.patient for case in cases}) for split, cases in own.items()},
            )
        )
    return tuple(made)


def findings(data: Data) -> list[Finding]:
    return [*_two_splits(data), *_one_patient(data), *_two_classes(data), *_numbers(data)]


def _two_splits(data: Data) -> list[Finding]:
    unclear = in_two_splits(data.found.cases)
    if not unclear:
        return []
    return [
        Finding(
            kind="patient-in-two-splits",
            severity="error",
            what=f"{len(unclear)} patient{'s are' if len(unclear) > 1 else ' is'} in more than one split",
            why="A network that has seen a patient in training recognises that patient, so the test would be no test.",
            fix="Put all cases of a patient into one split in the table, or leave the column empty for that patient.",
            cases=tuple(
                CaseNote(case=named(case.path, data.root), note=f"{case.split}, patient {number} of this list")
                for number, own in enumerate(unclear.values(), start=1)
                for case in own
            ),
        )
    ]


def _one_patient(data: Data) -> list[Finding]:
    cases = data.found.cases
    if len(cases) < 2 or len({case.patient for case in cases}) > 1:
        return []
    return [
        Finding(
            kind="one-patient",
            severity="warning",
            what=f"All {len(cases)} cases belong to one patient",
            why="De-identification often writes the same id everywhere. Cases are split by patient, so all would be in "
            "one split, and a training has nothing to validate with.",
            fix="Give the patients in a table: labels.csv with the columns path, label and patient.",
        )
    ]


def _two_classes(data: Data) -> list[Finding]:
    own: dict[str, list[Case]] = defaultdict(list)
    for case in data.found.cases:
        own[case.patient].append(case)
    mixed = [cases for cases in own.values() if len({case.label for case in cases}) > 1]
    if not mixed:
        return []
    classes = data.recipe.network.classes
    return [
        Finding(
            kind="patient-in-two-classes",
            severity="note",
            what=f"{len(mixed)} patient{'s have' if len(mixed) > 1 else ' has'} cases of more than one class",
            why="It is right for a patient who fell ill or recovered between two scans, and wrong for a mistyped row.",
            fix="Compare these with the reports.",
            cases=tuple(
                CaseNote(case=named(c.path, data.root), note=f"{classes[c.label]}, patient {number} of this list")
                for number, cases in enumerate(mixed, start=1)
                for c in cases
            ),
        )
    ]


def _numbers(data: Data) -> list[Finding]:
    counted = counts(data)
    training = {each.label: each.cases["train"] for each in counted}
    if not sum(training.values()):
        return [_no_training_cases()]
    total = Counter({each.label: sum(each.cases.values()) for each in counted})
    made = []
    if empty := [name for name, number in total.items() if not number]:
        made.append(_empty_classes(empty))
    if not sum(each.cases["validation"] for each in counted):
        made.append(_no_validation_cases())
    few = {name: number for name, number in training.items() if total[name] and number < _FEW}
    if few:
        made.append(_few_cases(few))
    most, least = max(total, key=total.__getitem__), min(+total, key=total.__getitem__)
    if total[most] > _MANY_TIMES * total[least]:
        made.append(_unbalanced(most, least, total))
    return made


def _no_training_cases() -> Finding:
    return Finding(
        kind="no-training-cases",
        severity="error",
        what="There is no training case",
        why="A site that has none to train with cannot contribute.",
        fix="Add cases, or give some of them the split train in the table.",
    )


def _no_validation_cases() -> Finding:
    return Finding(
        kind="no-validation-cases",
        severity="warning",
        what="There is no validation case",
        why="The site could train, but would add nothing to the figures that tell how good a model is.",
        fix="Add cases, or give some of them the split validation in the table.",
    )


def _empty_classes(names: list[str]) -> Finding:
    return Finding(
        kind="empty-class",
        severity="warning",
        what=f"No case of {', '.join(names)}",
        why="A hospital may see one disease alone, and its part is welcome. But in each round the network unlearns "
        "here what it never sees here.",
        fix=f"Check the folders' names if you have such cases: {', '.join(names)}. Otherwise go on.",
    )


def _few_cases(few: Mapping[str, int]) -> Finding:
    return Finding(
        kind="few-cases",
        severity="warning",
        what="Few training cases of " + ", ".join(f"{name} ({number})" for name, number in few.items()),
        why=f"Below {_FEW}, a network learns the single patients by heart, and figures of the class tell little.",
        fix="Add cases of these classes if you can.",
    )


def _unbalanced(most: str, least: str, total: Mapping[str, int]) -> Finding:
    return Finding(
        kind="unbalanced",
        severity="note",
        what=f"{most} has {total[most]} cases, {least} {total[least]}",
        why="What is rare is learnt late. The recipe's class weights can make up for it.",
        fix="Nothing, if your patients are so. Look whether training.class_weights of the recipe is set.",
    )
