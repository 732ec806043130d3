"""What sites say to a ballot: votes, openings, refusals.

Everything is idempotent: the same message again is answered like the first time, also when the attempt has moved on.
"""

from __future__ import annotations

from typing import Any, Final, TypeVar
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import AnswerDiffers, Conflict, MessageRefused, NotFound, VotesMissing
from coordinator.store.contributions import Place, add_part, already_there, check_on_roster, log
from coordinator.store.kept import ballot_of, plan_of, roster_of
from coordinator.store.tables import Opening, Outcome, Refusal, RefusalStep, Round, Vote
from crypto import manifest as messages
from crypto.checks import answer_kind, takes_votes, votes_needed
from crypto.identity import verify
from crypto.plan import Roster
from crypto.wire import Message, Signed

M = TypeVar("M", bound=Message)

SHARES_REFUSED: Final = "shares-refused"


def shown_ballot(row: Round) -> messages.Ballot:
    """The ballot, once it may be seen.

    Raises:
        NotFound: not yet, or never.
    """
    _check_shown(row)
    return ballot_of(row)


def in_ballot(row: Round, site: UUID) -> bool:
    """Whether the ballot shown lists a contribution of the site. Raises NotFound as `shown_ballot`."""
    return any(signed["message"]["site"] == str(site) for signed in ballot_json(row)["manifests"])


def ballot_json(row: Round) -> dict[str, Any]:
    """The ballot as it is kept. Raises NotFound as `shown_ballot`."""
    _check_shown(row)
    return row.ballot or {}


def _check_shown(row: Round) -> None:
    if row.ballot is None or row.opened is None:
        raise NotFound("There is no ballot of this attempt yet. The task (GET .../task) says when there is.")


def vote(session: Session, row: Round, site: UUID, signed: Signed[messages.Vote], now: float) -> None:
    """Count a site's vote for the ballot shown.

    Raises:
        NotAMember, NotFound: not on the roster; no ballot yet.
        MessageRefused: for another ballot, or by another site.
        InvalidSignature: not signed by the site.
        Conflict: the attempt has ended.
    """
    check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    if same_answer(session.get(Vote, (row.id, site)), signed, messages.Vote):
        return
    check_opening(row)
    session.add(Vote(round_id=row.id, site_id=site, signed=signed.to_json(), received=now))
    log(session, row, site, "vote.cast", {"ballot": row.ballot_digest}, now)


def votes(session: Session, row: Round) -> list[dict[str, Any]]:
    """All Signed[Vote] for the ballot, by site."""
    rows = session.scalars(select(Vote).where(Vote.round_id == row.id))
    return [vote.signed for vote in sorted(rows, key=lambda vote: vote.site_id.bytes)]


def answer(session: Session, row: Round, site: UUID, signed: Signed[messages.Answer], now: float) -> None:
    """Take a site's answer to the ballot, of the kind that opens one under the plan's scheme.

    Raises:
        VotesMissing: fewer than more than half of the roster have voted, where votes come first.
        AnswerDiffers: this site gave another one.
        NotAMember, NotFound, MessageRefused, InvalidSignature, Conflict: as for `vote`.
    """
    check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    plan = plan_of(row)
    if plan.release == "members":
        raise MessageRefused("In this study what opens a sum stays with the members: nothing of it was kept here.")
    if not isinstance(signed.message, answer_kind(plan)):
        raise MessageRefused(f"A ballot under {plan.scheme} is answered with a {answer_kind(plan).kind_name}.")
    if same_answer(session.get(Opening, (row.id, site)), signed, answer_kind(plan)):
        return
    check_opening(row)
    if takes_votes(plan.scheme):
        check_voted(session, row)
    session.add(Opening(round_id=row.id, site_id=site, signed=signed.to_json(), received=now, rejection=None))
    log(session, row, site, "opening.given", {"ballot": row.ballot_digest}, now)


def check_voted(session: Session, row: Round) -> None:
    """Raise VotesMissing unless more than half of the roster voted for the ballot."""
    needed, cast = votes_needed(roster_of(row)), len(votes(session, row))
    if cast < needed:
        raise VotesMissing(
            f"{cast} of at least {needed} votes for this ballot are in. No site opens before: wait for the task.",
            {"votes": cast, "needed": needed},
        )


def openings(session: Session, row: Round) -> list[dict[str, Any]]:
    """All signed answers to the ballot, by site."""
    rows = session.scalars(select(Opening).where(Opening.round_id == row.id))
    return [each.signed for each in sorted(rows, key=lambda each: each.site_id.bytes)]


def note_blob(session: Session, place: Place, digest: str, size: int) -> None:
    """Note a part of an answer that lies in the blob store.

    Raises:
        PartDiffers: another one is, under this number.
        Conflict: the attempt has ended.
    """
    if already_there(session, place, digest):
        return
    check_opening(session.get_one(Round, place.round_id))
    add_part(session, place, digest, size)


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
    if _note_refusal(session, row, site, refusal.step, signed, now):
        detail = {"step": refusal.step, "code": refusal.code, "words": refusal.words}
        log(session, row, site, "refusal.given", detail, now)


def refuse_shares(session: Session, row: Round, site: UUID, signed: Signed[messages.ShareRefusal], now: float) -> None:
    """Note that shares sealed to a site do not open, with the names of those who sealed them.

    Raises:
        NotAMember, NotFound, MessageRefused, InvalidSignature: as for `vote`.
    """
    check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    if _note_refusal(session, row, site, "opening", signed, now):
        senders = [str(sender) for sender in signed.message.senders]
        log(session, row, site, "refusal.given", {"step": "opening", "code": SHARES_REFUSED, "senders": senders}, now)


def refusal(row: Refusal, roster: Roster) -> dict[str, str]:
    """A refusal as people read it: site, step, code, words. One of shares names their senders.

    What is no printable character is a space: a site's words go to terminals, and no database column holds a NUL.
    """
    said = row.signed["message"]
    if "senders" in said:
        names = {str(member.site): member.name for member in roster.members}
        senders = ", ".join(names.get(sender, sender) for sender in said["senders"])
        words = f"shares sealed to it do not open, those of {senders}"
        return {"site": said["site"], "step": row.step, "code": SHARES_REFUSED, "words": words}
    words = "".join(letter if letter.isprintable() else " " for letter in said["words"])
    return {"site": said["site"], "step": said["step"], "code": said["code"], "words": words}


def _note_refusal(session: Session, row: Round, site: UUID, step: RefusalStep, signed: Signed[M], now: float) -> bool:
    """Whether it is the site's first of this step."""
    if session.get(Refusal, (row.id, site, step)) is not None:
        return False
    session.add(Refusal(round_id=row.id, site_id=site, step=step, signed=signed.to_json(), received=now))
    return True


def check_answer(row: Round, site: UUID, signed: Signed[M], named: UUID, ballot: str) -> None:
    """Raise unless a site of the roster signed this in its own name (`named`), about the ballot shown (`ballot`).

    Raises:
        NotAMember, NotFound, MessageRefused, InvalidSignature: as for `vote`.
    """
    public = check_on_roster(row, site)
    _check_shown(row)
    verify(public, signed)
    if named != site or ballot != row.ballot_digest:
        raise MessageRefused("This answer is to another ballot, or names another site than the one that sends it.")


def check_opening(row: Round) -> None:
    """Raise Conflict unless the attempt still takes answers."""
    if row.state != "opening":
        raise Conflict(f"Round {row.number}, attempt {row.attempt}, is {row.state} and takes no answers any more.")


def same_answer(row: Vote | Opening | Outcome | None, signed: Signed[M], kind: type[M]) -> bool:
    """Whether this very message is in; Ed25519 signatures are deterministic, but the message is what counts."""
    if row is None:
        return False
    if kind.from_json(row.signed["message"]).digest != signed.message.digest:
        raise AnswerDiffers("This site gave another answer to this ballot; that one stays.")
    return True
