"""What a conductor does next with an attempt (protocol, section 6), from the view and the time alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from coordinator.rounds.states import Aggregating, Collecting, Complete, Failed, Opening, View
from crypto.checks import votes_needed

OPENERS: Final = 3  # how many openers are asked, one after another, within a plan's open_seconds


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to do before `until` unless a site sends something; None: never again."""

    until: float | None


@dataclass(frozen=True, slots=True)
class Close:
    """Freeze the set of contributors."""

    contributors: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Aggregate:
    """Add the contributors' parts up."""


@dataclass(frozen=True, slots=True)
class ShowBallot:
    """Let the sites see whom the sums are of."""


@dataclass(frozen=True, slots=True)
class AskOpener:
    site: UUID


@dataclass(frozen=True, slots=True)
class Reveal:
    """Open the sums with this site's answer."""

    opener: UUID


@dataclass(frozen=True, slots=True)
class Fail:
    reason: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete what the ended attempt left in the blob store."""


Step: TypeAlias = Wait | Close | Aggregate | ShowBallot | AskOpener | Reveal | Fail | Sweep


def next_step(view: View, now: float) -> Step:
    """The one thing to do next with this attempt."""
    state = view.state
    if isinstance(state, Complete | Failed):
        return Wait(None) if state.swept else Sweep()
    if view.stopped:
        return Fail("the study was stopped")
    if isinstance(state, Collecting):
        return _collecting(view, state, now)
    if isinstance(state, Aggregating):
        return ShowBallot() if state.added else Aggregate()
    return _opening(view, state, now)


def _collecting(view: View, state: Collecting, now: float) -> Step:
    plan = view.plan
    arrived = tuple(site for site in plan.expected if site in state.arrived)
    if len(arrived) < len(plan.expected) and now < plan.collect_until:
        return Wait(plan.collect_until)
    if len(arrived) >= plan.minimum_contributors:
        return Close(arrived)
    missing = [site for site in plan.expected if site not in state.arrived]
    return Fail(
        f"{len(arrived)} of at least {plan.minimum_contributors} contributions by the deadline; "
        f"missing: {_named(view, missing, state.refused)}"
    )


def _opening(view: View, state: Opening, now: float) -> Step:
    needed, members = votes_needed(view.roster), {member.site for member in view.roster.members}
    if len(state.voted & members) < needed:
        return _voting(view, state, members, needed, now)
    answer = next((asked.site for asked in state.asked if asked.site in state.answered), None)
    if answer is not None or state.answered:
        return Reveal(answer or min(state.answered))
    return _asking(view, state, members, now)


def _voting(view: View, state: Opening, members: set[UUID], needed: int, now: float) -> Step:
    deadline = state.shown + view.plan.vote_seconds
    may_still = members - (state.refused.keys() - state.voted)
    if now < deadline and len(may_still) >= needed:
        return Wait(deadline)
    missing = [member.site for member in view.roster.members if member.site not in state.voted]
    return Fail(
        f"{len(state.voted)} of at least {needed} votes for the ballot; missing: {_named(view, missing, state.refused)}"
    )


def _asking(view: View, state: Opening, members: set[UUID], now: float) -> Step:
    """One opener at a time; the next is asked when it said no, failed, or let a third of the time pass."""
    asked = {asked.site for asked in state.asked}
    out = state.refused.keys() | state.rejected.keys()
    waiting = [entry for entry in state.asked if entry.site not in out]
    candidates = _shuffled(view.plan.digest, (state.voted & members) - asked - out)
    if not state.asked:
        return AskOpener(candidates[0]) if candidates else _no_opening(view, state)
    deadline = state.asked[0].at + view.plan.open_seconds
    patience = max((entry.at for entry in waiting), default=now) + view.plan.open_seconds / OPENERS
    if now >= deadline or (not waiting and not members - asked - out):
        return _no_opening(view, state)
    if candidates and (not waiting or now >= patience):
        return AskOpener(candidates[0])
    return Wait(min(deadline, patience) if candidates else deadline)


def _no_opening(view: View, state: Opening) -> Fail:
    said = {**state.refused, **state.rejected}
    asked = [entry.site for entry in state.asked] or sorted(said)
    return Fail(f"nobody opened the sum; asked: {_named(view, asked, said)}")


def _shuffled(seed: str, sites: Iterable[UUID]) -> list[UUID]:
    """The same order for everyone, another one for each plan, so that the work of opening goes round."""
    return sorted(sites, key=lambda site: hashlib.sha256(bytes.fromhex(seed) + site.bytes).digest())


def _named(view: View, sites: Iterable[UUID], words: Mapping[UUID, str]) -> str:
    return ", ".join(f"{view.name(site)} ({words[site]})" if site in words else view.name(site) for site in sites)
