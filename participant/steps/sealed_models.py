"""Models that only members hold: ask for the current one where it lacks, pass it on to approved members that ask."""

from __future__ import annotations

import hashlib
import logging
from http import HTTPStatus
from typing import Final
from uuid import UUID

from crypto import envelope
from crypto.canonical import check_digest, sha256
from crypto.errors import CryptoError, Malformed
from crypto.identity import PublicIdentity, verify
from crypto.outcome import SealedModel
from crypto.plan import Member, Roster
from crypto.wire import Signed
from participant.documents import Task
from participant.policy import Refused
from participant.session import Problem
from participant.steps.desk import Desk

MODEL_LABEL: Final = "pleura/model/v1"
TURN_SECONDS: Final = 20.0  # after which the next holder passes a model on, if it is still wanted


class SealedModels:
    """One study's models, between this site and its peers."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._asked: set[str] = set()
        self._given: set[tuple[str, UUID]] = set()
        self._noticed: dict[tuple[str, UUID], float] = {}
        if desk.study.release == "members":
            desk.site.record.agree_first(desk.study.id, desk.study.first_model)

    def ready(self, model: str) -> bool:
        """Whether this site may train on the model, and has it or can fetch it."""
        first, site = self._desk.study.first_model, self._desk.site
        return site.record.agreed(self._desk.study.id, model) and (model == first or site.models.holds(model))

    def tend(self, task: Task, approved: Roster) -> None:
        """See to the study's current model.

        Args:
            approved: the members that this site approved, itself included.
        """
        model = self._current(task)
        if self._desk.study.release != "members" or model == self._desk.study.first_model:
            return  # the operator uploaded that one: it is served to all
        try:
            if not self.ready(model):
                self._get(task, model, approved)
                return
            if self._desk.site.me in task.model_wanted:
                self._desk.site.client.withdraw_request(self._desk.study.id, model)
            for site in task.model_wanted:
                member = approved.member(site)
                if site != self._desk.site.me and member is not None and self._is_my_turn(task, model, site, approved):
                    self._give(model, member)
        except Problem as problem:  # the study has a new model, the peer found another, no room: news will tell
            self._desk.say(f"the model {model[:12]}... was not passed on: {problem.detail}", logging.WARNING)

    def _current(self, task: Task) -> str:
        if task.plan is not None:
            return task.plan.base_model
        return (task.last.model if task.last is not None else None) or self._desk.study.first_model

    # --- to this site

    def _get(self, task: Task, model: str, approved: Roster) -> None:
        site, study = self._desk.site, self._desk.study.id
        for sealed in site.client.sealed_models(study, model) if task.model_offers else ():
            if self._take(sealed, model, approved):
                site.client.withdraw_request(study, model)
                return
        if model not in self._asked:
            site.client.request_model(study, model)
            self._asked.add(model)
            self._desk.say(f"asked the members for the model {model[:12]}..., which the coordinator does not have")

    def _take(self, sealed: Signed[SealedModel], model: str, approved: Roster) -> bool:
        """Whether this envelope held the model. The refusal names who sealed what does not."""
        desk, site, holder = self._desk, self._desk.site, approved.member(sealed.message.holder)
        if holder is None:
            desk.say_once(f"{sealed.message.holder} sealed a model to this site and was not approved here")
            return False
        try:
            message = verify(PublicIdentity.of_member(holder), sealed)
            if (message.study, message.model, message.recipient) != (desk.study.id, model, site.me):
                raise Malformed("it is another model, or sealed to another site")
            data = envelope.open(
                site.identity, site.client.model_envelope(message), MODEL_LABEL, model, holder.site, site.me
            )
            check_digest(data, model, "what the envelope holds")
        except CryptoError as error:
            words = f"{holder.name} passed on a model that is none here: {error}; another member's is awaited"
            desk.refuse(Refused("sealed-model-refused", words), sealed.message.digest)
            return False
        site.models.keep(desk.study.id, model, data)
        site.record.agree(desk.study.id, model)
        desk.note("model-received", model=model, sender=str(holder.site), name=holder.name)
        desk.say(f"has the model {model[:12]}... from {holder.name}")
        return True

    # --- to others

    def _is_my_turn(self, task: Task, model: str, recipient: UUID, approved: Roster) -> bool:
        """Holders seal in an order of their own for each member, the next one only if the model is still wanted."""
        if (model, recipient) in self._given:
            return False
        holders = [each.site for each in approved.members if each.site not in task.model_wanted]
        seed = bytes.fromhex(model) + recipient.bytes
        order = sorted(holders, key=lambda holder: hashlib.sha256(seed + holder.bytes).digest())
        now = self._desk.site.clock()
        waited = now - self._noticed.setdefault((model, recipient), now)
        return waited >= order.index(self._desk.site.me) * TURN_SECONDS

    def _give(self, model: str, member: Member) -> None:
        desk, site, study = self._desk, self._desk.site, self._desk.study.id
        data = site.models.fetch(site.client, model).read_bytes()
        sealed = envelope.seal(PublicIdentity.of_member(member), data, MODEL_LABEL, model, site.me, member.site)
        message = SealedModel(study=study, model=model, holder=site.me, recipient=member.site, sha256=sha256(sealed))
        try:
            site.client.put_sealed_model(site.identity.sign(message), sealed)
        except Problem as problem:
            if problem.status == HTTPStatus.CONFLICT:  # sealed before a restart, or not wanted any more
                self._given.add((model, member.site))
            raise
        self._given.add((model, member.site))
        desk.note("model-passed-on", model=model, site=str(member.site), name=member.name)
        desk.say(f"passed the model {model[:12]}... on to {member.name}")
