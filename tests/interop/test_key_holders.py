"""Dealers that are lost, and holders that pass on wraps that are none: others take their place."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from membership_steps import Enrol, Look, deal, epoch_of, record_of, take_turns
from tiny_federation import Server, wait_until

from coordinator.store import epochs as epoch_store
from crypto import epochs
from crypto.canonical import sha256
from crypto.ckks_secret import SecretContext
from crypto.epoch import EpochRecord, Wrap, WrapAddition
from crypto.identity import Identity
from participant.agent import StudyLoop
from participant.steps.peers import tend_peers


def test_a_dealer_lost_before_publishing_is_replaced(
    server: Server, enrol: Enrol, study: Any, look: Look, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = study(expected_sites=3)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    by_id = {str(loop.desk.site.me): hospital for loop, hospital in zip(look(*hospitals), hospitals, strict=True)}
    lost = epoch_of(server, made)["dealer"]
    assert lost == str(min(map(UUID, by_id), key=lambda site: site.bytes))
    del by_id[lost]  # and looks no more
    monkeypatch.setattr(epoch_store, "DEAL_SECONDS", 1.0)

    def dealt() -> bool:
        look(*by_id.values())
        return epoch_of(server, made)["record"] is not None

    wait_until(dealt, "another member to deal")
    record = record_of(server, made)
    assert str(record.dealer) in by_id
    assert {str(wrap.recipient) for wrap in record.wraps} == {*by_id, lost}, "it is away, not gone"


def test_a_dealer_lost_before_a_newcomers_wrap_is_replaced(
    server: Server, enrol: Enrol, study: Any, look: Look
) -> None:
    made = study(expected_sites=3)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    dealer, *others = deal(server, made, look, hospitals)
    newcomer = enrol(4)
    (loop,) = look(newcomer)
    me = loop.desk.site.me
    assert epoch_of(server, made)["missing"] == [str(me)]
    for other in others:
        take_turns(look, other, 3)
    look(newcomer)
    record = record_of(server, made)
    assert loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    (received,) = newcomer.events("key-received")
    assert received["sender"] != str(record.dealer)
    passed = [event for other in others for event in other.events("key-passed-on")]
    assert [event["name"] for event in passed] == ["site-4"], "one holder, and not all of them"
    assert not dealer.events("key-passed-on")
    assert epoch_of(server, made)["missing"] == []


# --- wraps that are none


def garbage(holder: StudyLoop, record: EpochRecord, newcomer: Any) -> bytes:
    return b"\x5a" * 60_000


def another_key(holder: StudyLoop, record: EpochRecord, newcomer: Any) -> bytes:
    site = holder.desk.site
    return epochs.extend(site.identity, site.me, record, SecretContext.generate(), newcomer)[1]


def sealed_to_another(holder: StudyLoop, record: EpochRecord, newcomer: Any) -> bytes:
    site, public = holder.desk.site, Identity.generate().public
    keys = {"signing_key": public.signing_key.hex(), "hpke_key": public.hpke_key.hex()}
    stranger = newcomer.model_copy(update=keys)
    return epochs.extend(site.identity, site.me, record, site.keyring.secret(record.study, record.digest), stranger)[1]


@pytest.mark.parametrize("bad", [garbage, another_key, sealed_to_another])
def test_a_bad_first_wrap_does_not_keep_a_newcomer_out(
    server: Server, enrol: Enrol, study: Any, look: Look, monkeypatch: pytest.MonkeyPatch, bad: Any
) -> None:
    made = study(expected_sites=3)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    deal(server, made, look, hospitals)
    newcomer = enrol(4)
    (loop,) = look(newcomer)
    (culprit,) = look(hospitals[0], times=0)
    record, site = record_of(server, made), culprit.desk.site
    member = site.client.roster(record.study).member(loop.desk.site.me)
    tend_peers(culprit.desk)  # nobody passes a key on before approving
    assert epoch_of(server, made)["missing"] == [str(member.site)]
    wrap = bad(culprit, record, member)
    site.client.put_key(record.study, "wrap", wrap)
    listed = Wrap(recipient=member.site, sha256=sha256(wrap))
    addition = WrapAddition(epoch=record.digest, holder=site.me, wrap=listed)
    site.client.add_wrap(record.study, site.identity.sign(addition))
    look(newcomer, times=2)
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    (refusal,) = [event for event in newcomer.events("refusal") if event["code"] == "wrap-refused"]
    assert refusal["words"].startswith("site-1 passed on a key")
    assert epoch_of(server, made)["missing"] == []
    monkeypatch.setattr(epoch_store, "WRAP_SECONDS", 0.0)
    assert epoch_of(server, made)["missing"] == [str(member.site)]
    take_turns(look, hospitals[0], 3)
    assert not hospitals[0].events("key-passed-on"), "whose wrap did not open makes no other"
    take_turns(look, hospitals[1], 3)
    look(newcomer)
    assert loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    assert epoch_of(server, made)["missing"] == []
