"""Leases: one holder at a time, noticed when lost, resting after errors."""

from __future__ import annotations

import threading
from uuid import UUID, uuid4

import pytest

from coordinator.store import leases, models
from coordinator.store.database import Store
from coordinator.store.leases import LeaseLost
from coordinator.store.tables import Round, Study

DIGEST, ROUND = "ab" * 32, UUID(int=1)
NOW, SECONDS = 100.0, 15.0


@pytest.fixture
def store(store: Store) -> Store:
    store.run("make", make)
    return store


def make(session) -> None:
    models.register(session, DIGEST, 10, DIGEST, DIGEST, 1.0, None)
    study = Study(
        id=uuid4(),
        name="lungs",
        scheme="lwe-ckks",
        release="open",
        weighting="samples",
        minimum_contributors=3,
        rounds=2,
        collect_seconds=10,
        vote_seconds=10,
        open_seconds=10,
        k_max=16,
        n_max=100,
        recipe={},
        recipe_digest=DIGEST,
        layout={},
        layout_digest=DIGEST,
        bounds=[1.0],
        first_model=DIGEST,
        current_model=DIGEST,
        created=1.0,
    )
    session.add(study)
    session.flush()
    values = {"plan": {}, "plan_digest": DIGEST, "roster": {}, "base_model": DIGEST, "started": 1.0}
    session.add(Round(id=ROUND, study_id=study.id, number=1, attempt=1, kind="training", **values))


def take(store: Store, owner: str = "one", now: float = NOW):
    return store.run("take", lambda s: leases.take(s, ROUND, owner, now, SECONDS))


def row(store: Store) -> Round:
    return store.read("row", lambda s: s.get_one(Round, ROUND))


def test_one_holder_at_a_time(store: Store) -> None:
    lease = take(store)
    assert lease is not None
    assert (row(store).lease_owner, row(store).lease_token) == ("one", lease.token)
    assert take(store, "two", NOW + SECONDS - 1) is None
    store.run("release", lambda s: leases.release(s, lease))
    assert row(store).lease_owner is None
    assert take(store, "two") is not None


def test_no_lease_on_what_is_not_there(store: Store) -> None:
    assert store.run("take", lambda s: leases.take(s, uuid4(), "one", NOW, SECONDS)) is None


def test_a_lease_that_ran_out_is_taken_over_and_its_holder_notices(store: Store) -> None:
    first = take(store)
    second = take(store, "two", NOW + SECONDS)
    assert second is not None
    assert second.attempts == 2
    for write in (
        lambda s: leases.check(s, first),
        lambda s: leases.release(s, first),
        lambda s: leases.renew(s, first, NOW, SECONDS),
        lambda s: leases.release_after_error(s, first, NOW),
    ):
        with pytest.raises(LeaseLost):
            store.run("too late", write)
    assert row(store).lease_token == second.token
    store.run("check", lambda s: leases.check(s, second))


def test_what_a_former_holder_writes_is_not_kept(store: Store) -> None:
    first = take(store)
    take(store, "two", NOW + SECONDS)

    def late(session) -> None:
        session.get_one(Round, ROUND).add_seconds = 5.0
        session.flush()
        leases.check(session, first)

    with pytest.raises(LeaseLost):
        store.run("late", late)
    assert row(store).add_seconds is None


def test_renewing_keeps_it(store: Store) -> None:
    lease = take(store)
    store.run("renew", lambda s: leases.renew(s, lease, NOW + 10, SECONDS))
    assert take(store, "two", NOW + SECONDS + 1) is None
    assert take(store, "two", NOW + 10 + SECONDS) is not None


def test_after_an_error_the_round_rests_longer_each_time_and_success_forgets(store: Store) -> None:
    now, rests = NOW, []
    for _ in range(9):
        lease = take(store, now=now)
        assert lease is not None
        store.run("error", lambda s, held=lease, at=now: leases.release_after_error(s, held, at))
        rests.append(row(store).due - now)
        assert take(store, now=row(store).due - 0.01) is None
        now = row(store).due
    assert rests == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    lease = take(store, now=now)
    store.run("release", lambda s: leases.release(s, lease))
    again = take(store, now=now)
    assert again is not None
    assert again.attempts == 1


def test_of_many_at_once_one_gets_it(store: Store) -> None:
    got = []
    barrier = threading.Barrier(6)

    def contend(owner: str) -> None:
        barrier.wait()
        lease = take(store, owner)
        if lease is not None:
            got.append(lease.owner)

    threads = [threading.Thread(target=contend, args=(f"worker-{number}",)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 1
    assert row(store).lease_owner == got[0]
