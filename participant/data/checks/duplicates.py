"""The same image twice: by its pixels, whatever the file, and by its look, where it was saved again."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np

from participant.data.checks.facts import Data, Facts
from participant.data.checks.report import CaseNote, Finding, Severity

#: Correlation of sketches. Of 262 films, the two most alike (one patient's) had 0.989; saved again at 60 % of the size
#: and with JPEG's quality 70, each had more than 0.9997 with itself.
_ALIKE: Final = 0.999
_BLOCK: Final = 1024  # cases compared at once


def findings(data: Data) -> list[Finding]:
    same = _same(data.facts)
    told = {frozenset(each.name for each in group) for group in same}
    alike = [pair for pair in _alike(data.facts) if not any({each.name for each in pair} <= names for names in told)]
    return [
        *_told(data, same, "duplicate", "the same pixels", "by a digest of the pixels, whatever the file"),
        *_told(data, alike, "near-duplicate", "almost the same picture", f"by a correlation above {_ALIKE:g} of small "
               "pictures of them, as when a file was saved again, compressed or in another size"),
    ]  # fmt: skip


def _same(facts: Iterable[Facts]) -> list[list[Facts]]:
    groups: dict[str, list[Facts]] = defaultdict(list)
    for each in facts:
        groups[each.digest].append(each)
    return [group for group in groups.values() if len(group) > 1]


def _alike(facts: Sequence[Facts]) -> list[list[Facts]]:
    """Pairs, in the order of their cases."""
    if len(facts) < 2:
        return []
    sketches = np.stack([each.sketch for each in facts])
    pairs = []
    for start in range(0, len(facts), _BLOCK):
        close = sketches[start : start + _BLOCK] @ sketches.T > _ALIKE
        pairs += [(start + int(one), int(other)) for one, other in np.argwhere(close) if start + one < other]
    return [[facts[one], facts[other]] for one, other in pairs]


def _told(data: Data, groups: Sequence[Sequence[Facts]], kind: str, what: str, how: str) -> list[Finding]:
    if not groups:
        return []
    across = sum(len({data.split[each.case.path] for each in group}) > 1 for group in groups)
    contradicting = sum(len({each.case.label for each in group}) > 1 for group in groups)
    severity: Severity = "warning" if across or contradicting else "note"
    harm = [f"{across} lie in two splits, so the test knows what was trained"] if across else []
    harm += [f"{contradicting} have two classes, of which one is wrong"] if contradicting else []
    weight = "They count twice in training" + (f"; {'; '.join(harm)}" if harm else "")
    return [
        Finding(
            kind=kind,
            severity=severity,
            what=f"{len(groups)} time{'s' if len(groups) > 1 else ''} {what}",
            why=f"{weight}. Found {how}.",
            fix="Keep one of each, in the class that the report says. If they are two patients', one id is wrong.",
            cases=tuple(
                CaseNote(case=each.name, note=_note(data, each, number))
                for number, group in enumerate(groups, start=1)
                for each in group
            ),
        )
    ]


def _note(data: Data, facts: Facts, number: int) -> str:
    return f"{number}: {data.recipe.network.classes[facts.case.label]}, {data.split[facts.case.path]}"
