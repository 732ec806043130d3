"""What sites say to a ballot: votes, openings, refusals.

Everything is idempotent: the same message again is answered like the first time, also when the attempt has moved on.
"""

from __future__ import annotations

from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import AnswerDiffers, Conflict, MessageRefused, NotFound, VotesMissing
from coordinator.store.contributions import check_on_roster, log
from coordinator.store.tables import Opening, Refusal, Round, Vote
from crypto import manifest as messages
from crypto.checks import votes_needed
from crypto.identity import verify
from crypto.plan import Roster
from crypto.wire import Message, Signed

M = TypeVar("M", bound=Message)


def shown_ballot(row: Round) -> messages.Ballot:
    """The ballot, once it may be seen.

    Raises:
        NotFound: not yet, or never.
    """
    if row.ballot is None or row.opened is None:
        raise NotFound("There is no ballot of this attempt yet. The task (GET .../task) says when there is.")
    return messages.Ballot.from_json(row.ballot)


def vote(session: Session, row: Round, site: UUID, signed: Signed[messages.Vote], now: float) -> None:
    """Count a site's vote for the ballot shown.

    Raises:
        NotAMember, NotFound: not on the roster; no ballot yet.
        MessageRefused: for another ballot, or by another site.
        InvalidSignature: not signed by the site.
        Conflict: the attempt has ended.
    """
    _check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    if _same(session.get(Vote, (row.id, site)), signed, messages.Vote):
        return
    _check_opening(row)
    session.add(Vote(round_id=row.id, site_id=site, signed=signed.to_json(), received=now))
    log(session, row, site, "vote.cast", {"ballot": row.ballot_digest}, now)


def votes(session: Session, row: Round) -> list[dict[str, Any]]:
    """All Signed[Vote] for the ballot, by site."""
    rows = session.scalars(select(Vote).where(Vote.round_id == row.id))
    return [vote.signed for vote in sorted(rows, key=lambda vote: vote.site_id.bytes)]


def answer(session: Session, row: Round, site: UUID, signed: Signed[messages.Opening], now: float) -> None:
    """Take an opener's answer.

    Raises:
        VotesMissing: fewer than more than half of the roster have voted.
        AnswerDiffers: this site gave another one.
        NotAMember, NotFound, MessageRefused, InvalidSignature, Conflict: as for `vote`.
    """
    _check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    if _same(session.get(Opening, (row.id, site)), signed, messages.Opening):
        return
    _check_opening(row)
    needed, cast = votes_needed(Roster.from_json(row.roster)), len(votes(session, row))
    if cast < needed:
        raise VotesMissing(
            f"{cast} of at least {needed} votes for this ballot are in. No site opens before: wait for the task.",
            {"votes": cast, "needed": needed},
        )
    session.add(Opening(round_id=row.id, site_id=site, signed=signed.to_json(), received=now, rejection=None))
    log(session, row, site, "opening.given", {"ballot": row.ballot_digest}, now)


def refuse(session: Session, row: Round, site: UUID, signed: Signed[messages.Refusal], now: float) -> None:
    """Note a site's no to the plan, the ballot or the opening; the first one of each step stays.

    Raises:
        NotAMember: not on the roster.
        MessageRefused: about another plan or ballot, or by another site.
        InvalidSignature: not signed by the site.
    """
    refusal = verify(check_on_roster(row, site), signed)
    about = row.plan_digest if refusal.step == "plan" else row.ballot_digest
    if refusal.site != site or refusal.about != about:
        raise MessageRefused("The refusal is about another plan or ballot, or names another site than its sender.")
    if session.get(Refusal, (row.id, site, refusal.step)) is not None:
        return
    session.add(Refusal(round_id=row.id, site_id=site, step=refusal.step, signed=signed.to_json(), received=now))
    log(session, row, site, "refusal.given", {"step": refusal.step, "code": refusal.code, "words": refusal.words}, now)


def _check_answer(row: Round, site: UUID, signed: Signed[M], named: UUID, ballot: str) -> None:
    public = check_on_roster(row, site)
    shown = shown_ballot(row)
    verify(public, signed)
    if named != site or ballot != shown.digest:
        raise MessageRefused("This answer is to another ballot, or names another site than the one that sends it.")


def _check_opening(row: Round) -> None:
    if row.state != "opening":
        raise Conflict(f"Round {row.number}, attempt {row.attempt}, is {row.state} and takes no answers any more.")


def _same(row: Vote | Opening | None, signed: Signed[M], kind: type[M]) -> bool:
    """Whether this very message is in; Ed25519 signatures are deterministic, but the message is what counts."""
    if row is None:
        return False
    if kind.from_json(row.signed["message"]).digest != signed.message.digest:
        raise AnswerDiffers("This site gave another answer to this ballot; that one stays.")
    return True
