"""A coordinator in trouble of its own: a disk that is full or loses parts, a broken round, a database that is away."""

from __future__ import annotations

import threading
from uuid import uuid4

import conducted_federation
import pytest
from conducted_federation import SITES, STUDY
from sqlalchemy import select

from coordinator.errors import Busy, DiskFull
from coordinator.store.blobs import part_key
from coordinator.store.tables import Approval, Epoch, Membership, Round, Study

federation = conducted_federation.federation


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_part_lost_on_our_disk_fails_the_attempt_before_any_ballot(federation, damage) -> None:
    federation.advance()
    federation.contribute()
    key = part_key(federation.newest().id, SITES[1], "body", 0)
    if damage == "gone":
        federation.blobs.delete(key)
    else:
        federation.blobs.put_bytes(key, bytes(federation.blobs.size(key)))
    federation.advance()
    failed, again = federation.rounds()
    assert key in failed.reason
    assert (again.number, again.attempt) == (1, 2)


def test_a_full_disk_delays_the_round_and_loses_nothing(federation, monkeypatch, caplog) -> None:
    federation.advance()
    federation.contribute()

    def full(*_: object) -> None:
        raise DiskFull("The coordinator's disk is full.")

    monkeypatch.setattr(federation.blobs, "put_bytes", full)
    assert federation.conductor.advance_once()
    assert "disk is full" in caplog.text
    row = federation.newest()
    assert (row.state, row.lease_token) == ("aggregating", None)
    assert not federation.conductor.advance_once()  # it rests
    monkeypatch.undo()
    federation.clock.advance(2)
    federation.advance()
    assert federation.newest().state == "opening"
    assert federation.newest().lease_attempts == 0


def test_a_measurement_that_fails_holds_nothing_up(federation, caplog) -> None:
    """The step was done; whoever counts is only told less."""
    federation.advance()
    federation.contribute()
    read = federation.store.read

    def away(name, fn):
        if name == "read times":
            raise ConnectionError("the database is away")
        return read(name, fn)

    federation.store.read = away
    federation.advance()
    assert federation.newest().state == "opening"
    levels = {record.levelname for record in caplog.records if "away" in record.getMessage()}
    assert levels == {"WARNING"}
    assert "a step failed" not in caplog.text


def test_a_database_too_busy_to_put_a_round_off_holds_no_other_up(federation, monkeypatch, caplog) -> None:
    federation.advance()
    federation.contribute()
    run = federation.store.run

    def busy(name, fn):
        if name in ("close round", "put round off"):
            raise Busy("The database is busy.")
        return run(name, fn)

    monkeypatch.setattr(federation.store, "run", busy)
    assert federation.conductor.advance_once()
    assert "is not put off" in caplog.text


def test_one_broken_round_does_not_hold_up_another_study(federation, caplog) -> None:
    federation.advance()
    broken = federation.newest().id
    federation.store.run("break", lambda s: setattr(s.get_one(Round, broken), "plan", {"no": "plan"}))
    other = uuid4()

    def second_study(session) -> None:
        columns = {column.key: getattr(session.get_one(Study, STUDY), column.key) for column in Study.__table__.columns}
        session.add(Study(**columns | {"id": other, "name": "second"}))
        session.flush()
        for table in (Membership, Approval, Epoch):
            for row in session.scalars(select(table)).all():
                values = {column.key: getattr(row, column.key) for column in table.__table__.columns}
                fresh = {"record_digest": "cd" * 32} if table is Epoch else {}
                session.add(table(**values | {"study_id": other} | fresh))

    federation.store.run("second", second_study)
    federation.conductor.advance_once()
    assert f"round {broken}: a step failed" in caplog.text
    assert [row.study_id for row in federation.rounds() if row.id != broken] == [other]
    caplog.clear()
    federation.conductor.advance_once()
    assert caplog.text == ""  # it rests, and does not fill the log


def test_long_work_breaks_off_when_the_process_ends_and_gives_its_lease_back(federation) -> None:
    federation.advance()
    federation.contribute()
    put = federation.blobs.put_bytes

    def put_and_stop(key, data):
        federation.conductor.stop()
        return put(key, data)

    federation.blobs.put_bytes = put_and_stop
    federation.conductor.advance_once()
    row = federation.newest()
    assert (row.state, row.add_seconds, row.lease_token) == ("aggregating", None, None)
    federation.blobs.put_bytes = put
    federation.conductor = federation.another_conductor()
    federation.advance()
    assert federation.newest().state == "opening"


def test_the_thread_plans_by_itself_and_ends_when_told(federation) -> None:
    planned = threading.Event()
    run = federation.store.run

    def watched(name, fn):
        value = run(name, fn)
        if name == "plan round":
            planned.set()
        return value

    federation.store.run = watched
    federation.conductor.start()
    assert planned.wait(30)
    federation.conductor.stop()
    assert all(thread.name != "conductor" for thread in threading.enumerate())
    assert federation.newest().state == "collecting"


def test_the_loop_survives_a_database_that_is_away(federation, caplog) -> None:
    read, tries, again = federation.store.read, [], threading.Event()

    def away(name, fn):
        tries.append(name)
        if len(tries) == 1:
            raise ConnectionError("the database is away")
        again.set()
        return read(name, fn)

    federation.store.read = away
    federation.conductor.start()
    assert again.wait(30)
    federation.conductor.stop()
    assert "the conductor could not look for work" in caplog.text
