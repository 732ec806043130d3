"""What a conductor does next with an attempt (protocol, section 6), from the view and the time alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias
from uuid import UUID

from coordinator.rounds.states import Aggregating, Collecting, Complete, Derived, Failed, Opening, View
from crypto.checks import takes_votes, votes_needed
from crypto.schemes.spot_check import checkable

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
    """Open the sums with these sites' answers: one opener's, or as many shares as there are."""

    openers: tuple[UUID, ...]


@dataclass(frozen=True, slots=True)
class Adopt:
    """The members opened the sum themselves, and this is the content of the outcomes that agree."""

    content: str


@dataclass(frozen=True, slots=True)
class Fail:
    reason: str


@dataclass(frozen=True, slots=True)
class Sweep:
    """Delete what the ended attempt left in the blob store."""


Step: TypeAlias = Wait | Close | Aggregate | ShowBallot | AskOpener | Reveal | Adopt | Fail | Sweep


def next_step(view: View, now: float) -> Step:
    """The one thing to do next with this attempt."""
    state = view.state
    if isinstance(state, Complete | Failed):
        return Wait(None) if state.swept else _ended(view, state, now)
    if view.stopped:
        return Fail("the study was stopped")
    if isinstance(state, Collecting):
        return _collecting(view, state, now)
    if isinstance(state, Aggregating):
        return ShowBallot() if state.added else Aggregate()
    return _opening(view, state, now)


def _ended(view: View, state: Complete | Failed, now: float) -> Step:
    """Parts that sites may check stay until all have, but no longer than answers to the ballot were waited for."""
    if isinstance(state, Failed) or not checkable(view.plan):
        return Sweep()
    deadline, members = state.ended + view.plan.open_seconds, {member.site for member in view.roster.members}
    return Sweep() if now >= deadline or members <= state.checked else Wait(deadline)


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
    if not takes_votes(view.plan.scheme) and view.plan.release == "open":
        return _sharing(view, state, members, now)
    if takes_votes(view.plan.scheme) and len(state.voted & members) < needed:
        return _voting(view, state, members, needed, now)
    if view.plan.release == "members":
        return _agreeing(view, state, members, now)
    answer = next((asked.site for asked in state.asked if asked.site in state.answered), None)
    if answer is not None or state.answered:
        return Reveal((answer or min(state.answered),))
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
    able = members if state.able is None else members & state.able
    candidates = _shuffled(view.plan.digest, (state.voted & able) - asked - out)
    if not state.asked:
        return AskOpener(candidates[0]) if candidates else _awaiting_opener(view, state, able - out, now)
    deadline = state.asked[0].at + view.plan.open_seconds
    patience = max((entry.at for entry in waiting), default=now) + view.plan.open_seconds / OPENERS
    if now >= deadline or (not waiting and not able - asked - out):
        return _no_opening(view, state)
    if candidates and (not waiting or now >= patience):
        return AskOpener(candidates[0])
    return Wait(min(deadline, patience) if candidates else deadline)


def _awaiting_opener(view: View, state: Opening, able: set[UUID], now: float) -> Step:
    """Who holds every key may not have voted yet."""
    deadline = state.shown + view.plan.vote_seconds
    return Wait(deadline) if able and now < deadline else _no_opening(view, state)


def _sharing(view: View, state: Opening, members: set[UUID], now: float) -> Step:
    """All members are asked at once. Answers that do not open together may with one more, which tells the wrong."""
    needed, deadline = view.plan.threshold or len(members), state.shown + view.plan.open_seconds
    answered, (tried, trouble) = state.answered & members, state.tried
    if len(answered) >= max(needed, tried + 1):
        return Reveal(_by_id(answered))
    may_still = members - state.refused.keys() - answered
    if now < deadline and may_still and len(answered) + len(may_still) >= needed:
        return Wait(deadline)
    missing = _named(view, _by_id(members - answered), state.refused) or "none"
    words = f"{len(answered)} of at least {needed} answers to the ballot; missing: {missing}"
    return Fail(f"{words}; those at hand do not open the sum: {trouble}" if tried else words)


def _agreeing(view: View, state: Opening, members: set[UUID], now: float) -> Step:
    """The members open the sum, each for itself; what enough of them made of it alike becomes the model.

    Those that are slower get as long again as the others needed: with the sums gone, they could only ask a peer for it.
    """
    plan, deadline = view.plan, state.shown + view.plan.vote_seconds + view.plan.open_seconds
    needed = max(votes_needed(view.roster), plan.minimum_contributors)
    derived = [entry for entry in state.derived if entry.site in members]
    heard = {entry.site for entry in derived}
    content, agreed = largest(derived)
    may_still = members - heard - state.refused.keys()
    if len(agreed) >= needed:
        patience = min(deadline, 2 * agreed[needed - 1].at - state.shown)
        return Wait(patience) if may_still and now < patience else Adopt(content)
    answers_to_come = takes_votes(plan.scheme) or len(state.answered & members | may_still) >= (plan.threshold or 0)
    if now < deadline and answers_to_come and len(agreed) + len(may_still) >= needed:
        return Wait(deadline)
    return Fail(_disagreement(view, state, needed, [entry.site for entry in agreed], heard))


def largest(derived: Sequence[Derived]) -> tuple[str, list[Derived]]:
    """The outcome that most members came to, and theirs in the order in which they came in."""
    alike: dict[str, list[Derived]] = {}
    for entry in derived:
        alike.setdefault(entry.content, []).append(entry)
    return max(alike.items(), key=lambda item: len(item[1]), default=("", []))


def _disagreement(view: View, state: Opening, needed: int, agreed: Sequence[UUID], heard: set[UUID]) -> str:
    members = {member.site for member in view.roster.members}
    words = f"{len(agreed)} of at least {needed} members derived the same model"
    others, missing = _by_id(heard.difference(agreed)), _by_id(members - heard)
    if others:
        words += f"; another: {_named(view, others, {})}"
    if missing:
        words += f"; missing: {_named(view, missing, state.refused)}"
    if not takes_votes(view.plan.scheme):
        words += f"; {len(state.answered & members)} of at least {view.plan.threshold} answers were sealed"
    return words


def _by_id(sites: Iterable[UUID]) -> tuple[UUID, ...]:
    return tuple(sorted(sites, key=lambda site: site.bytes))


def _no_opening(view: View, state: Opening) -> Fail:
    said = {**state.refused, **state.rejected}
    asked = [entry.site for entry in state.asked] or sorted(said)
    return Fail(f"nobody opened the sum; asked: {_named(view, asked, said)}")


def _shuffled(seed: str, sites: Iterable[UUID]) -> list[UUID]:
    """The same order for everyone, another one for each plan, so that the work of opening goes round."""
    return sorted(sites, key=lambda site: hashlib.sha256(bytes.fromhex(seed) + site.bytes).digest())


def _named(view: View, sites: Iterable[UUID], words: Mapping[UUID, str]) -> str:
    return ", ".join(f"{view.name(site)} ({words[site]})" if site in words else view.name(site) for site in sites)
