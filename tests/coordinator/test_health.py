"""Whether the service lives and can serve; which part does not work is told, and nothing else about it."""

from __future__ import annotations

import dataclasses
import threading
from pathlib import Path

import pytest
from anyio import to_thread
from sqlalchemy import text

from coordinator.store.database import Store
from migrations import revisions


class Slow(Store):
    """A database that answers when it is let."""

    def __init__(self) -> None:
        super().__init__("sqlite:////nonexistent/coordinator.db")
        self.answers = threading.Event()
        self.asked = 0

    def read(self, name, fn):
        self.asked += 1
        self.answers.wait(60)


@pytest.fixture
def with_store(world):
    """Puts another database into the running app's place."""
    opened = []

    def put(store: Store) -> None:
        opened.append(store)
        broken = dataclasses.replace(world.services)
        object.__setattr__(broken, "store", store)
        world.app.state.services = broken

    yield put
    for store in opened:
        store.close()


def test_a_service_that_is_well(world) -> None:
    assert world.call("GET", "/healthz").json() == {"status": "alive"}
    ready = world.call("GET", "/readyz").json()
    assert ready == {"status": "ready", "checks": {"database": "ok", "migrations": "ok", "blobs": "ok"}}


def test_no_database(world, with_store, refused, caplog) -> None:
    with_store(Store("sqlite:////nonexistent/coordinator.db"))
    answer = world.call("GET", "/readyz")
    checks = refused(answer, 503, "not-ready")["checks"]
    assert checks == {"database": "OperationalError", "migrations": "OperationalError", "blobs": "ok"}
    assert "nonexistent" not in answer.text
    assert "not ready: OperationalError" in caplog.text
    assert world.call("GET", "/healthz").status_code == 200


def test_a_database_that_does_not_answer(world, with_store, refused) -> None:
    slow = Slow()
    with_store(slow)
    try:
        checks = refused(world.call("GET", "/readyz"), 503, "not-ready")["checks"]
    finally:
        slow.answers.set()
    assert checks["database"] == "no answer within 2 s"


def test_a_check_that_hangs_is_begun_once(world, with_store) -> None:
    """Else each call would leave a thread behind."""
    slow = Slow()
    with_store(slow)
    try:
        assert world.call("GET", "/readyz").status_code == 503
        asked = slow.asked
        for _ in range(3):
            world.clock.advance(60)
            assert world.call("GET", "/readyz").status_code == 503
        assert slow.asked == asked
    finally:
        slow.answers.set()


def test_it_needs_no_thread_that_requests_could_take(world) -> None:
    async def ready_with_all_threads_taken() -> int:
        threads = to_thread.current_default_thread_limiter()
        others = [object() for _ in range(int(threads.available_tokens))]
        for other in others:
            threads.acquire_on_behalf_of_nowait(other)
        try:
            return (await world._client.get("/readyz")).status_code
        finally:
            for other in others:
                threads.release_on_behalf_of(other)

    assert world._portal.call(ready_with_all_threads_taken) == 200


def test_what_was_found_is_shared_for_five_seconds(world, with_store) -> None:
    """Everybody may ask, and each look writes a blob."""
    assert world.call("GET", "/readyz").status_code == 200
    with_store(Store("sqlite:////nonexistent/coordinator.db"))
    world.clock.advance(4)
    assert world.call("GET", "/readyz").status_code == 200
    world.clock.advance(1)
    assert world.call("GET", "/readyz").status_code == 503


def test_a_database_of_another_version(world, refused) -> None:
    world.services.store.run("move", lambda s: s.execute(text("UPDATE alembic_version SET version_num = '0001'")))
    document = refused(world.call("GET", "/readyz"), 503, "not-ready")
    assert document["checks"]["migrations"] == f"the database is at revision 0001, this program needs {revisions()[-1]}"
    assert "database is at revision 0001" in document["detail"]


def test_blobs_that_cannot_be_written(world, refused, tmp_path: Path) -> None:
    folder = world.services.settings.blobs
    (folder / "probes").write_text("in the way")
    checks = refused(world.call("GET", "/readyz"), 503, "not-ready")["checks"]
    assert checks["blobs"] in ("FileExistsError", "NotADirectoryError")


def test_a_conductor_that_hangs(world, refused) -> None:
    world.conduct()
    assert world.call("GET", "/readyz").json()["checks"]["conductor"] == "ok"
    world.clock.advance(119)
    assert world.call("GET", "/readyz").status_code == 200
    world.clock.advance(1)
    checks = refused(world.call("GET", "/readyz"), 503, "not-ready")["checks"]
    assert checks["conductor"] == "no sign of life for 120 s"
    world.conduct()
    assert world.call("GET", "/readyz").status_code == 200
