"""What members of a study released to its members only send of a ballot: answers sealed to each other, and outcomes.

Nothing here opens a sum. Everything is idempotent, as in `coordinator.store.answers`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.errors import AnswerDiffers, MessageRefused, PartsMissing
from coordinator.rounds.states import Derived
from coordinator.rounds.steps import largest
from coordinator.store.answers import check_answer, check_opening, check_voted, same_answer
from coordinator.store.contributions import Place, add_part, find_part, log
from coordinator.store.kept import plan_of, roster_of
from coordinator.store.tables import Opening, Round
from coordinator.store.tables import Outcome as Row
from crypto.checks import takes_votes
from crypto.layout import Layout
from crypto.outcome import Outcome, SealedAnswer
from crypto.plan import Plan
from crypto.wire import Signed

ENVELOPE_BYTES: Final = 2**16  # a signed sum of shares has some 24,000 bytes


def check_may_seal(session: Session, row: Round, site: UUID) -> None:
    """Raise unless this site may still send or replace envelopes of its answer.

    Raises:
        MessageRefused: answers to this ballot are not sealed.
        AnswerDiffers: the answer is in; its envelopes stay.
        Conflict: the attempt has ended.
    """
    check_opening(row)
    if not _seals(plan_of(row)):
        raise MessageRefused("Only under lwe-shamir, in a study released to its members, answers are sealed to them.")
    if session.get(Opening, (row.id, site)) is not None:
        raise AnswerDiffers("This site's sealed answer to the ballot is in; its envelopes stay as they are.")


def note_envelope(session: Session, place: Place, digest: str, size: int) -> None:
    """Note an envelope that lies in the blob store, in place of a former one: each sealing gives other bytes.

    Raises: as `check_may_seal`.
    """
    check_may_seal(session, session.get_one(Round, place.round_id), place.site)
    part = find_part(session, place)
    if part is None:
        add_part(session, place, digest, size)
    else:
        part.digest, part.size = digest, size


def answer(session: Session, row: Round, site: UUID, signed: Signed[SealedAnswer], now: float) -> None:
    """Take a sealed answer, whose envelopes are here.

    Raises:
        PartsMissing: listing the envelopes that are not.
        MessageRefused: answers are not sealed here, or not one for each member.
        AnswerDiffers, NotAMember, NotFound, InvalidSignature, Conflict: as `coordinator.store.answers.vote`.
    """
    check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    if same_answer(session.get(Opening, (row.id, site)), signed, SealedAnswer):
        return
    check_may_seal(session, row, site)
    envelopes, members = signed.message.envelopes, len(roster_of(row).members)
    if len(envelopes) != members:
        raise MessageRefused(f"An answer is sealed to each of the {members} members, this one to {len(envelopes)}.")
    parts = [find_part(session, Place(row.id, site, "sealed", number)) for number in range(members)]
    missing = [n for n, part in enumerate(parts) if part is None or part.digest != envelopes[n]]
    if missing:
        raise PartsMissing(
            f"{len(missing)} of the envelopes it lists are not here. Send them, then the answer again.",
            {"missing": missing},
        )
    session.add(Opening(round_id=row.id, site_id=site, signed=signed.to_json(), received=now, rejection=None))
    log(session, row, site, "answer.sealed", {"ballot": row.ballot_digest}, now)


def give(session: Session, row: Round, site: UUID, signed: Signed[Outcome], layout: Layout, now: float) -> None:
    """Take what a member made of the ballot itself.

    Raises:
        MessageRefused: this study's sums are opened by the coordinator, or the outcome does not fit plan and layout.
        VotesMissing: fewer than more than half of the roster have voted, where votes come first.
        AnswerDiffers, NotAMember, NotFound, InvalidSignature, Conflict: as `coordinator.store.answers.vote`.
    """
    check_answer(row, site, signed, signed.message.site, signed.message.ballot)
    _check_fit(plan_of(row), layout, signed.message)
    if same_answer(session.get(Row, (row.id, site)), signed, Outcome):
        return
    check_opening(row)
    if takes_votes(row.plan["scheme"]):
        check_voted(session, row)
    session.add(Row(round_id=row.id, site_id=site, signed=signed.to_json(), received=now))
    log(session, row, site, "outcome.given", {"ballot": row.ballot_digest, "model": signed.message.model}, now)


def everyone(session: Session, row: Round) -> list[dict[str, Any]]:
    """All Signed[Outcome] of the ballot, by site."""
    return [each.signed for each in sorted(_rows(session, row.id), key=lambda each: each.site_id.bytes)]


def derived(session: Session, row: Round) -> tuple[Derived, ...]:
    """The same as `rounds.steps` takes it, in the order in which they came in."""
    return tuple(Derived(each.site_id, _message(each).content, each.received) for each in _rows(session, row.id))


def of_content(session: Session, round_id: UUID, content: str) -> tuple[Outcome, list[Outcome]]:
    """The outcome of that content, and those of another."""
    found = [_message(each) for each in _rows(session, round_id)]
    return next(each for each in found if each.content == content), [each for each in found if each.content != content]


def shown(session: Session, row: Round) -> list[dict[str, Any]]:
    """For people: what each member derived, and whether that is what most did."""
    rows = _rows(session, row.id)
    content, _ = largest(derived(session, row))
    messages = [_message(each) for each in rows]
    return [{"site": str(each.site), "model": each.model, "agrees": each.content == content} for each in messages]


def _rows(session: Session, round_id: UUID) -> Sequence[Row]:
    return session.scalars(select(Row).where(Row.round_id == round_id).order_by(Row.received, Row.site_id)).all()


def _message(row: Row) -> Outcome:
    return Outcome.from_json(row.signed["message"])


def _seals(plan: Plan) -> bool:
    return plan.release == "members" and not takes_votes(plan.scheme)


def _check_fit(plan: Plan, layout: Layout, outcome: Outcome) -> None:
    if plan.release != "members":
        raise MessageRefused("In this study the coordinator opens the sum: it takes no outcomes.")
    training = plan.kind == "training"
    if (outcome.model is not None, outcome.size is not None) != (training, training):
        raise MessageRefused("A training round has a model and its size, an evaluation round neither.")
    if (len(outcome.clipped), len(outcome.recipe)) != (len(layout.tensors), layout.counts_size):
        raise MessageRefused(
            f"The layout has {len(layout.tensors)} tensors and {layout.counts_size} counts, this outcome "
            f"{len(outcome.clipped)} and {len(outcome.recipe)}."
        )
