"""A site that lost its keys is enrolled and approved again, and the former keys are of no more use."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from membership_steps import Enrol, Gate, audited, epoch_of, finished, key_blob, operate, record_of, run, secret_of
from tiny_federation import Hospital, Server, TinyTrainer, wait_until

from crypto import epochs
from crypto.checks import check_manifest, check_reply
from crypto.ckks_public import PublicContext
from crypto.errors import InvalidSignature, OpeningRefused, WrongDigest, WrongRecipient
from crypto.identity import Identity, verify
from crypto.manifest import Ballot, Manifest, Vote
from crypto.plan import Plan, Roster
from crypto.wire import Signed
from participant.ledger import Ledger
from participant.session import Problem
from participant.settings import Home
from participant.setup import enrolment_of


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
