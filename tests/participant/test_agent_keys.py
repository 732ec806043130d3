"""The agent approves peers, and deals, takes and passes on a study's key, or refuses it."""

from __future__ import annotations

from dataclasses import replace

import lying_coordinator
from lying_coordinator import IDENTITIES, ME, NORTH, SOUTH, STRANGER, STUDY, Coordinator, Opened, ledgered

from crypto import epochs
from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.epoch import Approval, EpochRecord, WrapAddition
from participant.files import write_whole
from participant.policy import Policy
from participant.settings import Home, dump
from participant.steps.epochs import TURN_SECONDS

coordinator, home, start = lying_coordinator.coordinator, lying_coordinator.home, lying_coordinator.start


def test_a_dealer_makes_one_key_for_all_approved(coordinator: Coordinator, start: Opened) -> None:
    coordinator.epoch["dealer"] = str(ME)
    start().look()
    (approval,) = coordinator.messages("PUT .*/approval", Approval)
    assert approval.peers == {str(site): IDENTITIES[site].public.fingerprint for site in (NORTH, SOUTH)}
    (record,) = coordinator.messages("PUT .*/epoch$", EpochRecord)
    assert [wrap.recipient for wrap in record.wraps] == [ME, NORTH, SOUTH]
    context = PublicContext.load(coordinator.keys[record.context])
    wrap = next(wrap for wrap in record.wraps if wrap.recipient == SOUTH)
    epochs.unwrap(IDENTITIES[SOUTH], SOUTH, record, coordinator.keys[wrap.sha256]).check_pair(context)


def test_asking_comes_before_approving(coordinator: Coordinator, start: Opened, home: Home) -> None:
    write_whole(home.policy, dump(Policy(peers="ask")).encode())
    coordinator.epoch["dealer"] = str(ME)
    loop = start()
    loop.look()
    assert coordinator.messages("PUT .*/approval", Approval)[-1].peers == {}
    assert [wrap.recipient for wrap in coordinator.messages("PUT .*/epoch$", EpochRecord)[-1].wraps] == [ME]
    loop.desk.site.record.approve(STUDY, NORTH, IDENTITIES[NORTH].public.fingerprint)
    loop.look()
    assert list(coordinator.messages("PUT .*/approval", Approval)[-1].peers) == [str(NORTH)]


def test_a_peer_with_other_keys_than_before_is_refused(coordinator: Coordinator, start: Opened, home: Home) -> None:
    loop = start()
    loop.look()
    coordinator.identities[NORTH] = IDENTITIES[STRANGER]
    loop.look()
    assert list(coordinator.messages("PUT .*/approval", Approval)[-1].peers) == [str(SOUTH)]
    (refusal,) = ledgered(home, "refusal")
    assert refusal["code"] == "peer-changed"


def test_a_key_passed_on_by_a_member_is_held_and_passed_on(coordinator: Coordinator, start: Opened) -> None:
    dealt = coordinator.deal(members=(NORTH, SOUTH))
    record = dealt.record.message
    loop = start()
    loop.look()
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    addition, wrap = epochs.extend(IDENTITIES[SOUTH], SOUTH, record, dealt.secret, coordinator._member(ME))
    coordinator.keys[sha256(wrap)] = wrap
    coordinator.additions = [addition.to_json()]
    coordinator.members, coordinator.missing = (ME, NORTH, SOUTH, STRANGER), [STRANGER]
    for turn in range(3):  # of each holder once
        loop.desk.site = replace(loop.desk.site, clock=lambda turn=turn: turn * TURN_SECONDS)
        loop.look()
    assert loop.desk.site.keyring.holds(loop.desk.study.id, record.digest)
    sent = coordinator.messages("POST .*/epoch/additions", WrapAddition)
    assert {message.wrap.recipient for message in sent if message.acknowledges} == {ME}
    (added,) = [message for message in sent if not message.acknowledges]
    newcomer = epochs.unwrap(IDENTITIES[STRANGER], STRANGER, added, coordinator.keys[added.wrap.sha256])
    newcomer.check_pair(PublicContext.load(dealt.public_context))


def test_a_key_dealt_by_a_stranger_is_not_taken(coordinator: Coordinator, start: Opened) -> None:
    dealt = coordinator.deal(dealer=STRANGER, members=(ME, NORTH, SOUTH))
    loop = start()
    loop.look()
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, dealt.record.message.digest)


def test_a_key_that_does_not_fit_its_public_half_is_refused(
    coordinator: Coordinator, start: Opened, home: Home
) -> None:
    good, other = coordinator.deal(), coordinator.deal()
    mixed = good.record.message.model_copy(update={"context": other.record.message.context})
    coordinator.epoch["record"] = IDENTITIES[NORTH].sign(mixed).to_json()
    loop = start()
    loop.look()
    assert not loop.desk.site.keyring.holds(loop.desk.study.id, mixed.digest)
    assert ledgered(home, "refusal")
