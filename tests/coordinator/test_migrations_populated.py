"""A database of each former revision with a row in every table is carried to the newest one, and back to none."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import JSON, Uuid, column, insert, inspect, select, table

from coordinator.store.database import Store
from coordinator.store.tables import Base
from migrations import downgrade, revisions, upgrade

STUDY, SITE, OTHER, ROUND, COORDINATOR = (UUID(int=number) for number in (1, 2, 3, 4, 5))
A, B, C, D = ("a" * 64, "b" * 64, "c" * 64, "d" * 64)
ENROLLED: Final = {"enrolled": 1.5, "last_seen": 2.5, "state": "active"}
WORD: Final = {"round_id": ROUND, "site_id": SITE, "signed": {"message": {"holder": str(SITE)}}, "received": 4.5}

# As the first revision had them, and what came later; columns that a revision lacks are left out there.
ROWS: Final[list[tuple[str, dict[str, Any]]]] = [
    ("instance", {"id": 1, "coordinator": COORDINATOR}),
    ("operators", {"name": "anna", "token_hash": A, "role": "operator", "created": 1.0, "expires": None}),
    ("sites", {"id": SITE, "name": "one", "signing_key": "1", "hpke_key": "1", "fingerprint": A, **ENROLLED}),
    ("sites", {"id": OTHER, "name": "two", "signing_key": "2", "hpke_key": "2", "fingerprint": B, **ENROLLED}),
    ("invitations", {"hash": A, "note": "ward 3", "created": 1.0, "expires": 2.0, "used_by": SITE}),
    ("seen_tokens", {"site_id": SITE, "jti": "j", "expires": 3.5}),
    ("models", {"digest": A, "size": 2**33, "layout_digest": B, "recipe_digest": C, "created": 1.0}),
    ("studies", {
        "id": STUDY, "name": "lungs", "state": "running", "scheme": "lwe-ckks", "release": "open",
        "weighting": "samples", "minimum_contributors": 2, "rounds": 3, "completed": 1, "losses": 0,
        "collect_seconds": 60, "vote_seconds": 60, "open_seconds": 60, "k_max": 8, "n_max": 100, "fraction": 0.5,
        "recipe": {"name": "r"}, "recipe_digest": B, "layout": {"tensors": []}, "layout_digest": C,
        "bounds": [0.1, 1e-7], "first_model": A, "current_model": A, "created": 1.25,
    }),
    ("memberships", {"study_id": STUDY, "site_id": SITE, "index": 1, "joined": 1.0, "left": None}),
    ("approvals", {"study_id": STUDY, "site_id": SITE, "signed": {"message": {}}, "received": 2.0}),
    ("epochs", {"study_id": STUDY, "number": 1, "record": {"message": {}}, "record_digest": A, "context_digest": B,
                "dealer": SITE, "created": 2.0, "retired": None}),
    ("wrap_additions", {"study_id": STUDY, "epoch": 1, "recipient": OTHER, "holder": SITE,
                        "signed": {"message": {"holder": str(SITE)}}, "received": 3.0}),
    ("key_blobs", {"study_id": STUDY, "sha256": A, "size": 10, "site_id": SITE, "stored": 2.0}),
    ("rounds", {"id": ROUND, "study_id": STUDY, "number": 1, "attempt": 1, "kind": "training", "state": "opening",
                "plan": {"round": 1}, "plan_digest": A, "roster": {"members": []}, "base_model": A,
                "ballot": {"manifests": []}, "ballot_digest": B, "openers": [{"site": str(SITE), "asked": 5.0}],
                "started": 1.0, "closed": 2.0, "opened": 3.0, "due": 0.0, "lease_attempts": 0}),
    ("contributions", {"round_id": ROUND, "site_id": SITE, "manifest": {"message": {}}, "completed": 2.0,
                       "received": 2**34}),
    ("parts", {"round_id": ROUND, "site_id": SITE, "kind": "body", "number": 0, "digest": A, "size": 8}),
    ("votes", WORD),
    ("openings", {**WORD, "rejection": None}),
    ("refusals", {**WORD, "step": "ballot"}),
    ("study_refusals", {"study_id": STUDY, "site_id": OTHER, "signed": {"message": {}}, "received": 4.0}),
    ("outcomes", WORD),
    ("spot_checks", WORD),
    ("site_evaluations", {**WORD, "derived": {"auc": 0.75}}),
    ("model_requests", {"study_id": STUDY, "model": A, "site_id": SITE, "asked": 1.0}),
    ("sealed_models", {"study_id": STUDY, "model": A, "recipient": SITE, "holder": OTHER, "signed": {},
                       "received": 1.0}),
    ("metrics", {"round_id": ROUND, "counts": {"samples": 3}, "derived": {"auc": 0.5}}),
    ("audit", {"seq": 1, "time": 1.0, "actor": "operator:anna", "action": "invite", "detail": {"note": "n"},
               "previous": D, "hash": C}),
    ("logins", {"hash": A, "token_hash": A, "expires": 9.5}),
    ("webhooks", {"id": OTHER, "url": "https://a", "secret": "s", "events": ["round.complete"], "created": 1.0,
                  "seen": 0}),
    ("deliveries", {"webhook_id": OTHER, "seq": 1, "tries": 0, "due": 2.0}),
    ("chores", {"name": "sweep", "begun": 7.5}),
]  # fmt: skip


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Any) -> str:
    return f"sqlite:///{tmp_path}/c.db" if request.param == "sqlite" else request.getfixturevalue("postgres_database")


def test_every_table_has_a_row() -> None:
    assert {name for name, _ in ROWS} == set(Base.metadata.tables), "give a table that is new a row here"


def _type(value: object) -> Any:
    return Uuid() if isinstance(value, UUID) else JSON() if isinstance(value, dict | list) else None


def _table(name: str, row: dict[str, Any]) -> Any:
    return table(name, *(column(key, _type(value)) for key, value in row.items()))


def populate(url: str) -> list[tuple[str, dict[str, Any]]]:
    """A row in every table that the revision has; returns what was inserted."""
    store, inserted = Store(url), []
    with store.engine.begin() as connection:
        there = inspect(connection)
        for name, values in ROWS:
            if there.has_table(name):
                known = {each["name"] for each in there.get_columns(name)}
                row = {key: value for key, value in values.items() if key in known}
                connection.execute(insert(_table(name, row)), row)
                inserted.append((name, row))
    store.close()
    return inserted


def lost(url: str, rows: list[tuple[str, dict[str, Any]]]) -> list[tuple[str, dict[str, Any]]]:
    """Rows of those that are not there any more as they were."""
    store = Store(url)
    with store.engine.connect() as connection:
        missing = [(name, row) for name, row in rows if row not in _all(connection, name, row)]
    store.close()
    return missing


def _all(connection: Any, name: str, row: dict[str, Any]) -> list[dict[str, Any]]:
    return [dict(each) for each in connection.execute(select(_table(name, row))).mappings()]


@pytest.mark.parametrize("former", revisions())
def test_every_row_is_carried_forward_and_the_way_back_is_open(url: str, former: str) -> None:
    upgrade(url, former)
    rows = populate(url)
    assert {name for name, _ in rows} >= {"studies", "rounds", "parts", "audit"}
    upgrade(url)
    assert lost(url, rows) == []
    downgrade(url, former)
    assert lost(url, rows) == []
    downgrade(url, "base")
