"""Spot checks: what members may fetch to open a part of a completed round again, and what they found."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import AnswerDiffers, Conflict, MessageRefused, NotFound
from coordinator.store.contributions import Place, check_on_roster, find_part, log
from coordinator.store.kept import plan_of
from coordinator.store.tables import Metrics, Round, SpotCheck
from coordinator.store.tasks import contributors
from crypto import outcome as messages
from crypto.identity import verify
from crypto.schemes.spot_check import checkable
from crypto.wire import Signed


def find_body(session: Session, row: Round, site: UUID, contributor: UUID, number: int) -> Place:
    """Where a contributor's body part lies, if members may see it.

    Raises:
        NotAMember: the asking site is not on the roster.
        NotFound: not in this study, not before the round is complete, or not any more.
    """
    check_on_roster(row, site)
    if not checkable(plan_of(row)):
        raise NotFound(
            "In this study no site may see a body part: that takes the scheme lwe-shamir with the release open."
        )
    if row.state != "complete":
        raise NotFound(f"Body parts are served once the round is complete; this attempt is {row.state}.")
    place = Place(row.id, contributor, "body", number)
    if str(contributor) not in contributors(row) or find_part(session, place) is None:
        raise gone()
    return place


def gone() -> NotFound:
    """The answer where a body part was, or never was."""
    return NotFound(
        "There is no such part of a contributor, or it is deleted already: parts are kept until all members of the "
        "round have checked one, or the plan's open_seconds have passed since it was complete."
    )


def counts(session: Session, row: Round) -> dict[str, Any]:
    """The pooled counts of a completed attempt, as its measures were derived from them.

    Raises:
        NotFound: it has not completed.
    """
    metrics = session.get(Metrics, row.id)
    if metrics is None:
        raise NotFound(f"Pooled counts are there once the round is complete; this attempt is {row.state}.")
    return metrics.counts


def report(session: Session, row: Round, site: UUID, signed: Signed[messages.SpotCheck], now: float) -> None:
    """Keep what a member found; the same again is fine, also long after.

    Raises:
        NotAMember: not on the roster.
        InvalidSignature: not signed by the site.
        Conflict: the attempt has made no model that could be checked.
        MessageRefused: about another ballot or model, or by another site.
        AnswerDiffers: it reported something else.
    """
    check = verify(check_on_roster(row, site), signed)
    if row.state != "complete" or not checkable(plan_of(row)):
        raise Conflict("This attempt made no model that sites check.")
    if (check.site, check.ballot, check.model) != (site, row.ballot_digest, row.model):
        raise MessageRefused("The check is of another ballot or model, or names another site than its sender.")
    known = session.get(SpotCheck, (row.id, site))
    if known is not None:
        if messages.SpotCheck.from_json(known.signed["message"]).digest != check.digest:
            raise AnswerDiffers("This site reported another check of this round; that one stays.")
        return
    session.add(SpotCheck(round_id=row.id, site_id=site, signed=signed.to_json(), received=now))
    detail = {"part": check.part, "result": check.result, "words": check.words}
    log(session, row, site, "spot-check.reported", detail, now)


def sites(session: Session, row: Round) -> frozenset[UUID]:
    """Who has reported."""
    return frozenset(session.scalars(select(SpotCheck.site_id).where(SpotCheck.round_id == row.id)))


def shown(session: Session, row: Round) -> list[dict[str, Any]]:
    """Every check of an attempt as people read it, by site."""
    rows = session.scalars(select(SpotCheck).where(SpotCheck.round_id == row.id))
    said = [each.signed["message"] for each in sorted(rows, key=lambda each: each.site_id.bytes)]
    return [{key: each[key] for key in ("site", "part", "result", "words")} for each in said]
