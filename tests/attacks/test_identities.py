"""Attacks (h), (i) and (j): strangers' keys where members' keys belong, and a study key that no member made."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from forging import Json, keys_of, member_with, roster_with, stranger
from staged import TASK, Federation, Seat

from crypto import envelope, epochs
from crypto.canonical import sha256
from crypto.ckks_secret import SecretContext
from crypto.epoch import EpochRecord
from crypto.identity import Identity
from crypto.plan import Member, Roster
from crypto.wire import Signed
from participant.policy import Policy

if TYPE_CHECKING:
    from conftest import Stage

MEMBERS = r"GET /v1/studies/[^/]+/roster$"
POLICIES = [pytest.param(Policy(peers="auto"), id="auto"), pytest.param(Policy(peers="ask"), id="ask")]


def ask_for_members(federation: Federation) -> None:
    """Every task names another list than the one that agents know: else they would not ask for it."""
    federation.hostile.change(TASK, lambda found: found | {"members": "0" * 64})


def list_also(federation: Federation, *members: Member) -> None:
    """Name these among the study's members, and as lacking its key; whom it is asked for does not matter."""
    dealer = str(federation.seats[0].id)

    def task(found: Json) -> Json:
        lacking = [*found["epoch"]["missing"], *[str(member.site) for member in members]]
        return found | {"epoch": found["epoch"] | {"missing": lacking, "dealer": dealer}}

    federation.hostile.change(MEMBERS, lambda found: roster_with(Roster.from_json(found), *members).to_json())
    ask_for_members(federation)
    federation.hostile.change(TASK, task)


def compared_by_telephone(federation: Federation) -> None:
    """Every member approved every other, as `pleura-participant approve` does."""
    for seat in federation.seats:
        for peer in federation.seats:
            key = peer.identity.public.fingerprint
            seat.loop.desk.site.record.approve(federation.study, peer.id, key)


def until_dealt(federation: Federation) -> None:
    federation.go_on(lambda: bool(federation.hostile.sent(r"PUT .*/epoch$")), "a key")


def member(federation: Federation, seat: Seat) -> Member:
    found = federation.server.http.get(f"/v1/studies/{federation.study}/roster").json()
    return next(each for each in Roster.from_json(found).members if each.site == seat.id)


# --- (h)


@pytest.mark.parametrize("policy", POLICIES)
def test_h_a_stranger_on_the_plans_roster(stage: Stage, scheme: str, policy: Policy) -> None:
    federation, thief, name = stage(scheme, "planned", policy=policy), Identity.generate(), uuid4()
    start = federation.mark()
    roster = roster_with(federation.roster, stranger(thief, name))
    federation.offer(*federation.altered(federation.plan, roster))
    federation.look()
    federation.assert_nothing_sealed(start)
    assert federation.opened_by(thief, name) == []
    words = "stranger is on the roster and was not approved here with these keys: .* Compare by telephone"
    federation.assert_refused("peer-not-approved", words, since=start)


def test_h_a_stranger_among_those_the_key_is_dealt_to(stage: Stage) -> None:
    federation, thief, name = stage("lwe-ckks", "founded", policy=Policy(peers="ask")), Identity.generate(), uuid4()
    compared_by_telephone(federation)
    list_also(federation, stranger(thief, name))
    until_dealt(federation)
    federation.go_on(lambda: bool(federation.rows()), "a plan")
    federation.look()
    assert federation.opened_by(thief, name) == []
    assert federation.opened_by(federation.seats[0].identity) != []
    federation.assert_said("stranger waits for approval: .* Compare by telephone")
    start, roster = federation.mark(), roster_with(federation.roster, stranger(thief, name))
    federation.offer(*federation.altered(federation.plan, roster, attempt=2))
    federation.look()
    federation.assert_nothing_sealed(start, attempt=2)
    federation.assert_refused("peer-not-approved", "stranger is on the roster and was not approved here", since=start)


@pytest.mark.parametrize("policy", POLICIES)
def test_h_a_members_keys_changed_before_the_key_is_dealt(stage: Stage, policy: Policy) -> None:
    """The name is known and was approved; the keys are the attacker's."""
    federation, thief = stage("lwe-ckks", "founded", policy=policy), Identity.generate()
    compared_by_telephone(federation)
    replaced = federation.seats[3]
    list_also(federation, member_with(member(federation, replaced), **keys_of(thief)))
    federation.look()
    until_dealt(federation)
    federation.look()
    assert federation.opened_by(thief) == []
    words = "site-4 shows other keys than those approved here.* compare by telephone"
    federation.assert_refused("peer-changed", words, *federation.seats[:3], posted=False)


# --- (i)


def a_key_of_ones_own(federation: Federation, identity: Identity, dealer: UUID) -> epochs.Dealt:
    """A new epoch, made with care: wrapped for every member, and the coordinator keeps the secret."""
    dealt = epochs.deal(identity, dealer, federation.study, 2, federation.roster)
    offer_key(federation, dealt.record, dealt.public_context, dealt.wraps)
    return dealt


def offer_key(federation: Federation, record: Signed[EpochRecord], public: bytes, wraps: dict[UUID, bytes]) -> None:
    for blob in (public, *wraps.values()):
        federation.hostile.answer(rf"GET .*/keys/{sha256(blob)}$", blob)
    plan, _ = federation.altered(federation.plan, epoch=record.message.digest)
    task = {"plan": plan.to_json(), "epoch": {"state": "current", "number": 2, "dealer": None, "missing": []}}
    task["epoch"] |= {"record": record.to_json(), "additions": []}
    federation.hostile.change(TASK, lambda found: found | task)


def assert_not_taken(federation: Federation, start: int, record: Signed[EpochRecord]) -> None:
    federation.assert_nothing_sealed(start)
    for seat in federation.seats:
        assert not seat.loop.desk.site.keyring.holds(federation.study, record.message.digest)


def test_i_a_key_in_a_members_name(stage: Stage) -> None:
    federation = stage("lwe-ckks", "planned")
    start = federation.mark()
    dealt = a_key_of_ones_own(federation, Identity.generate(), federation.seats[1].id)
    federation.look()
    federation.look()
    assert_not_taken(federation, start, dealt.record)
    federation.assert_refused("invalid-signature", "not by the site with the fingerprint", posted=False)


def test_i_a_key_dealt_by_a_stranger(stage: Stage) -> None:
    federation, name = stage("lwe-ckks", "planned"), uuid4()
    start = federation.mark()
    dealt = a_key_of_ones_own(federation, Identity.generate(), name)
    federation.look()
    federation.look()
    assert_not_taken(federation, start, dealt.record)
    federation.assert_refused("key-of-a-stranger", f"made or passed on by {name}, which was not appr", posted=False)


def test_i_a_key_of_another_study(stage: Stage) -> None:
    """All sites hold it, for a study that the attacker is a member of."""
    federation, secret, elsewhere = stage("lwe-ckks", "planned"), SecretContext.generate(), "ab" * 32
    for seat in federation.seats:
        seat.loop.desk.site.keyring.keep(uuid4(), elsewhere, secret, secret.public_bytes())
    start = federation.mark()
    federation.offer(*federation.altered(federation.plan, epoch=elsewhere))
    federation.look()
    federation.look()
    federation.assert_nothing_sealed(start)
    federation.assert_said("waiting for the study's key")


def test_i_a_key_that_was_replaced(stage: Stage) -> None:
    """A site that left still has it; with the coordinator it would open what is sealed under it."""
    federation = stage("lwe-ckks", "planned")
    former = federation.server.http.get(f"/v1/studies/{federation.study}/epoch").json()
    dealer = federation.seats[1]
    former_plan = federation.plan
    dealt = epochs.deal(dealer.identity, dealer.id, federation.study, 2, federation.roster)
    federation.hostile.swallow(r"PUT .*/(parts|key-parts)/\d+$")
    offer_key(federation, dealt.record, dealt.public_context, dealt.wraps)
    federation.look()
    for seat in federation.seats:
        assert seat.loop.desk.site.keyring.holds(federation.study, dealt.record.message.digest)
    again, _ = federation.altered(former_plan, attempt=2)
    federation.hostile.change(TASK, lambda found: found | {"plan": again.to_json(), "epoch": former})
    start = federation.mark()
    federation.look()
    federation.assert_nothing_sealed(start, attempt=2)
    federation.assert_refused("epoch-old", "the plan is for a key that was replaced", since=start)
    federation.assert_said("the key of epoch 1 was offered again after that of epoch 2")


def test_i_a_members_record_with_another_context(stage: Stage) -> None:
    """The record and its wraps are genuine; what is published as its public half is the attacker's."""
    federation, own = stage("lwe-ckks", "founded"), SecretContext.generate().public_bytes()
    federation.hostile.answer(r"GET .*/keys/", own)
    until_dealt(federation)
    start = federation.mark()
    federation.look()
    (dealing,) = federation.hostile.sent(r"PUT .*/epoch$")
    others = [seat for seat in federation.seats if seat.id != dealing.site]
    federation.assert_refused("wrong-digest", "does not have the SHA-256", *others, posted=False)
    assert federation.hostile.sent(r"GET .*/keys/", *[seat.id for seat in others])
    for seat in others:
        assert not seat.loop.desk.site.keyring.holds(federation.study, federation.epoch_digest())
    federation.look()
    federation.assert_nothing_sealed(start, *others)


def test_i_a_wrap_of_another_key(stage: Stage) -> None:
    """A member that colludes signs for a public context of the coordinator's, and hands out a secret of its own."""
    federation = stage("lwe-ckks", "planned")
    colluder, honest = federation.seats[3], federation.seats[:3]
    start, own = federation.mark(), SecretContext.generate().public_bytes()
    dealt = epochs.deal(colluder.identity, colluder.id, federation.study, 2, federation.roster)
    wraps = {seat.id: rewrapped(colluder, seat, dealt.secret, own) for seat in federation.seats}
    listed = [{"recipient": str(site), "sha256": sha256(blob)} for site, blob in sorted(wraps.items())]
    record = EpochRecord.from_json(dealt.record.message.to_json() | {"context": sha256(own), "wraps": listed})
    offer_key(federation, colluder.identity.sign(record), own, wraps)
    federation.look(*honest)
    federation.look(*honest)
    assert_not_taken(federation, start, colluder.identity.sign(record))
    federation.assert_refused("wrap-refused", "site-4 passed on a key .* that is none here", *honest, posted=False)


def rewrapped(sender: Seat, recipient: Seat, secret: SecretContext, context: bytes) -> bytes:
    return envelope.seal(
        recipient.identity.public, secret.secret_bytes(), epochs.WRAP_LABEL, sha256(context), sender.id, recipient.id
    )


# --- (j)


def test_j_an_hpke_key_swapped_after_approval(stage: Stage) -> None:
    """On the members' list only the half that others seal to is changed; the signatures stay good."""
    federation, thief = stage("lwe-ckks", "planned"), Identity.generate()
    replaced, others = federation.seats[3], federation.seats[:3]
    start = federation.mark()
    list_also(federation, member_with(member(federation, replaced), hpke_key=keys_of(thief)["hpke_key"]))
    federation.look()
    assert federation.opened_by(thief) == []
    words = "site-4 shows other keys than those approved here.* compare by telephone"
    federation.assert_refused("peer-changed", words, *others, posted=False)
    federation.assert_refused("own-keys-differ", "with keys that are not its own", replaced, posted=False)
    approvals = federation.hostile.sent(r"PUT .*/approval$", *[seat.id for seat in others], since=start)
    assert {str(replaced.id) in each.message()["peers"] for each in approvals} == {False}


def test_j_an_hpke_key_swapped_in_the_plans_roster(stage: Stage, scheme: str) -> None:
    federation, thief = stage(scheme, "planned"), Identity.generate()
    replaced, others = federation.seats[3], federation.seats[:3]
    entry = federation.roster.member(replaced.id)
    assert entry is not None
    start = federation.mark()
    roster = roster_with(federation.roster, member_with(entry, hpke_key=keys_of(thief)["hpke_key"]))
    federation.offer(*federation.altered(federation.plan, roster))
    federation.look()
    federation.assert_nothing_sealed(start)
    assert federation.opened_by(thief) == []
    federation.assert_refused("peer-not-approved", "site-4 is on the roster", *others, since=start)
    federation.assert_refused("own-keys-differ", "with keys that are not its own", replaced, since=start)


def test_j_the_dealers_own_keys_swapped(stage: Stage) -> None:
    """A dealer wraps the key for itself, too: with the keys that the members' list has for it."""
    federation = stage("lwe-ckks", "founded")
    thieves = {seat.id: Identity.generate() for seat in federation.seats}
    federation.look()  # everybody approved everybody, with their own keys
    for seat in federation.seats:
        entry = member_with(member(federation, seat), **keys_of(thieves[seat.id]))
        federation.hostile.change(
            MEMBERS, lambda found, entry=entry: roster_with(Roster.from_json(found), entry).to_json(), seat.id
        )
    ask_for_members(federation)
    for _ in range(3):
        federation.look()
        federation.conductor.advance_once()
    assert [name for thief in thieves.values() for name in federation.opened_by(thief)] == []
    assert federation.hostile.sent(r"PUT .*/epoch$") == []
    federation.assert_refused("own-keys-differ", "with keys that are not its own", posted=False)
