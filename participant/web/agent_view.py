"""What the agent's files tell of it. They are only read: `run` writes them, in another process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from participant import locks
from participant.ledger import Entry, Ledger, LedgerBroken

_PHASES: Final = {
    "joined": "waiting for a round",
    "plan-accepted": "training",
    "sent part": "delivering its contribution",
    "sent key-part": "delivering its contribution",
    "sent manifest": "delivered; waiting for the others",
    "ballot": "checking the ballot",
    "sent vote": "voted; waiting for the sum",
    "sent opening": "helped to open the sum",
    "outcome": "checked the new model",
    "left": "left by this site",
}
_REFUSALS: Final = 10  # shown
_WAITS: Final = ("peer-waits", "peer-changed")


@dataclass
class StudyView:
    """A study as this site's ledger tells of it. since: of the phase."""

    id: str
    name: str
    minimum: int | None = None
    round: int | None = None
    attempt: int | None = None
    phase: str = "waiting for a round"
    since: float = 0.0
    rounds: int = 0
    sent: int = 0


@dataclass
class AgentView:
    """broken: what is wrong with the ledger; what stands before that line is shown. wanted: peers to approve."""

    runs: bool
    lines: int = 0
    head: str = ""
    broken: str = ""
    last: float | None = None
    studies: dict[str, StudyView] = field(default_factory=dict)
    wanted: dict[str, Entry] = field(default_factory=dict)
    refusals: list[Entry] = field(default_factory=list)


def runs(lock: Path) -> bool:
    """Whether an agent holds the folder."""
    try:
        descriptor = os.open(lock, os.O_RDONLY)
    except OSError:
        return False
    try:
        locks.lock(descriptor, wait=False)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def agent_view(ledger: Path, lock: Path) -> AgentView:
    """Where the agent and its studies stand."""
    view = AgentView(runs(lock))
    try:
        for entry in Ledger(ledger).entries():
            view.lines, view.head, view.last = int(entry["seq"]), str(entry["hash"]), float(entry["time"])
            _tell(view, entry)
    except LedgerBroken as error:
        view.broken = str(error)
    view.refusals = view.refusals[-_REFUSALS:][::-1]
    return view


def what_left(ledger: Path) -> Iterator[tuple[Entry, str]]:
    """Each line about something that was sent, with its study's name, oldest first; up to a line that was changed."""
    names: dict[str, str] = {}
    with suppress(LedgerBroken):  # the status page says so
        for entry in Ledger(ledger).entries():
            if entry["event"] == "joined":
                names[str(entry["study"])] = str(entry["name"])
            if entry["event"] == "sent":
                yield entry, names.get(str(entry.get("study", "")), "")


def _tell(view: AgentView, entry: Entry) -> None:
    event, study = str(entry["event"]), str(entry.get("study", ""))
    if event == "joined":
        view.studies[study] = StudyView(study, str(entry["name"]), entry.get("minimum_contributors"))
    if study in view.studies:
        _tell_study(view.studies[study], event, entry)
    if event == "refusal":
        view.refusals.append(entry | {"name": view.studies[study].name if study in view.studies else ""})
    _tell_wanted(view, event, study, entry)


def _tell_study(study: StudyView, event: str, entry: Entry) -> None:
    phase = _PHASES.get(f"{event} {entry['what']}" if event == "sent" else event)
    if phase is not None:
        study.phase, study.since = phase, float(entry["time"])
    if event == "plan-accepted":
        study.round, study.attempt = int(entry["round"]), int(entry["attempt"])
    if event == "sent":
        study.sent += int(entry["bytes"])
        study.rounds += entry["what"] == "manifest"


def _tell_wanted(view: AgentView, event: str, study: str, entry: Entry) -> None:
    """Asked for by a study and a peer, until that peer is approved there."""
    code = entry.get("code", event)
    if code in _WAITS and "site" in entry:
        view.wanted[f"{study}/{entry['site']}"] = entry
    approved: list[Any] = [entry] if event == "peer-approved" else entry.get("sites", [])
    for peer in approved if event in ("peer-approved", "peers-approved") else ():
        view.wanted.pop(f"{study}/{peer['site']}", None)
