"""Members come, leave, fall silent and lose their keys: real agents against the real coordinator."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tiny_federation as tiny
from sqlalchemy.orm import Session
from tiny_federation import Hospital, Server, TinyTrainer, wait_until
from typer.testing import CliRunner

from coordinator.cli import app as coordinator_app
from coordinator.store import epochs as epoch_store
from coordinator.store import sites
from crypto import epochs
from crypto.canonical import sha256
from crypto.checks import check_manifest, check_reply
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.epoch import EpochRecord, Wrap, WrapAddition
from crypto.errors import InvalidSignature, OpeningRefused, WrongDigest, WrongRecipient
from crypto.identity import Identity, verify
from crypto.manifest import Ballot, Manifest, Vote
from crypto.plan import Plan, Roster
from crypto.wire import Signed
from participant.agent import StudyLoop
from participant.cli import app
from participant.ledger import Ledger
from participant.session import Problem
from participant.settings import Home
from participant.setup import enrolment_of
from participant.steps.epochs import TURN_SECONDS
from participant.steps.peers import tend_peers

Enrol = Callable[..., Hospital]
Look = Callable[..., list[StudyLoop]]


class Gate:
    """Holds a site's training of one round until it is opened."""

    def __init__(self, number: int) -> None:
        self.number, self.reached, self.open = number, threading.Event(), threading.Event()

    def __call__(self, number: int) -> None:
        if number == self.number:
            self.reached.set()
            self.open.wait(60)

    def let_go(self, hospital: Hospital) -> None:
        """End an agent in the middle of that training, which then finds itself called off."""
        assert self.reached.wait(60)
        hospital.stop()
        self.open.set()


@pytest.fixture
def enrol(server: Server, tmp_path: Path) -> Iterator[Enrol]:
    made: list[Hospital] = []

    def make(number: int, **trainer: Any) -> Hospital:
        made.append(tiny.make_hospital(tmp_path, server.url, server.invite(), number, **trainer))
        return made[-1]

    yield make
    for hospital in made:
        hospital.stop()


@pytest.fixture
def study(server: Server, tmp_path: Path) -> Callable[..., str]:
    def make(**wishes: Any) -> str:
        tiny.save_first_model(tmp_path / "first.safetensors")
        return str(server.create_study(tmp_path / "first.safetensors", **wishes)["id"])

    return make


def run(home: Home, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--home", str(home.path), *arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def operate(server: Server, *arguments: str) -> str:
    """`pleura-coordinator`, beside the running service; its standard output."""
    folder = str(server.services.settings.data_dir)
    result = CliRunner().invoke(coordinator_app, [*arguments, "--data-dir", folder])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def epoch_of(server: Server, study: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.http.get(f"/v1/studies/{study}/epoch").raise_for_status().json()
    return answer


def key_blob(server: Server, study: str, digest: str) -> bytes:
    return server.services.blobs.read(f"keys/{study}/{digest}")


def audited(server: Server, action: str) -> list[dict[str, Any]]:
    return [row for row in server.http.get("/v1/audit?after=0").json() if row["action"] == action]


def finished(server: Server, study: str) -> Callable[[], bool]:
    return lambda: bool(server.study(study)["state"] == "finished")


def secret_of(home: Home) -> SecretContext:
    (file,) = home.keys.glob("*/*.secret")
    return SecretContext.load(file.read_bytes())


def current_number(server: Server, study: str) -> int | None:
    epoch = epoch_of(server, study)
    return epoch["number"] if epoch["record"] is not None else None


def record_of(server: Server, study: str) -> EpochRecord:
    return Signed[EpochRecord].from_json(epoch_of(server, study)["record"]).message


def deal(server: Server, study: str, look: Look, hospitals: list[Hospital]) -> list[Hospital]:
    """Have the asked member deal the key to all three, and all of them hold it; the dealer first."""
    loops = look(*hospitals)
    look(*hospitals, times=3)
    assert epoch_of(server, study)["number"] == 1
    dealer = record_of(server, study).dealer
    assert all(loop.desk.site.keyring.holds(loop.desk.study.id, record_of(server, study).digest) for loop in loops)
    by_id = {loop.desk.site.me: hospital for loop, hospital in zip(loops, hospitals, strict=True)}
    return [by_id.pop(dealer), *by_id.values()]


@pytest.fixture
def look() -> Iterator[Callable[..., list[StudyLoop]]]:
    """`look(*hospitals)` makes their loops, all of them members, and lets each look at its task, one after another.

    Not the agents' threads: a test decides who looks when, and what time it is there.
    """
    with contextlib.ExitStack() as stack:
        loops: dict[Path, StudyLoop] = {}

        def look(*hospitals: Hospital, clock: float = 0.0, times: int = 1) -> list[StudyLoop]:
            for hospital in hospitals:
                if hospital.home.path not in loops:
                    loops[hospital.home.path] = stack.enter_context(hospital.loop())
            chosen = [loops[hospital.home.path] for hospital in hospitals]
            for loop in chosen * times:
                loop.desk.site = replace(loop.desk.site, clock=lambda: clock)
                loop.look()
            return chosen

        yield look


def take_turns(look: Look, hospital: Hospital, holders: int) -> None:
    """A holder looks at so many times of the day that every holder's turn is among them."""
    for turn in range(holders):
        look(hospital, clock=turn * TURN_SECONDS)


# --- leaving, suspension, silence


@pytest.mark.parametrize("how", ["leaves", "suspended"])
def test_who_is_gone_opens_nothing_of_the_next_key(server: Server, enrol: Enrol, study: Any, how: str) -> None:
    made = study(expected_sites=3, minimum_contributors=2, rounds=2, collect_seconds=6)
    gates = [Gate(2), Gate(2), Gate(2)]
    hospitals = [enrol(number, hook=gate) for number, gate in enumerate(gates, 1)]
    for hospital in hospitals:
        hospital.start()
    assert gates[2].reached.wait(60)
    gone, others = hospitals[2], hospitals[:2]
    old = secret_of(gone.home)
    gates[2].let_go(gone)
    if how == "leaves":
        assert "Left tiny" in run(gone.home, "leave", "tiny")
    else:
        operate(server, "site", "suspend", "site-3")
    wait_until(
        lambda: epoch_of(server, made)["record"] is not None and epoch_of(server, made)["number"] == 2, "epoch 2"
    )
    for gate in gates:
        gate.open.set()
    wait_until(finished(server, made), "the study to finish")

    last, record = server.rounds(made)[-1], record_of(server, made)
    assert {str(wrap.recipient) for wrap in record.wraps} == set(last["contributors"])
    assert len(last["contributors"]) == 2
    public = PublicContext.load(key_blob(server, made, record.context))
    with pytest.raises(OpeningRefused):
        old.decrypt_sum([public.encrypt(np.ones(2048, np.int64)) for _ in range(2)])
    with gone.open() as site, pytest.raises(Problem) as refused:
        site.client.get_key(UUID(made), record.wraps[0].sha256)
    assert refused.value.code == {"leaves": "not-a-member", "suspended": "site-suspended"}[how]
    reasons = [row["detail"]["reason"] for row in audited(server, "epoch.retired")]
    assert reasons == [{"leaves": "a member left", "suspended": "a member was suspended"}[how]]
    if how == "leaves":
        assert gone.events("left")
        assert not list(gone.home.keys.glob("*/*")), "it deleted its key"
    for hospital in others:
        assert hospital.thread is not None
        hospital.thread.join(20)
        assert not list(hospital.home.keys.glob("*/*")), "a finished study needs no key"
        assert len(hospital.events("key-deleted")) == 2
        assert Ledger(hospital.home.ledger).verify()


def test_who_leaves_while_it_trains_sends_nothing_more(server: Server, enrol: Enrol, study: Any, look: Look) -> None:
    """A person leaves in another process; the agent that trains meanwhile notices before anything of it goes out."""
    study(expected_sites=3, rounds=3)
    left = list[str]()
    hospitals = [enrol(number) for number in (1, 2, 3)]
    leaver = hospitals[0]

    def leave(number: int) -> None:
        if number == 2:  # the first round has left its agent with all that it takes to seal another
            left.append(run(leaver.home, "leave", "tiny"))

    leaver.trainer.hook = leave
    wait_until(lambda: bool(look(*hospitals)) and bool(left), "the leaver to train")
    (loop,) = look(leaver)
    assert loop.over
    assert {event["round"] for event in leaver.events("sent") if event["what"] == "manifest"} == {1}
    assert not [event for event in leaver.events("sent") if event.get("round") == 2]
    assert not list(leaver.home.keys.glob("*/*"))


def test_who_left_comes_back_when_told_to(server: Server, enrol: Enrol, study: Any) -> None:
    made, hospital = study(), enrol(1)
    members = f"/v1/studies/{made}/roster"
    run(hospital.home, "run", "--once")
    assert len(server.http.get(members).json()["members"]) == 1
    assert "pleura-participant join tiny" in run(hospital.home, "leave", "tiny")
    run(hospital.home, "run", "--once")
    assert server.http.get(members).status_code == 404, "nobody is a member"
    assert "pleura-participant run" in run(hospital.home, "join", "tiny")
    run(hospital.home, "run", "--once")
    assert len(server.http.get(members).json()["members"]) == 1


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


def test_an_offline_holder_stops_nobody(server: Server, enrol: Enrol, study: Any) -> None:
    made = study(expected_sites=3, minimum_contributors=2, rounds=3, collect_seconds=6)
    gates = [Gate(2), Gate(2), Gate(2)]
    hospitals = [enrol(number, hook=gate) for number, gate in enumerate(gates, 1)]
    for hospital in hospitals:
        hospital.start()
    gates[2].let_go(hospitals[2])

    def long_ago(session: Session) -> None:
        sites.by_reference(session, "site-3").last_seen -= 3600

    server.services.store.run("an hour passes", long_ago)
    for gate in gates:
        gate.open.set()
    wait_until(finished(server, made), "the study to finish")
    last = server.rounds(made)[-1]
    assert (len(last["contributors"]), last["attempt"]) == (2, 1)
    assert epoch_of(server, made)["number"] == 1, "who is away for a while is no reason for a new key"


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


# --- lost keys


def test_a_lost_identity_is_enrolled_and_approved_again(
    server: Server, enrol: Enrol, study: Any, tmp_path: Path
) -> None:
    made = study(expected_sites=3, rounds=2, collect_seconds=20)
    gates = [Gate(2), Gate(2), Gate(2)]
    hospitals = [enrol(number, hook=gate) for number, gate in enumerate(gates, 1)]
    for hospital in hospitals:
        hospital.start()
    assert gates[0].reached.wait(60)
    lost, peers = hospitals[0], hospitals[1:]
    gates[0].let_go(lost)
    former, old_key = Identity.load(lost.home.identity), secret_of(lost.home)
    (old_manifest,) = [entry for entry in ballot_of(server, made, 1) if verifies(former, entry)]

    # A fresh home takes the site over.
    renewed = Hospital(Home(tmp_path / "renewed"), TinyTrainer(1, hook=(gate := Gate(2))))
    wishes = ("--name", "site-1", "--coordinator", server.url, "--data", str(tmp_path), "--policy", "auto")
    run(renewed.home, "init", *wishes)
    said = run(renewed.home, "enrol", operate(server, "site", "reinvite", "site-1"))
    assert "has to approve the new" in said
    assert f"Enrolled as site {lost_id(lost)}" in said
    assert "token-invalid" in run(lost.home, "status", code=1), "the old keys are refused at once"
    assert epoch_of(server, made)["record"] is None, "and the old study key is given up"
    with renewed.loop() as loop:
        loop.look()
    assert renewed.events("memory-lost"), "it sits out the attempt under way"
    assert not [event for event in renewed.events("sent") if event["what"] in ("part", "vote", "manifest")]

    # Its peers see other keys, and go on with it only when each of them has approved these.
    words = run(renewed.home, "words").split(": ")[1]
    for peer in peers:
        wait_until(lambda peer=peer: any(event["code"] == "peer-changed" for event in peer.events("refusal")), "a no")
        (refusal,) = [event for event in peer.events("refusal") if event["code"] == "peer-changed"]
        assert words in refusal["words"]
        assert former.public.words in refusal["words"]
        assert "pleura-participant approve tiny site-1" in refusal["words"]
        shown = run(peer.home, "roster", "tiny")
        assert (
            f"NOT approved: other keys than were approved here: {words} approved were: {former.public.words}" in shown
        )
    renewed.start()
    assert "Not approved with the others" in run(peers[0].home, "approve", "tiny", "all", "--yes")
    assert "Approved site-1" in run(peers[0].home, "approve", "tiny", "site-1", "--yes")
    wait_until(lambda: not server_busy(server, made), "the attempt under way to end")
    assert epoch_of(server, made)["dealer"] is None, "one peer has not approved"
    assert "Approved site-1" in run(peers[1].home, "approve", "tiny", "site-1", "--yes")
    wait_until(lambda: epoch_of(server, made)["record"] is not None, "the next key")
    assert gate.reached.wait(60), "a round of all three begins"

    # What the former keys signed is of no use under the new plan, and they open nothing of the new key.
    plan, roster = Plan.from_json(server.rounds(made)[-1]["plan"]), roster_of(server, made)
    record, me = record_of(server, made), lost_id(lost)
    assert (record.epoch, plan.epoch) == (2, record.digest)
    resigned = former.sign(old_manifest.message.model_copy(update={"plan": plan.digest}))
    with renewed.open() as site:
        for replayed, error in ((old_manifest, WrongDigest), (resigned, InvalidSignature)):
            with pytest.raises(Problem) as refused:
                site.client.put_manifest(plan, replayed)
            assert refused.value.code == "manifest-refused"
            with pytest.raises(error):
                check_manifest(replayed, plan, roster)
    with pytest.raises(InvalidSignature):
        check_reply(former.sign(Vote(ballot="ab" * 32, site=me)), "ab" * 32, roster)
    (wrap,) = [each for each in record.wraps if each.recipient == me]
    with pytest.raises(WrongRecipient):
        epochs.unwrap(former, me, record, key_blob(server, made, wrap.sha256))
    public = PublicContext.load(key_blob(server, made, record.context))
    with pytest.raises(OpeningRefused):
        old_key.decrypt_sum([public.encrypt(np.ones(2048, np.int64))])

    for each in (*gates, gate):
        each.open.set()
    wait_until(finished(server, made), "the study to finish")
    renewed.stop()
    rows = server.rounds(made)
    assert [len(row["contributors"]) for row in rows if row["state"] == "complete"] == [3, 3, 3]
    assert [row["detail"]["name"] for row in audited(server, "site.reinvited")] == ["site-1"]
    (again,) = audited(server, "site.enrolled-again")
    assert (again["detail"]["former"], again["actor"]) == (former.public.fingerprint, f"site:{me}")
    assert [event["fingerprint"] for event in renewed.events("enrolled-again")] == [again["detail"]["fingerprint"]]
    for peer in peers:
        (approved,) = [event for event in peer.events("peer-approved") if event["how"] == "operator"]
        assert (approved["former"], approved["fingerprint"]) == (
            former.public.fingerprint,
            again["detail"]["fingerprint"],
        )
        assert Ledger(peer.home.ledger).verify()


def lost_id(hospital: Hospital) -> UUID:
    return enrolment_of(hospital.home).site


def ballot_of(server: Server, study: str, number: int) -> list[Signed[Manifest]]:
    answer = server.http.get(f"/v1/studies/{study}/rounds/{number}/1/ballot").raise_for_status()
    return list(Ballot.from_json(answer.json()).manifests)


def roster_of(server: Server, study: str) -> Roster:
    last = server.rounds(study)[-1]
    path = f"/v1/studies/{study}/rounds/{last['round']}/{last['attempt']}/roster"
    return Roster.from_json(server.http.get(path).raise_for_status().json())


def server_busy(server: Server, study: str) -> bool:
    return server.rounds(study)[-1]["state"] not in ("complete", "failed")


def verifies(identity: Identity, signed: Signed[Manifest]) -> bool:
    try:
        verify(identity.public, signed)
    except InvalidSignature:
        return False
    return True
