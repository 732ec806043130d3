"""Whether a study's next attempt can be planned, and its plan."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

from coordinator.rounds.carrying import Leaver, lasting, select
from coordinator.rounds.pace import EarlyStopping, Plateau, pace
from crypto.parameters import K_LIMIT
from crypto.plan import Member, Plan, Release, Roster, SchemeName, Weighting, asked, draw
from crypto.privacy import Privacy


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active member of a study. `fingerprint` is that of its keys, `approved` has those of the peers it approved."""

    member: Member
    fingerprint: str
    joined: float
    last_seen: float
    approved: Mapping[UUID, str]


@dataclass(frozen=True, slots=True)
class KeyEpoch:
    """The study's current CKKS epoch: its record's digest and who was given the secret key."""

    digest: str
    holders: frozenset[UUID]


@dataclass(frozen=True, slots=True)
class LastAttempt:
    """`over`: its round number is used up (it completed, or failed after its ballot was shown)."""

    number: int
    attempt: int
    over: bool


@dataclass(frozen=True, slots=True)
class Settings:
    """What an operator fixed for all rounds of a study. `origin`: the model that all updates are relative to, where
    sites that left still count."""

    scheme: SchemeName
    release: Release
    weighting: Weighting
    minimum_contributors: int
    expected_sites: int | None
    rounds: int
    collect_seconds: int
    vote_seconds: int
    open_seconds: int
    k_max: int
    n_max: int
    fraction: float
    layout: str
    recipe: str
    plateau: Plateau | None = None
    early_stopping: EarlyStopping | None = None
    origin: str | None = None
    privacy: Privacy | None = None


@dataclass(frozen=True, slots=True)
class StudyView:
    """A running study without an active attempt. `losses`: pooled validation losses of its completed training rounds,
    oldest first, those that are known. `leavers`: sites that left and may still count. `ever`: how many sites were
    members at any time."""

    id: UUID
    settings: Settings
    completed: int
    model: str
    bounds: tuple[float, ...]
    last: LastAttempt | None
    candidates: tuple[Candidate, ...]
    epoch: KeyEpoch | None
    losses: tuple[float, ...] = ()
    leavers: tuple[Leaver, ...] = ()
    ever: int = 0


@dataclass(frozen=True, slots=True)
class NotYet:
    """Why there is no plan yet, in words for the operator."""

    reason: str


def plan_round(view: StudyView, now: float, recent_seconds: float) -> tuple[Plan, Roster] | NotYet:
    """The next attempt's plan and its roster, or what is missing.

    Args:
        recent_seconds: a site that was not heard of for longer is left out.
    """
    study = view.settings
    covered: frozenset[UUID] | None = None
    if study.scheme != "lwe-shamir":
        if view.epoch is None:
            return NotYet("no site has dealt a key yet")
        if view.epoch.holders - {candidate.member.site for candidate in view.candidates}:
            return NotYet("a holder of the key left: a new key epoch is needed")
        covered = view.epoch.holders
    present = [candidate for candidate in view.candidates if now - candidate.last_seen <= recent_seconds]
    keyed = [candidate for candidate in present if covered is None or candidate.member.site in covered]
    leavers = lasting(view.leavers, study.minimum_contributors)
    knowing = [candidate for candidate in keyed if all(_approves(candidate, leaver) for leaver in leavers)]
    chosen = mutually_approved(knowing)[: min(study.k_max, K_LIMIT)]
    needed = study.minimum_contributors
    if view.completed == 0 and study.expected_sites is not None:
        needed = max(needed, study.expected_sites)
    if len(chosen) < needed:
        return NotYet(_short(needed, view.candidates, present, keyed, chosen, leavers))
    roster = Roster(study=view.id, members=_by_site(candidate.member for candidate in chosen))
    return _plan(view, roster, now), roster


def mutually_approved(candidates: Iterable[Candidate]) -> list[Candidate]:
    """Members that all approved each other: greedy, in the order in which they joined: a newcomer displaces nobody."""
    chosen: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda each: (each.joined, each.member.index)):
        if all(_approves(candidate, other) and _approves(other, candidate) for other in chosen):
            chosen.append(candidate)
    return chosen


def _plan(view: StudyView, roster: Roster, now: float) -> Plan:
    study, size = view.settings, len(roster.members)
    number, attempt = _next_numbers(view.last)
    expected = draw(roster, number, attempt, asked(study.fraction, size, study.minimum_contributors))
    paced = pace(view.losses, study.plateau, study.early_stopping)
    kind: Literal["training", "evaluation"] = (
        "training" if view.completed < study.rounds and not paced.stop else "evaluation"
    )
    k_max = len(expected) if study.origin is None else study.k_max  # room for more would cost bits of every lane
    selection = select(view.leavers, roster, k_max - len(expected), study.minimum_contributors, view.ever)
    known = view.losses[-1:] if study.weighting == "dynamic" else ()
    return Plan(
        study=view.id,
        round=number,
        attempt=attempt,
        kind=kind,
        base_model=view.model,
        layout=study.layout,
        recipe=study.recipe,
        roster=roster.digest,
        epoch=view.epoch.digest if view.epoch and study.scheme != "lwe-shamir" else None,
        scheme=study.scheme,
        release=study.release,
        weighting=study.weighting,
        expected=expected,
        k_max=k_max,
        n_max=study.n_max,
        bounds=_bounds(view),
        threshold=2 * size // 3 + 1 if study.scheme == "lwe-shamir" else None,
        minimum_contributors=study.minimum_contributors,
        collect_until=math.ceil(now + study.collect_seconds),
        vote_seconds=study.vote_seconds,
        open_seconds=study.open_seconds,
        rate=paced.rate,
        reference_loss=next((loss for loss in known if loss > 0), None),
        carried=selection.carried if kind == "training" else (),
        origin=study.origin,
    )


def _bounds(view: StudyView) -> tuple[float, ...]:
    """Where updates bear noise, what holds it all; it does not adapt, as nothing is ever cut off there."""
    study = view.settings
    if study.privacy is None:
        return view.bounds
    return (study.privacy.bound(study.minimum_contributors),) * len(view.bounds)


def _next_numbers(last: LastAttempt | None) -> tuple[int, int]:
    if last is None:
        return 1, 1
    return (last.number + 1, 1) if last.over else (last.number, last.attempt + 1)


def _approves(one: Candidate, other: Candidate | Leaver) -> bool:
    return one.approved.get(other.member.site) == other.fingerprint


def _by_site(members: Iterable[Member]) -> tuple[Member, ...]:
    return tuple(sorted(members, key=lambda member: member.site.bytes))


def _short(
    needed: int,
    members: Sequence[Candidate],
    present: Sequence[Candidate],
    keyed: Sequence[Candidate],
    chosen: Sequence[Candidate],
    leavers: Sequence[Leaver],
) -> str:
    gone = f", and the {len(leavers)} that left and still count" if leavers else ""
    return (
        f"{len(chosen)} of at least {needed} sites are ready: {len(members)} joined, {len(present)} of them were heard "
        f"of lately, {len(keyed)} of those hold the key, {len(chosen)} of those approved each other{gone}"
    )
