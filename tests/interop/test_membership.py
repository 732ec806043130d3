"""Members leave, are suspended, come back, or are away for a while: real agents against the real coordinator."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import numpy as np
import pytest
from membership_steps import (
    Enrol,
    Gate,
    Look,
    audited,
    epoch_of,
    finished,
    key_blob,
    operate,
    record_of,
    run,
    secret_of,
)
from sqlalchemy.orm import Session
from tiny_federation import Server, wait_until

from coordinator.store import sites
from crypto.ckks_public import PublicContext
from crypto.errors import OpeningRefused
from participant.ledger import Ledger
from participant.session import Problem


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
