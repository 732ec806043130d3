"""Dividing cases into training, validation and test so that no patient is in two of them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from participant.data.cases import SPLITS, Case, Split, patients_in_two_splits
from participant.data.errors import DataProblems

#: Shares of the cases. The published hospitals kept about a fifth for testing.
SHARES: Mapping[Split, float] = {"train": 0.7, "validation": 0.1, "test": 0.2}


def split_cases(
    cases: Sequence[Case], salt: str, shares: Mapping[Split, float] = SHARES
) -> dict[Split, tuple[Case, ...]]:
    """The cases of each split; every patient's cases lie in one.

    Patients are ordered by a hash of `salt` and their id, so the same salt gives the same split on any machine and in
    any order of files. Class by class, rarest first, each patient goes to the split that is furthest behind its share
    of the class. Splits that a table fixes are kept, and count towards the shares. Raises DataProblems if a table puts
    one patient into two splits, ValueError if the shares do not add up to 1.
    """
    if set(shares) - set(SPLITS) or min(shares.values()) < 0 or abs(sum(shares.values()) - 1) > 1e-6:
        raise ValueError(f"shares must name splits of {SPLITS}, none negative, and add up to 1, not {dict(shares)}")
    problems = patients_in_two_splits(cases)
    if problems:
        raise DataProblems(Path(cases[0].path).parent, problems)
    home = {case.patient: case.split for case in cases if case.split is not None}
    by_patient = _by_patient(cases)
    for patients in _by_rarest_class(cases, by_patient):
        _place(patients, by_patient, home, salt, shares)
    return {split: _of(cases, (p for p in by_patient if home[p] == split)) for split in SPLITS}


def fold_cases(cases: Sequence[Case], salt: str, folds: int, fold: int) -> dict[Split, tuple[Case, ...]]:
    """A split for k-fold validation: fold number `fold` (from 0) of `folds` validates, the others train.

    The test cases are those of `split_cases` with the same salt, in every fold; all others are divided. Every patient's
    cases lie in one fold, and each class is divided evenly, as in `split_cases`: class by class, rarest first, patients
    go to the fold that has fewest cases of the class, of several such to the smallest. Raises as `split_cases`, and
    ValueError for a fold that there is not.
    """
    if not 0 <= fold < folds:
        raise ValueError(f"folds are counted from 0 to {folds - 1}; there is no fold {fold}")
    split = split_cases(cases, salt)
    rest = [*split["train"], *split["validation"]]
    by_patient, total = _by_patient(rest), Counter[int]()
    home: dict[str, int] = {}
    for patients in _by_rarest_class(rest, by_patient):
        of_class = Counter[int]()
        for patient in sorted(patients, key=lambda p: _shuffled(f"{salt}/folds", p)):
            chosen = min(range(folds), key=lambda number: (of_class[number], total[number], number))
            home[patient] = chosen
            of_class[chosen] += len(by_patient[patient])
            total[chosen] += len(by_patient[patient])
    validation = [patient for patient in home if home[patient] == fold]
    training = [patient for patient in home if home[patient] != fold]
    return {"train": _of(rest, training), "validation": _of(rest, validation), "test": split["test"]}


def _by_patient(cases: Iterable[Case]) -> dict[str, list[Case]]:
    by_patient: dict[str, list[Case]] = defaultdict(list)
    for case in cases:
        by_patient[case.patient].append(case)
    return by_patient


def _by_rarest_class(cases: Iterable[Case], by_patient: Mapping[str, Sequence[Case]]) -> Iterator[list[str]]:
    """Patients class by class, rarest first; who has cases of several classes is among the rarest of them."""
    frequency = Counter(case.label for case in cases)
    rarest = {p: min((c.label for c in own), key=lambda k: (frequency[k], k)) for p, own in by_patient.items()}
    for label in sorted(frequency, key=lambda k: (frequency[k], k)):
        yield sorted(p for p in by_patient if rarest[p] == label)


def _of(cases: Iterable[Case], patients: Iterable[str]) -> tuple[Case, ...]:
    """These patients' cases, in the order of their paths."""
    wanted = set(patients)
    return tuple(sorted((case for case in cases if case.patient in wanted), key=lambda case: case.path))


def _shuffled(salt: str, patient: str) -> bytes:
    """What patients are ordered by."""
    return sha256(f"{salt}\0{patient}".encode()).digest()


def _place(
    patients: Sequence[str],
    by_patient: Mapping[str, Sequence[Case]],
    home: dict[str, Split],
    salt: str,
    shares: Mapping[Split, float],
) -> None:
    """Give each of these patients, alike in class, a split in `home`, unless it has one."""
    total = sum(len(by_patient[p]) for p in patients)
    missing = {split: round(share * total, 6) for split, share in shares.items()}
    for patient in [p for p in patients if p in home]:
        missing[home[patient]] = missing.get(home[patient], 0.0) - len(by_patient[patient])
    for patient in sorted((p for p in patients if p not in home), key=lambda p: _shuffled(salt, p)):
        # On a tie the test goes before validation: without a test case of a class its figures cannot be given.
        split = max(shares, key=lambda s: (round(missing[s], 6), s == "train", s == "test"))
        home[patient] = split
        missing[split] -= len(by_patient[patient])
