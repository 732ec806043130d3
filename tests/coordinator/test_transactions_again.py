"""Every transaction may be run again: one that was rolled back before leaves nothing behind, in the session or out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from played_rounds import play
from safetensors.numpy import load
from sqlalchemy.orm import Session

from coordinator.store import audit
from coordinator.store.blobs import model_key
from coordinator.store.database import Store


class Rehearsing(Store):
    """Runs each transaction twice, as when another coordinator was faster, and keeps the second."""

    rehearsed = 0

    def _once(self, engine: Any, fn: Any) -> Any:
        with Session(engine, expire_on_commit=False) as session:
            fn(session)
            session.flush()
            session.rollback()
        Rehearsing.rehearsed += 1
        return super()._once(engine, fn)


@pytest.fixture
def twice(new_world: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr("coordinator.app.Store", Rehearsing)
    return new_world()


def test_a_study_whose_transactions_all_run_twice(twice: Any) -> None:
    twice.begin()
    play(twice, rounds=3)
    study = twice.operate("GET", twice.study).json()
    assert (study["state"], study["round"]) == ("finished", 2)
    rows = twice.operate("GET", f"{twice.study}/rounds").json()
    assert [(row["attempt"], len(row["contributors"])) for row in rows] == [(1, 3)] * 3
    first, last = (load(twice.services.blobs.read(model_key(study[key]))) for key in ("first_model", "model"))
    np.testing.assert_allclose(last["weight"] - first["weight"], 0.5, atol=1e-4)
    assert twice.services.store.read("verify", audit.verify) > 10
    assert Rehearsing.rehearsed > 100
