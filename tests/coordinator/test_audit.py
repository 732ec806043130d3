"""The audit log: chained, verified, and written with what it tells."""

from __future__ import annotations

import pytest
from sqlalchemy import delete, select, update

from coordinator.store import audit
from coordinator.store.audit import AuditBroken
from coordinator.store.database import Store
from coordinator.store.tables import Audit
from crypto.canonical import canonical, sha256
from crypto.errors import Malformed


def fill(store: Store, number: int) -> None:
    for index in range(number):
        store.run("append", lambda s, i=index: audit.append(s, 100.0 + i, "conductor", "round.closed", {"round": i}))


def test_rows_are_numbered_and_chained(store: Store) -> None:
    fill(store, 5)
    rows = store.read("rows", lambda s: audit.rows_after(s, 0))
    assert [row.seq for row in rows] == [1, 2, 3, 4, 5]
    assert rows[0].previous == audit.GENESIS
    assert [row.previous for row in rows[1:]] == [row.hash for row in rows[:-1]]
    assert [row.seq for row in store.read("rows", lambda s: audit.rows_after(s, 3))] == [4, 5]
    assert store.read("verify", audit.verify) == 5


def test_the_hash_is_that_of_the_canonical_row(store: Store) -> None:
    fill(store, 1)
    [row] = store.read("rows", lambda s: audit.rows_after(s, 0))
    content = {"action": "round.closed", "actor": "conductor", "detail": {"round": 0}, "previous": "0" * 64, "seq": 1}
    assert row.hash == sha256(canonical(content | {"time": 100}))


def test_an_empty_log_is_whole(store: Store) -> None:
    assert store.read("verify", audit.verify) == 0


CHANGES = {
    "time": {"time": 0.0},
    "actor": {"actor": "operator:mallory"},
    "action": {"action": "round.failed"},
    "detail": {"detail": {"round": 77}},
    "hash": {"hash": "0" * 63 + "1"},
}


@pytest.mark.parametrize("changed", CHANGES)
def test_a_changed_row_is_found(store: Store, changed: str) -> None:
    fill(store, 4)
    store.run("tamper", lambda s: s.execute(update(Audit).where(Audit.seq == 3).values(**CHANGES[changed])))
    with pytest.raises(AuditBroken, match="broken at row 3") as caught:
        store.read("verify", audit.verify)
    assert caught.value.seq == 3


def test_a_removed_row_is_found(store: Store) -> None:
    fill(store, 4)
    store.run("tamper", lambda s: s.execute(delete(Audit).where(Audit.seq == 2)))
    with pytest.raises(AuditBroken) as caught:
        store.read("verify", audit.verify)
    assert caught.value.seq == 2


def test_a_row_rewritten_with_a_fitting_hash_breaks_the_next(store: Store) -> None:
    fill(store, 4)

    def forge(session) -> None:
        row = session.get_one(Audit, 2)
        row.detail = {"round": 77}
        row.hash = audit._hash(row)

    store.run("tamper", forge)
    with pytest.raises(AuditBroken) as caught:
        store.read("verify", audit.verify)
    assert caught.value.seq == 3


def test_nothing_is_logged_when_the_transaction_fails(store: Store) -> None:
    def fails(session) -> None:
        audit.append(session, 1.0, "conductor", "round.closed", {})
        raise RuntimeError("something after it")

    with pytest.raises(RuntimeError):
        store.run("fails", fails)
    assert store.read("rows", lambda s: s.scalars(select(Audit)).all()) == []


def test_a_detail_that_is_not_json_is_refused(store: Store) -> None:
    with pytest.raises(Malformed):
        store.run("append", lambda s: audit.append(s, 1.0, "conductor", "x", {"value": float("nan")}))
