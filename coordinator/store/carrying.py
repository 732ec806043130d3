"""Contributions of sites that left, where a study goes on counting them: which there are, and what is kept for them.

The parts of every member's last counted contribution stay when the rest of its round is swept: the member may leave.
They go when it contributes again, or no plan can carry them any more; their round is then swept once more.
"""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.rounds import carrying
from coordinator.rounds.carrying import Leaver
from coordinator.store import attempts, audit, epochs, memberships
from coordinator.store.kept import ballot_of, plan_of, roster_of
from coordinator.store.tables import Epoch, Membership, Part, Round, Site, Study
from coordinator.terms import Terms
from crypto.exposure import shares
from crypto.identity import PublicIdentity
from crypto.manifest import Ballot
from crypto.plan import Carried, Member, Plan, Roster

FAILURES: Final = 2  # attempts with a contribution in their frozen set that may come to nothing before it is dropped
_OVER: Final = ("finished", "stopped")
_KEY_PART: Final = (Part.kind == "key", Part.number == 0)  # each contribution has just this one


def carries(study: Study) -> bool:
    """Whether sites that leave still count."""
    return Terms.of(study.recipe).federation.carry


def leavers(session: Session, study: Study) -> list[Leaver]:
    """Sites that left, and whose last counted contribution no plan has dropped yet."""
    if not carries(study):
        return []
    found = _newest(session, study.id)
    gone = session.scalars(
        select(Site)
        .join(Membership, Membership.site_id == Site.id)
        .where(Membership.study_id == study.id, Membership.left.is_not(None), Membership.not_carried.is_(None))
    )
    return [_leaver(session, found[site.id], site) for site in gone if site.id in found]


def drop_others(session: Session, study: Study, plan: Plan, roster: Roster, actor: str, now: float) -> None:
    """Drop, for good, what a new training plan does not carry: sites delete the keys that it does not name."""
    if plan.origin is None or plan.kind != "training":
        return
    room = plan.k_max - len(plan.expected)
    ever = memberships.ever(session, study.id)
    selection = carrying.select(leavers(session, study), roster, room, plan.minimum_contributors, ever)
    for site, reason in selection.dropped.items():
        drop(session, study, site, reason, actor, now)
    release(session, study)


def drop(session: Session, study: Study, site: UUID, reason: str, actor: str, now: float) -> None:
    """Carry a site's contribution no more; one that it makes later counts again."""
    member = session.get_one(Membership, (study.id, site))
    if member.not_carried is None:
        member.not_carried = reason
        detail = {"study": str(study.id), "site": str(site), "reason": reason}
        audit.append(session, now, actor, "contribution.not-carried", detail)


def release(session: Session, study: Study) -> None:
    """Have rounds swept once more that hold parts which no plan can carry any more."""
    if not carries(study):
        return
    keep = _kept(session, study)
    query = select(Part.round_id, Part.site_id).join(Round, Part.round_id == Round.id).distinct()
    held = session.execute(query.where(Round.study_id == study.id, Round.swept.is_not(None)))
    for round_id in {round_id for round_id, site in held if (round_id, site) not in keep}:
        session.get_one(Round, round_id).swept = None


def kept(session: Session, row: Round) -> set[UUID]:
    """The sites whose parts stay when this ended attempt is swept."""
    study = session.get_one(Study, row.study_id)
    return {site for round_id, site in _kept(session, study) if round_id == row.id} if carries(study) else set()


def places(session: Session, row: Round) -> dict[UUID, Round]:
    """By site, the rounds where the contributions that this attempt carries were made."""
    listed = [Carried.from_json(each).member.site for each in row.plan.get("carried", [])]
    if not listed:
        return {}
    found = _newest(session, row.study_id, before=row.number)
    return {site: found[site] for site in listed if site in found}


def place_of(session: Session, row: Round, contributor: UUID) -> UUID:
    """The round under which a contributor's parts lie: this attempt, unless it carries them."""
    found = places(session, row).get(contributor)
    return row.id if found is None else found.id


def former_members(session: Session, study: Study) -> list[Member]:
    """Members that left and count, or may once the attempt under way is complete: later ones have to approve them."""
    found = {leaver.member.site: leaver.member for leaver in leavers(session, study) if leaver.barred is None}
    active = attempts.active(session, study.id)
    if carries(study) and active is not None:
        roster = Roster.from_json(active.roster)
        gone = select(Membership.site_id).where(Membership.study_id == study.id, Membership.left.is_not(None))
        left = set(session.scalars(gone.where(Membership.not_carried.is_(None))))
        found |= {member.site: member for member in roster.members if member.site in left}
    return sorted(found.values(), key=lambda member: member.site.bytes)


def manifests(session: Session, row: Round) -> list[dict[str, Any]]:
    """The signed manifests that this attempt carries."""
    return [_entry(place, site) for site, place in places(session, row).items()]


def able(session: Session, row: Round) -> frozenset[UUID] | None:
    """The sites that were given every key which it takes to open this attempt; None if the plan's own will do."""
    carried = [Carried.from_json(each) for each in row.plan.get("carried", [])]
    holders = [_holders(session, epoch) for epoch in {each.epoch for each in carried}]
    return frozenset.intersection(*holders) if holders else None


def _kept(session: Session, study: Study) -> set[tuple[UUID, UUID]]:
    """(round, site) of all contributions that a plan may still carry, or that the attempt under way does."""
    active = attempts.active(session, study.id)
    keep = {(place.id, site) for site, place in places(session, active).items()} if active is not None else set()
    if study.state in _OVER:
        return keep
    query = select(Membership.site_id).where(Membership.study_id == study.id, Membership.not_carried.is_not(None))
    dropped = set(session.scalars(query))
    return keep | {(row.id, site) for site, row in _newest(session, study.id).items() if site not in dropped}


def _newest(session: Session, study: UUID, before: int | None = None) -> dict[UUID, Round]:
    """By site, the last round that counted a fresh contribution of it, as far as their parts are still here."""
    query = select(Part.site_id, Round).join(Round, Part.round_id == Round.id)
    query = query.where(Round.study_id == study, Round.kind == "training", Round.state == "complete")
    if before is not None:
        query = query.where(Round.number < before)
    found: dict[UUID, Round] = {}
    rows = list(session.execute(query.where(*_KEY_PART).order_by(Round.number.desc())))
    fresh = {row.id: _fresh(row) for row in {row.id: row for _, row in rows}.values()}
    for site, row in rows:
        if site in fresh[row.id]:
            found.setdefault(site, row)
    return found


def _fresh(row: Round) -> set[UUID]:
    """Sites that contributed to this attempt itself."""
    messages = [signed["message"] for signed in (row.ballot or {"manifests": []})["manifests"]]
    return {UUID(message["site"]) for message in messages if message["plan"] == row.plan_digest}


def _entry(row: Round, site: UUID) -> dict[str, Any]:
    """A site's signed manifest in the attempt's ballot."""
    entries: list[dict[str, Any]] = (row.ballot or {})["manifests"]
    return next(signed for signed in entries if signed["message"]["site"] == str(site))


def _leaver(session: Session, row: Round, site: Site) -> Leaver:
    ballot, roster, plan = ballot_of(row), roster_of(row), plan_of(row)
    manifest = next(entry.message for entry in ballot.manifests if entry.message.site == site.id).digest
    member = roster.member(site.id)
    assert member is not None  # noqa: S101 - it contributed
    carried = Carried(manifest=manifest, member=member, epoch=plan.epoch or "")
    later = session.scalars(
        select(Round).where(Round.study_id == row.study_id, Round.number > row.number).order_by(Round.number)
    ).all()
    listing = [each for each in later if manifest in _listed(each)]
    sums = [shares(Ballot.from_json(each.ballot), Plan.from_json(each.plan)) for each in listing if each.opened]
    return Leaver(
        carried=carried,
        fingerprint=PublicIdentity.of_member(member).fingerprint,
        exposure=sum(each[manifest] for each in (shares(ballot, plan), *sums)),
        holders=_holders(session, carried.epoch),
        barred=_barred(session, row, site, carried, listing),
    )


def _barred(session: Session, row: Round, site: Site, carried: Carried, listing: list[Round]) -> str | None:
    if site.state == "suspended":
        return "its site was suspended"
    if site.fingerprint != PublicIdentity.of_member(carried.member).fingerprint:
        return "its site has other keys now than it was signed with"
    newest = select(Round).where(Round.study_id == row.study_id).order_by(Round.number.desc(), Round.attempt.desc())
    plan = session.scalars(newest.limit(1)).one().plan
    if carried.epoch not in {plan["epoch"], *(each["epoch"] for each in plan.get("carried", []))}:
        return "the members have deleted the key that it is sealed under: a plan did without it"
    if sum(each.state == "failed" and each.closed is not None for each in listing) >= FAILURES:
        return f"{FAILURES} attempts that it was in came to nothing after their contributors were fixed"
    return None


def _listed(row: Round) -> set[str]:
    return {each["manifest"] for each in row.plan.get("carried", [])}


def _holders(session: Session, record: str) -> frozenset[UUID]:
    """Sites that were given a key and still have it, as far as is known here: who left, or lost its keys, after the
    key was replaced, and came back, was not given it again."""
    epoch = session.scalar(select(Epoch).where(Epoch.record_digest == record))
    if epoch is None:
        return frozenset()
    since = select(Site.id).join(Membership, Membership.site_id == Site.id).where(Membership.study_id == epoch.study_id)
    if epoch.retired is not None:
        since = since.where(Membership.joined <= epoch.retired, Site.enrolled <= epoch.retired)
    return frozenset(epochs.holders(session, epoch)) & frozenset(session.scalars(since))
