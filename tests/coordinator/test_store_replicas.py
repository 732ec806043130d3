"""What several coordinators on one PostgreSQL may count on: turns, broken connections, requests that do not wait."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, select, text, update
from sqlalchemy.exc import OperationalError

from coordinator.errors import Busy, TokenReplayed
from coordinator.store import audit, engines, sites
from coordinator.store.database import Store
from coordinator.store.tables import Instance, SeenToken, Site

SITE = UUID(int=1)
SOON = 20.0  # seconds that a thread may take before the test gives up


@pytest.fixture
def shared(migrated_postgres: str) -> Iterator[Store]:
    store = Store(migrated_postgres, sleep=lambda _: None)
    store.run("enrol", enrol)
    yield store
    store.close()


@pytest.fixture
def other(migrated_postgres: str, shared: Store) -> Iterator[Store]:
    """Another coordinator's."""
    store = Store(migrated_postgres, sleep=lambda _: None)
    yield store
    store.close()


def enrol(session: Any) -> None:
    words = {key: key * 8 for key in ("name", "signing_key", "hpke_key")}
    session.add(Site(id=SITE, fingerprint="ab" * 32, enrolled=1.0, last_seen=1.0, **words))


def use(session: Any, site: Site, jti: str, expires: float = 160.0, now: float = 100.0) -> None:
    sites.use_token(session, site, jti, expires, now)


def read_site(store: Store) -> Site:
    return store.read("site", lambda session: session.get_one(Site, SITE))


def test_writers_take_turns_and_see_what_the_former_one_did(shared: Store, other: Store) -> None:
    began, chain, tries = threading.Event(), [], []

    def second() -> None:
        def append(session: Any) -> None:
            tries.append(1)
            chain.append(audit.append(session, 2.0, "conductor", "second", {}).seq)

        began.set()
        other.run("second", append)

    thread = threading.Thread(target=second)

    def first(session: Any) -> None:
        thread.start()
        assert began.wait(SOON)
        chain.append(audit.append(session, 1.0, "conductor", "first", {}).seq)

    shared.run("first", first)
    thread.join(SOON)
    assert (chain, tries) == ([1, 2], [1])
    assert shared.read("verify", audit.verify) == 2


def test_a_note_waits_for_no_writer(shared: Store, other: Store) -> None:
    site = read_site(shared)

    def write(session: Any) -> float:
        audit.append(session, 1.0, "conductor", "long", {})
        other.note("use token", lambda s: use(s, site, "jti"))
        return read_site(other).last_seen

    assert shared.run("long", write) == 100.0


def test_one_of_two_requests_with_one_token_is_refused(shared: Store, other: Store) -> None:
    together, said, site = threading.Barrier(2), [], read_site(shared)

    def once(store: Store) -> None:
        def note(session: Any) -> None:
            session.execute(text("SELECT 1"))
            together.wait(SOON)
            use(session, site, "same")

        try:
            store.note("use token", note)
            said.append("taken")
        except TokenReplayed:
            said.append("refused")

    threads = [threading.Thread(target=once, args=(store,)) for store in (shared, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(SOON)
    assert sorted(said) == ["refused", "taken"]


def test_tokens_are_forgotten_once_they_have_expired(store: Store) -> None:
    store.run("enrol", enrol)
    site = read_site(store)
    for number, expires in enumerate((150.0, 160.0, 170.0)):
        store.note("use", lambda s, n=number, e=expires: use(s, site, f"jti-{n}", e))
    store.note("use", lambda s: use(s, site, "later", 220.0, 165.0))
    kept = store.read("kept", lambda s: sorted(s.scalars(select(SeenToken.jti))))
    assert kept == ["jti-2", "later"]


@pytest.mark.parametrize("change", [{"state": "suspended"}, {"signing_key": "ab"}])
def test_a_site_that_changed_since_it_was_read_uses_no_token(store: Store, change: dict[str, str]) -> None:
    store.run("enrol", enrol)
    site = read_site(store)
    store.run("change", lambda s: s.execute(update(Site).values(**change)))
    with pytest.raises(sites.Changed):
        store.note("use", lambda s: use(s, site, "jti"))
    assert store.read("kept", lambda s: list(s.scalars(select(SeenToken.jti)))) == []
    store.note("use", lambda s: use(s, read_site(store), "jti"))


END_MYSELF = text("SELECT pg_terminate_backend(pg_backend_pid())")


def test_work_whose_connection_breaks_is_done_again(shared: Store) -> None:
    tries = []

    def breaks_once(session: Any) -> None:
        tries.append(1)
        audit.append(session, 1.0, "conductor", "done", {})
        if len(tries) == 1:
            session.execute(END_MYSELF)

    shared.run("breaks once", breaks_once)
    assert (len(tries), shared.read("rows", audit.verify)) == (2, 1)


def test_a_commit_that_may_have_come_through_is_not_repeated(shared: Store, other: Store) -> None:
    tries = []

    def append(session: Any) -> None:
        tries.append(1)
        audit.append(session, 1.0, "conductor", "done", {})

    def cut_off(connection: Any) -> None:
        pid = connection.connection.dbapi_connection.info.backend_pid
        other.read("end it", lambda s: s.execute(text(f"SELECT pg_terminate_backend({pid}, 5000)")))

    event.listen(shared.engine, "commit", cut_off)
    with pytest.raises(OperationalError):
        shared.run("append", append)
    assert len(tries) == 1


def test_who_finds_no_connection_free_is_told_to_come_again(
    migrated_postgres: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 0.1)
    one = Store(migrated_postgres, connections=1)
    try:
        with pytest.raises(Busy, match="connections") as told:
            one.read("outer", lambda s: (s.get(Instance, 1), one.read("inner", lambda t: t.get(Instance, 1))))
        assert told.value.fields == {"retry_after": 1}
    finally:
        one.close()


def test_waiting_writers_leave_connections_to_readers(shared: Store, migrated_postgres: str) -> None:
    few, began = Store(migrated_postgres, connections=2), threading.Semaphore(0)
    done: list[int] = []

    def write() -> None:
        began.release()
        done.append(few.run("append", lambda s: audit.append(s, 1.0, "conductor", "waited", {}).seq))

    threads = [threading.Thread(target=write) for _ in range(4)]

    def hold(session: Any) -> None:
        session.get(Site, SITE)
        for thread in threads:
            thread.start()
            assert began.acquire(timeout=SOON)
        assert few.read("look", lambda s: s.get_one(Site, SITE)).id == SITE

    shared.run("hold", hold)
    for thread in threads:
        thread.join(SOON)
    assert sorted(done) == [1, 2, 3, 4]
    few.close()


def test_options_of_the_url_are_kept_beside_the_timeouts(migrated_postgres: str) -> None:
    store = Store(f"{migrated_postgres}&options=-cwork_mem%3D5MB%20-clock_timeout%3D3s")
    shown = [store.read("show", lambda s, n=n: s.scalar(text(f"SHOW {n}"))) for n in ("work_mem", "lock_timeout")]
    idle = store.read("show", lambda s: s.scalar(text("SHOW idle_in_transaction_session_timeout")))
    assert (*shown, idle) == ("5MB", "3s", "30s")
    store.close()


def test_a_writer_that_waits_for_too_long_begins_again(
    migrated_postgres: str, shared: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "BUSY_SECONDS", 1)
    impatient = Store(migrated_postgres, sleep=lambda _: None)

    def hold(session: Any) -> None:
        session.get(Site, SITE)
        with pytest.raises(Busy, match="database is busy"):
            impatient.run("make", lambda s: s.add(Instance(id=1, coordinator=uuid4())))

    monkeypatch.setattr("coordinator.store.database.ATTEMPTS", 2)
    try:
        shared.run("hold", hold)
    finally:
        impatient.close()
