"""Whole studies through the conductor, with real contributions of three sites, from first plan to last round."""

from __future__ import annotations

import conducted_federation
import numpy as np
import pytest
from conducted_federation import LAYOUT, SITES, STUDY, Federation, to_opening

from coordinator.rounds.planning import mutually_approved
from coordinator.store import audit, memberships, models
from coordinator.store.tables import Approval, Epoch, Study

federation = conducted_federation.federation


def test_a_study_runs_to_its_end(tmp_path) -> None:
    federation = Federation.fresh(tmp_path, rounds=2)
    for _ in range(3):
        federation.one_round()
    rows, study = federation.rounds(), federation.study()
    assert [(row.number, row.kind, row.state) for row in rows] == [
        (1, "training", "complete"),
        (2, "training", "complete"),
        (3, "evaluation", "complete"),
    ]
    assert (study.state, study.completed, study.current_model) == ("finished", 2, rows[1].model)
    assert rows[2].model == rows[2].base_model == rows[1].model
    assert rows[1].base_model == rows[0].model != study.first_model
    assert federation.left_over() == []
    assert not federation.conductor.advance_once()
    assert federation.store.read("verify", audit.verify) > 10
    made = federation.store.read("model", lambda s: models.find(s, rows[1].model))
    assert (made.study_id, made.round, made.parent) == (STUDY, 2, rows[0].model)


def test_each_model_is_its_base_plus_the_weighted_mean(tmp_path) -> None:
    federation = Federation.fresh(tmp_path, rounds=2)
    federation.one_round()
    federation.one_round()
    expected = np.full(LAYOUT.size, 0.5)
    for row in federation.rounds()[:2]:
        updates = [federation.updates[row.number, 1][site].astype(np.float64) for site in SITES]
        expected += np.average(updates, axis=0, weights=[10, 20, 30])
        error = np.abs(federation.model(row.model) - expected)
        assert error[:600].max() < 2e-6
        assert error[600:].max() < 64e-6 + 1e-6


def test_bounds_move_from_plan_to_plan(tmp_path) -> None:
    federation = Federation.fresh(tmp_path, rounds=2)
    federation.one_round()
    federation.advance()
    assert federation.newest().plan["bounds"] == [0.5, 32.0] == federation.study().bounds


def test_counts_become_measures_of_the_base_model(federation) -> None:
    federation.one_round()
    stored = federation.metrics(federation.rounds()[0])
    assert stored.counts["samples"] == 60
    assert stored.counts["recipe"]["confusion"] == [[12, 3], [6, 9]]
    assert stored.derived["cases"] == 30
    assert stored.derived["loss"] == pytest.approx(1.0)
    assert stored.derived["macro_auc"] == pytest.approx(0.5)


def test_a_study_that_ends_in_time_gives_no_reason(federation) -> None:
    federation.one_round()
    federation.one_round()
    assert (federation.study().state, federation.study().reason) == ("finished", None)


# --- what keeps a study from going on


def test_no_plan_before_everyone_approved_everyone(federation) -> None:
    def forget(session) -> None:
        session.delete(session.get_one(Approval, (STUDY, SITES[0])))
        session.delete(session.get_one(Approval, (STUDY, SITES[1])))

    federation.store.run("forget", forget)
    found = federation.store.read("candidates", lambda s: memberships.candidates(s, STUDY))
    assert len(mutually_approved(found)) == 1
    assert not federation.conductor.advance_once()


def test_a_retired_key_waits_for_a_new_epoch(federation) -> None:
    federation.store.run("retire", lambda s: setattr(s.get_one(Epoch, (STUDY, 1)), "retired", 1.0))
    assert not federation.conductor.advance_once()
    assert federation.rounds() == []


def set_state(federation: Federation, state: str) -> None:
    federation.store.run("operator", lambda s: setattr(s.get_one(Study, STUDY), "state", state))


@pytest.mark.parametrize("moment", ["collecting", "opening"])
def test_stopping_fails_what_is_under_way(federation, moment) -> None:
    federation.advance() if moment == "collecting" else to_opening(federation)
    set_state(federation, "stopped")
    federation.advance()
    row = federation.newest()
    assert (row.state, row.reason) == ("failed", "the study was stopped")
    assert federation.left_over() == []
    assert not federation.conductor.advance_once()


def test_a_paused_study_ends_its_round_and_begins_no_other(federation) -> None:
    to_opening(federation)
    set_state(federation, "paused")
    federation.open()
    federation.advance()
    assert [row.state for row in federation.rounds()] == ["complete"]
    set_state(federation, "running")
    federation.advance()
    assert federation.newest().kind == "evaluation"
