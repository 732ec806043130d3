"""Whether a class shows in what its images were made with: a network would learn that in place of the disease."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from participant.data.checks.facts import Data, Facts
from participant.data.checks.report import CaseNote, Finding

_ENOUGH: Final = 10  # cases of a class, and of the others together
_TELLS: Final = 0.9  # of the cases that are named rightly, from which a property counts as telling the class
_RARE: Final = 3  # cases: values with fewer count as one, "unlike the others"

#: What a file tells beside the disease.
PROPERTIES: Final[Mapping[str, Callable[[Facts], str]]] = {
    "the file format": lambda facts: facts.header.format,
    "the scanner": lambda facts: facts.header.source,
    "the image's size": lambda facts: str(facts.shape[-2:]),
    "the spacing": lambda facts: f"{facts.spacing[0]:.1f}" if facts.spacing else "",
    "the stored orientation": lambda facts: facts.axes,
    "colour": lambda facts: facts.header.photometric,
    "burnt-in text": lambda facts: str(bool(facts.text_lines or facts.header.burned_in)),
}


def findings(data: Data) -> list[Finding]:
    labels = [each.case.label for each in data.facts]
    made = []
    for name, of in PROPERTIES.items():
        values = _pooled([of(each) for each in data.facts])
        told = [
            CaseNote(case="", note=f"{label} from the other classes: {share:.0%}")
            for number, label in enumerate(data.recipe.network.classes)
            if min(labels.count(number), len(labels) - labels.count(number)) >= _ENOUGH
            and (share := _told(values, [each == number for each in labels])) >= _TELLS
        ]
        made += [_finding(name, told)] if told else []
    return made


def _pooled(values: Sequence[str]) -> list[str]:
    frequency = Counter(values)
    return [value if frequency[value] >= _RARE else "" for value in values]


def _told(values: Sequence[str], inside: Sequence[bool]) -> float:
    """How many cases one would name rightly as inside or outside a class by what the other cases with the same value
    are, both sides counting alike: 0.5 is a coin's toss."""
    size = Counter(inside)
    counted = Counter(zip(values, inside, strict=True))
    right: Counter[bool] = Counter()
    for value, own in zip(values, inside, strict=True):
        same = (counted[value, own] - 1) / max(size[own] - 1, 1)
        right[own] += same > counted[value, not own] / size[not own]
    return sum(right[side] / size[side] for side in (True, False)) / 2


def _finding(name: str, told: Sequence[CaseNote]) -> Finding:
    return Finding(
        kind="shortcut",
        severity="warning",
        what=f"{name[0].upper()}{name[1:]} alone tells a class",
        why="A network may learn where an image comes from in place of the disease, look good here, and fail "
        "elsewhere. So many cases would be named rightly by what the others with the same value are (a coin: 50 %).",
        fix="Take all classes from the same scanners and the same export, as far as you can.",
        cases=tuple(told),
    )
