"""Transactions: whole or not at all, repeated when another was faster; and states that the tables refuse."""

from __future__ import annotations

import threading
from contextlib import closing
from uuid import UUID, uuid4

import pytest
from sqlalchemy import make_url, select, text
from sqlalchemy.exc import DBAPIError, IntegrityError, OperationalError

from coordinator.errors import Busy
from coordinator.store import models
from coordinator.store.database import ATTEMPTS, Store
from coordinator.store.tables import Instance, Membership, Model, Round, Site, Study

DIGEST = "ab" * 32


def make_study(**changes) -> Study:
    values = {
        "id": uuid4(),
        "name": "lungs",
        "scheme": "lwe-ckks",
        "release": "open",
        "weighting": "samples",
        "minimum_contributors": 3,
        "rounds": 2,
        "collect_seconds": 10,
        "vote_seconds": 10,
        "open_seconds": 10,
        "k_max": 16,
        "n_max": 100,
        "recipe": {},
        "recipe_digest": DIGEST,
        "layout": {},
        "layout_digest": DIGEST,
        "bounds": [1.0],
        "first_model": DIGEST,
        "current_model": DIGEST,
        "created": 1.0,
    }
    return Study(**values | changes)


def with_study(session, **changes) -> Study:
    models.register(session, DIGEST, 10, DIGEST, DIGEST, 1.0, None)
    study = make_study(**changes)
    session.add(study)
    session.flush()
    return study


def make_round(study: Study, **changes) -> Round:
    values = {
        "id": uuid4(),
        "study_id": study.id,
        "number": 1,
        "attempt": 1,
        "kind": "training",
        "plan": {},
        "plan_digest": uuid4().hex * 2,
        "roster": {},
        "base_model": DIGEST,
        "started": 1.0,
    }
    return Round(**values | changes)


def test_what_is_written_stays_and_is_readable_afterwards(store: Store) -> None:
    row = store.run("make", lambda s: s.merge(Instance(id=1, coordinator=UUID(int=5))))
    assert row.coordinator == UUID(int=5)
    assert store.read("get", lambda s: s.get_one(Instance, 1)).coordinator == UUID(int=5)


def test_nothing_stays_of_a_transaction_that_raises(store: Store) -> None:
    def fails(session) -> None:
        session.add(Instance(id=1, coordinator=uuid4()))
        session.flush()
        raise RuntimeError("later")

    with pytest.raises(RuntimeError):
        store.run("fails", fails)
    assert store.read("get", lambda s: s.get(Instance, 1)) is None


def locked() -> OperationalError:
    import sqlite3

    cause = sqlite3.OperationalError("database is locked")
    cause.sqlite_errorname = "SQLITE_BUSY"
    return OperationalError("BEGIN IMMEDIATE", None, cause)


def test_a_transaction_that_lost_is_repeated_whole(store: Store) -> None:
    tries = []

    def loses_twice(session) -> int:
        tries.append(session)
        session.add(Instance(id=1, coordinator=uuid4()))
        session.flush()
        if len(tries) < 3:
            raise locked()
        return len(tries)

    assert store.run("make", loses_twice) == 3


def test_it_is_not_repeated_for_ever_and_not_for_other_errors(store: Store) -> None:
    tries = []

    def always(session, error) -> None:
        tries.append(error)
        raise error

    with pytest.raises(Busy, match="Nothing was changed"):
        store.run("make", lambda s: always(s, locked()))
    assert len(tries) == ATTEMPTS
    with pytest.raises(DBAPIError):
        store.run("make", lambda s: s.execute(text("SELECT * FROM nothing")))
    with pytest.raises(ValueError, match="ours"):
        store.run("make", lambda s: always(s, ValueError("ours")))
    assert len(tries) == ATTEMPTS + 1


def test_writers_in_many_threads_lose_nothing(store: Store) -> None:
    store.run("make", with_study)

    def add_loss(session) -> None:
        study = session.scalars(select(Study)).one()
        study.losses += 1  # read, then written: lost without a lock from the beginning

    def work() -> None:
        for _ in range(20):
            store.run("count", add_loss)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert store.read("get", lambda s: s.scalars(select(Study)).one()).losses == 80


def test_a_reader_sees_one_moment_and_does_not_wait_for_a_writer(store: Store) -> None:
    store.run("make", with_study)

    def read(session) -> tuple[int, int]:
        before = session.scalar(select(Study.losses))
        store.run("change", lambda s: setattr(s.scalars(select(Study)).one(), "losses", 5))
        return before, session.scalar(select(Study.losses))

    assert store.read("read", read) == (0, 0)


ILLEGAL_STUDIES = {
    "a state of its own": {"state": "sleeping"},
    "a scheme of its own": {"scheme": "plain"},
    "one contributor": {"minimum_contributors": 1},
    "a minimum above k_max": {"minimum_contributors": 17},
    "fewer expected than the minimum": {"expected_sites": 2},
    "k_max above the limit": {"k_max": 1025},
    "no round": {"rounds": 0},
    "more rounds than wanted": {"completed": 3},
    "finished too early": {"state": "finished", "completed": 1},
    "a fraction of nothing": {"fraction": 0.0},
    "no time to vote": {"vote_seconds": 0},
    "an unknown model": {"first_model": "cd" * 32},
}


@pytest.mark.parametrize("what", ILLEGAL_STUDIES)
def test_illegal_studies_cannot_be_stored(store: Store, what: str) -> None:
    with pytest.raises(IntegrityError):
        store.run("make", lambda s: with_study(s, **ILLEGAL_STUDIES[what]))


BALLOT = {"ballot": {"plan": "x"}, "ballot_digest": DIGEST}
ILLEGAL_ROUNDS = {
    "collecting with a ballot": {**BALLOT, "closed": 2.0},
    "aggregating without a ballot": {"state": "aggregating"},
    "aggregating with its ballot shown": {"state": "aggregating", **BALLOT, "closed": 2.0, "opened": 3.0},
    "opening without showing the ballot": {"state": "opening", **BALLOT, "closed": 2.0},
    "complete without a model": {"state": "complete", **BALLOT, "closed": 2.0, "opened": 3.0, "ended": 4.0},
    "complete without an end": {"state": "complete", **BALLOT, "closed": 2.0, "opened": 3.0, "model": DIGEST},
    "failed without a reason": {"state": "failed", "ended": 4.0},
    "a reason without failing": {"reason": "tired"},
    "swept while collecting": {"swept": 2.0},
    "half a lease": {"lease_owner": "me"},
    "a round 0": {"number": 0},
    "a ballot without its digest": {"state": "aggregating", "ballot": {"plan": "x"}, "closed": 2.0},
}


@pytest.mark.parametrize("what", ILLEGAL_ROUNDS)
def test_illegal_rounds_cannot_be_stored(store: Store, what: str) -> None:
    study = store.run("make", with_study)
    with pytest.raises(IntegrityError):
        store.run("make", lambda s: s.add(make_round(study, **ILLEGAL_ROUNDS[what])))


def test_an_evaluation_round_makes_no_new_model(store: Store) -> None:
    study = store.run("make", with_study)
    origin = models.Origin(study.id, 1, DIGEST)
    store.run("make", lambda s: models.register(s, "cd" * 32, 10, DIGEST, DIGEST, 1.0, origin))
    ended = {"kind": "evaluation", "state": "complete", **BALLOT, "closed": 2.0, "opened": 3.0, "ended": 4.0}
    with pytest.raises(IntegrityError):
        store.run("make", lambda s: s.add(make_round(study, **ended, model="cd" * 32)))
    store.run("make", lambda s: s.add(make_round(study, **ended, model=DIGEST)))


def test_a_study_has_one_active_attempt(store: Store) -> None:
    study = store.run("make", with_study)
    store.run("make", lambda s: s.add(make_round(study, state="failed", reason="too few", ended=2.0)))
    store.run("make", lambda s: s.add(make_round(study, attempt=2)))
    with pytest.raises(IntegrityError):
        store.run("make", lambda s: s.add(make_round(study, number=2)))


def test_models_know_the_round_that_made_them_or_were_uploaded(store: Store) -> None:
    study = store.run("make", with_study)
    again = store.run("again", lambda s: models.register(s, DIGEST, 99, DIGEST, DIGEST, 9.0, None))
    assert (again.size, again.created) == (10, 1.0)
    origin = models.Origin(study.id, 3, DIGEST)
    made = store.run("make", lambda s: models.register(s, "cd" * 32, 10, DIGEST, DIGEST, 2.0, origin))
    assert (made.study_id, made.round, made.parent) == (study.id, 3, DIGEST)
    half = Model(digest="ef" * 32, size=1, layout_digest=DIGEST, recipe_digest=DIGEST, created=1.0, round=3)
    with pytest.raises(IntegrityError):
        store.run("make", lambda s: s.add(half))
    assert store.read("find", lambda s: models.find(s, "ef" * 32)) is None


def test_an_index_is_given_once_a_study(store: Store) -> None:
    study = store.run("make", with_study)

    def site(number: int) -> Site:
        text = str(number) * 64
        return Site(
            id=UUID(int=number),
            name=text,
            signing_key=text,
            hpke_key=text,
            fingerprint=text,
            enrolled=1.0,
            last_seen=1.0,
        )

    store.run("make", lambda s: s.add_all([site(1), site(2)]))
    store.run("join", lambda s: s.add(Membership(study_id=study.id, site_id=UUID(int=1), index=1, joined=1.0)))
    with pytest.raises(IntegrityError):
        store.run("join", lambda s: s.add(Membership(study_id=study.id, site_id=UUID(int=2), index=1, joined=1.0)))


def test_a_transaction_waits_for_the_disk_and_a_note_does_not(new_database) -> None:
    url = make_url(new_database())
    sqlite = url.get_backend_name() == "sqlite"
    if not sqlite:  # the tests' own server waits for no disk
        url = url.update_query_dict({"options": "-c synchronous_commit=on"})
    asked = text("PRAGMA synchronous" if sqlite else "SHOW synchronous_commit")

    def durability(session) -> object:
        return session.scalar(asked)

    with closing(Store(url.render_as_string(hide_password=False))) as store:
        found = [store.run("change", durability), store.note("note", durability), store.run("change", durability)]
    assert found == ([2, 1, 2] if sqlite else ["on", "off", "on"])
