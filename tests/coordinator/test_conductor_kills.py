"""Conductors that are killed at every step of a round, or work side by side: each step is done once."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path
from uuid import UUID

import pytest
from conducted_federation import Federation, actions, with_server
from fuses import Fuse, Killed
from sqlalchemy import select

from coordinator.clock import FakeClock
from coordinator.conductor import LEASE_SECONDS
from coordinator.store import audit
from coordinator.store.tables import Opening, Round, Vote


def ended(federation: Federation) -> bool:
    return federation.rounds()[0].swept is not None


def go_through(federation: Federation) -> None:
    """Sites answer whatever the newest attempt asks of them, until the first one has ended and is swept."""
    for _ in range(12):
        federation.conductor.advance_once()
        if ended(federation):
            return
        row = federation.rounds()[0]
        if row.state == "opening":
            federation.store.run("sites", lambda s: answer(federation, s))
    raise AssertionError(f"round is still {federation.rounds()[0].state}")


def answer(federation: Federation, session) -> None:
    """Votes and openings that are not in yet. They were signed before, so each copy of the federation has the same."""
    row = session.scalars(select(Round)).first()
    for vote in SAVED["votes"]:
        if session.get(Vote, (row.id, UUID(vote["message"]["site"]))) is None:
            site = UUID(vote["message"]["site"])
            session.add(Vote(round_id=row.id, site_id=site, signed=vote, received=federation.clock.now()))
    if row.openers and session.get(Opening, (row.id, UUID(row.openers[0]["site"]))) is None:
        site = UUID(row.openers[0]["site"])
        session.add(Opening(round_id=row.id, site_id=site, signed=SAVED["opening"], received=federation.clock.now()))


SAVED: dict = {}


@pytest.fixture(scope="module")
def contributed(tmp_path_factory) -> Path:
    """A federation whose first attempt has all contributions, and answers of its sites as they will give them."""
    root = tmp_path_factory.mktemp("contributed")
    federation = Federation.fresh(root, recipe=with_server("fedyogi"))  # so that its state is killed in between too
    federation.advance()
    federation.contribute()
    federation.store.close()
    copy = copied(root, tmp_path_factory.mktemp("rehearsal") / "copy", Fuse())
    copy.advance()
    copy.vote()
    copy.advance()
    copy.open()
    SAVED["votes"] = copy.store.read("votes", lambda s: [vote.signed for vote in s.scalars(select(Vote))])
    SAVED["opening"] = copy.store.read("opening", lambda s: s.scalars(select(Opening)).one().signed)
    copy.store.close()
    return root


def copied(source: Path, target: Path, fuse: Fuse) -> Federation:
    shutil.copytree(source, target)
    return Federation(target, FakeClock(), fuse)


def outcome(federation: Federation) -> tuple:
    row, study = federation.rounds()[0], federation.study()
    stored = federation.metrics(row)
    figures = (study.bounds, stored.counts, stored.derived)
    return row.state, row.model, row.server_state, study.current_model, study.completed, *figures


def test_killed_at_every_step_the_next_conductor_ends_the_round_alike(contributed, tmp_path) -> None:
    undisturbed = copied(contributed, tmp_path / "undisturbed", Fuse())
    go_through(undisturbed)
    expected, told = outcome(undisturbed), actions(undisturbed)
    boundaries = undisturbed.store.fuse.passed
    undisturbed.store.close()
    assert expected[0] == "complete"
    assert boundaries > 25
    states = set()
    for number in range(1, boundaries + 1):
        federation = copied(contributed, tmp_path / str(number), Fuse(number))
        with pytest.raises(Killed):
            go_through(federation)
        states.add(federation.rounds()[0].state)
        federation.conductor = federation.another_conductor()
        held = federation.rounds()[0]
        if held.lease_token is not None:  # the dead one's lease has to run out first
            federation.conductor.advance_once()
            assert (federation.rounds()[0].state, federation.rounds()[0].lease_token) == (held.state, held.lease_token)
        federation.clock.advance(LEASE_SECONDS)
        go_through(federation)
        assert outcome(federation) == expected, f"killed at {number}"
        assert actions(federation)[: len(told)] == told, f"killed at {number}"
        assert federation.left_over() == []
        assert federation.server_states() == [expected[2]]
        assert federation.store.read("verify", audit.verify) >= len(told)
        federation.store.close()
        shutil.rmtree(tmp_path / str(number))
    assert states == {"collecting", "aggregating", "opening", "complete"}


def test_two_conductors_on_one_database_do_each_step_once(contributed, tmp_path) -> None:
    federation = copied(contributed, tmp_path / "copy", Fuse())
    workers = [federation.another_conductor() for _ in range(3)]
    for _ in range(12):
        threads = [threading.Thread(target=worker.advance_once) for worker in workers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if ended(federation):
            break
        if federation.rounds()[0].state == "opening":
            federation.store.run("sites", lambda s: answer(federation, s))
    told = [action for action in actions(federation) if action.startswith("round.")]
    once = ["round.planned", "round.closed", "round.ballot-shown", "round.opener-asked", "round.complete"]
    assert told[: len(once)] == once
    assert told[len(once) :] in ([], ["round.planned"])
    federation.store.close()
