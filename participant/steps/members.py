"""In a study released to its members, each opens the sum itself, derives the new model, and tells only its digest.

What opens a sum never reaches the coordinator: under `lwe-ckks` every member decrypts it, under `lwe-shamir` members
seal their answers to each other. Once more than half derived the same model, it is the study's.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

from crypto import envelope
from crypto.canonical import sha256
from crypto.checks import check_reply, takes_votes
from crypto.errors import CryptoError, Malformed, OpeningRefused, SharesRefused
from crypto.identity import PublicIdentity
from crypto.lanes import OpenedCounts
from crypto.manifest import Answer, Ballot, ShareOpening
from crypto.model_file import next_model
from crypto.outcome import Outcome, SealedAnswer
from crypto.plan import Plan, Roster
from crypto.schemes import Revealed, SecretSum, scheme
from crypto.wire import Signed
from participant.documents import Task
from participant.policy import Refused
from participant.session import Problem
from participant.steps.ballots import own_answer
from participant.steps.desk import Desk

ANSWER_LABEL: Final = "pleura/answer/v1"


@dataclass
class _Attempt:
    """What is known of the ballot at hand: answers of members by site, and how many of them did not open it."""

    plan: Plan
    roster: Roster
    ballot: Ballot
    answers: dict[UUID, Answer] = field(default_factory=dict)
    refused: set[UUID] = field(default_factory=set)
    tried: int = 0


class Outcomes:
    """This site's outcomes of one study, from the ballot to the coordinator's acknowledgement."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._attempt: _Attempt | None = None

    def tend(self, task: Task, plan: Plan, roster: Roster, ballot: Ballot) -> None:
        """Derive the model of a checked ballot as far as that goes now, and give this site's word for it."""
        if self._attempt is None or self._attempt.ballot.digest != ballot.digest:
            self._attempt = _Attempt(plan, roster, ballot)
        desk, attempt = self._desk, self._attempt
        try:
            outcome = desk.site.record.outcome(ballot.digest) or self._make(task, attempt)
            if outcome is not None:
                desk.site.client.give_outcome(plan, outcome)
                desk.say(f"round {plan.round}: gave its outcome of {len(ballot.manifests)} contributors")
        except (Refused, CryptoError) as error:
            desk.refuse(error, ballot.digest, "opening", plan)
        except Problem as problem:  # the attempt has ended, and with it what there was to fetch or to give
            desk.say(f"round {plan.round}: its outcome was not made or taken: {problem.detail}", logging.WARNING)

    def _make(self, task: Task, attempt: _Attempt) -> Signed[Outcome] | None:
        """This site's outcome, signed and kept, its model on the disk; None while something is still to come.

        Raises:
            Refused, CryptoError: the sum does not open here, and no answer to come would change that.
            Problem: the coordinator does not serve what it takes.
        """
        self._answer(task, attempt)
        plan, needed = attempt.plan, scheme(attempt.plan.scheme).openings_needed(attempt.plan)
        if len(attempt.answers) < max(needed, attempt.tried + 1) or not self._has_base(plan):
            return None
        try:
            revealed = self._reveal(attempt)
        except OpeningRefused as refused:
            attempt.tried = len(attempt.answers)
            if takes_votes(plan.scheme) or attempt.answers.keys() | attempt.refused >= _sites(attempt.roster):
                raise
            self._desk.say(f"round {plan.round}: {attempt.tried} answers do not open the sum ({refused}); one more may")
            return None
        return self._keep(attempt, revealed)

    def _has_base(self, plan: Plan) -> bool:
        served = plan.kind == "evaluation" or plan.base_model == self._desk.study.first_model
        if served or self._desk.site.models.holds(plan.base_model):
            return True
        self._desk.say_once(f"round {plan.round}: without its base model, this site cannot derive the next")
        return False

    def _reveal(self, attempt: _Attempt) -> Revealed:
        """The mean, from the sums that the coordinator serves."""
        desk, plan = self._desk, attempt.plan
        by_name = scheme(plan.scheme)
        opened: SecretSum = by_name.combine(plan, attempt.roster, list(attempt.answers.values()))
        totals = (desk.site.client.summed_part(plan, n) for n in range(len(by_name.part_sizes(plan, desk.layout))))
        revealed = by_name.reveal(plan, desk.layout, totals, opened.values, len(attempt.ballot.manifests))
        for site in opened.wrong:
            why = "not the one that the others determine: a fault there, or a contributor sealed it another share"
            self._blame(attempt, site, f"its answer is {why}")
        return revealed

    def _keep(self, attempt: _Attempt, revealed: Revealed) -> Signed[Outcome]:
        desk, plan, site = self._desk, attempt.plan, self._desk.site
        model, size = None, None
        if revealed.mean is not None:
            base = site.models.fetch(site.client, plan.base_model).read_bytes()
            data = next_model(base, desk.layout, revealed.mean, desk.study.recipe, plan.study, plan.round)
            model, size = sha256(data), len(data)
            site.models.keep(plan.study, model, data)
        outcome = site.record.keep_outcome(
            site.identity.sign(_outcome(attempt.ballot.digest, site.me, model, size, revealed.counts))
        )
        desk.note("outcome", plan, ballot=attempt.ballot.digest, model=outcome.message.model, size=outcome.message.size)
        return outcome

    # --- answers

    def _answer(self, task: Task, attempt: _Attempt) -> None:
        """This site's own answer and, where it takes several, those that members sealed to it."""
        desk, plan = self._desk, attempt.plan
        try:
            own = own_answer(desk, plan, attempt.roster, attempt.ballot)
        except SharesRefused as error:  # the other members' answers may open the sum all the same
            desk.refuse(error, attempt.ballot.digest, "opening", plan, error.senders)
            attempt.refused.add(desk.site.me)
            own = None
        if own is not None:
            attempt.answers[desk.site.me] = own.message
        if takes_votes(plan.scheme):
            return
        if own is not None and not task.opened:
            self._seal(attempt, own)
        for sealed in desk.site.client.sealed_answers(plan):
            if sealed.message.site not in attempt.answers.keys() | attempt.refused:
                self._take(attempt, sealed)

    def _seal(self, attempt: _Attempt, own: Signed[Answer]) -> None:
        """Seal this site's answer to every member. What was sealed before a crash is replaced."""
        desk, plan, ballot = self._desk, attempt.plan, attempt.ballot.digest
        site, content, digests = desk.site, own.encode(), []
        for place, member in enumerate(attempt.roster.members):
            public = PublicIdentity.of_member(member)
            sealed = envelope.seal(public, content, ANSWER_LABEL, ballot, site.me, member.site)
            site.client.put_part(plan, "sealed", place, sealed)
            digests.append(sha256(sealed))
        answer = SealedAnswer(ballot=ballot, site=site.me, envelopes=tuple(digests))
        site.client.seal_answer(plan, site.identity.sign(answer))
        desk.note("answer-sealed", plan, ballot=ballot, members=len(digests))
        desk.say(f"round {plan.round}: sealed its answer to {len(digests)} members")

    def _take(self, attempt: _Attempt, sealed: Signed[SealedAnswer]) -> None:
        """Open a member's answer; one that is none is put down to its sender."""
        site, ballot, roster = self._desk.site, attempt.ballot.digest, attempt.roster
        sender = sealed.message.site
        place = [member.site for member in roster.members].index(site.me)
        try:
            listed = check_reply(sealed, ballot, roster)
            if len(listed.envelopes) != len(roster.members):
                raise Malformed(f"it is sealed to {len(listed.envelopes)} of {len(roster.members)} members")
            data = site.client.answer_envelope(attempt.plan, sender, place, listed.envelopes[place])
            content = envelope.open(site.identity, data, ANSWER_LABEL, ballot, sender, site.me)
            opening = check_reply(Signed[ShareOpening].decode(content), ballot, roster)
            if opening.site != sender:
                raise Malformed(f"what it sealed is the answer of site {opening.site}")
        except CryptoError as error:
            attempt.refused.add(sender)
            self._blame(attempt, sender, f"its sealed answer is none: {error}")
            return
        attempt.answers[sender] = opening

    def _blame(self, attempt: _Attempt, site: UUID, what: str) -> None:
        desk, plan = self._desk, attempt.plan
        member = attempt.roster.member(site)
        name = member.name if member else str(site)
        about, fields = f"{attempt.ballot.digest}/{site}", {"site": str(site), "name": name, "words": what[:500]}
        desk.note_once(about, "wrong-answer", plan, ballot=attempt.ballot.digest, **fields)
        desk.say_once(f"round {plan.round}: {name}: {what}", logging.WARNING)


def _sites(roster: Roster) -> set[UUID]:
    return {member.site for member in roster.members}


def _outcome(ballot: str, me: UUID, model: str | None, size: int | None, counts: OpenedCounts) -> Outcome:
    return Outcome(
        ballot=ballot,
        site=me,
        model=model,
        size=size,
        samples=counts.samples,
        capped_samples=counts.capped_samples,
        clipped=counts.clipped,
        recipe=counts.recipe,
    )
