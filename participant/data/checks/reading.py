"""What keeps cases from being used at all: faults of the table or the folders, and files that cannot be read."""

from __future__ import annotations

from participant.data.checks.facts import Data
from participant.data.checks.report import CaseNote, Finding, named


def findings(data: Data) -> list[Finding]:
    return [*_listing(data), *_unreadable(data), *_passed_over(data)]


def _listing(data: Data) -> list[Finding]:
    problems = data.found.problems
    if not problems:
        return []
    return [
        Finding(
            kind="listing",
            severity="error",
            what=_several(len(problems), "fault", "in how the cases are laid out or listed"),
            why="The agent does not guess which class or file was meant, so no training begins.",
            fix="Correct each; all that were found are here.",
            cases=tuple(CaseNote(case="", note=problem) for problem in problems),
        )
    ]


def _unreadable(data: Data) -> list[Finding]:
    notes = [
        CaseNote(case=named(error.path, data.root), note=f"{error.what}. {error.fix}.") for error in data.unreadable
    ]
    if not notes:
        return []
    return [
        Finding(
            kind="unreadable",
            severity="error",
            what=_several(len(notes), "case", "cannot be read"),
            why="A case that is silently left out could be the rare one. No training begins before each is settled.",
            fix="Put each right as it says, or take it out of the folder or the table.",
            cases=tuple(notes),
        )
    ]


def _passed_over(data: Data) -> list[Finding]:
    if not data.found.warnings:
        return []
    return [
        Finding(
            kind="passed-over",
            severity="note",
            what=_several(len(data.found.warnings), "file", "passed over"),
            why="They lie where cases lie, but are of no format that is read.",
            fix="Nothing, if they are no images. Otherwise save them as DICOM, NIfTI, PNG or JPEG.",
            cases=tuple(CaseNote(case="", note=warning) for warning in data.found.warnings),
        )
    ]


def _several(number: int, what: str, then: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'} {then}"
