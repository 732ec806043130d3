"""Server optimisers through whole studies, and losses that lower the rate and end a study early."""

from __future__ import annotations

import conducted_federation
import numpy as np
import pytest
from conducted_federation import LAYOUT, RECIPE, SITES, STUDY, VOTE, Federation, actions, with_server
from safetensors.numpy import load

from coordinator.store.blobs import server_state_key
from coordinator.store.tables import Round

federation = conducted_federation.federation


def mean_update(federation: Federation, row: Round) -> np.ndarray:
    updates = [federation.updates[row.number, row.attempt][site].astype(np.float64) for site in SITES]
    return np.average(updates, axis=0, weights=[10, 20, 30])


def test_a_server_optimiser_steps_on_through_a_lost_round(tmp_path) -> None:
    """FedAdam by its formulas. The round that fails after its ballot moves nothing, and nothing is left of it."""
    recipe = with_server("fedadam", lr=0.1, momentum=0.6, beta2=0.9, tau=0.01)
    federation = Federation.fresh(tmp_path, rounds=3, recipe=recipe)
    federation.one_round()
    lose_a_round(federation)
    federation.one_round()
    federation.one_round()
    rows = [row for row in federation.rounds() if row.kind == "training"]
    assert [row.state for row in rows] == ["complete", "failed", "complete", "complete"]
    momentum, second, expected = np.zeros(600), np.full(600, 0.01**2), np.full(LAYOUT.size, 0.5)
    for row in (rows[0], *rows[2:]):
        mean = mean_update(federation, row)
        expected[600:] += mean[600:]
        momentum = 0.6 * momentum + 0.4 * mean[:600]
        second = 0.9 * second + 0.1 * mean[:600] ** 2
        expected[:600] += 0.1 * momentum / (np.sqrt(second) + 0.01)
        np.testing.assert_allclose(federation.model(row.model)[:600], expected[:600], atol=2e-5)
        np.testing.assert_allclose(federation.model(row.model)[600:], expected[600:], atol=2e-4)
    assert rows[1].server_state is None
    assert len({row.server_state for row in rows}) == 4
    assert federation.server_states() == [rows[3].server_state], "the former ones were superseded"
    state = load(federation.blobs.read(server_state_key(STUDY, rows[3].server_state)))
    np.testing.assert_allclose(state["momentum/weight"].reshape(-1), momentum, atol=1e-6)


def lose_a_round(federation: Federation) -> None:
    federation.advance()
    federation.contribute()
    federation.advance()
    federation.clock.advance(VOTE + 1)
    federation.advance()


@pytest.mark.parametrize("damage", ["is not in the blob store any more", "was damaged"])
def test_without_its_state_a_server_optimiser_does_not_begin_anew(tmp_path, damage) -> None:
    federation = Federation.fresh(tmp_path, rounds=2, recipe=with_server("fedavgm"))
    federation.one_round()
    key = server_state_key(STUDY, federation.rounds()[0].server_state)
    if "damaged" in damage:
        federation.blobs.put_bytes(key, bytes(federation.blobs.size(key)))
    else:
        federation.blobs.delete(key)
    federation.one_round()
    failed = federation.rounds()[1]
    assert failed.state == "failed"
    assert "the server optimiser's state" in failed.reason
    assert damage in failed.reason
    assert federation.study().current_model == federation.rounds()[0].model


def test_plain_averaging_keeps_no_state(federation) -> None:
    federation.one_round()
    assert federation.rounds()[0].server_state is None
    assert not (federation.root / "blobs" / "server").exists()


def test_losses_that_stall_lower_the_rate_and_end_the_study_early(tmp_path) -> None:
    """Each round's pooled loss is 1: after the third one, two in a row brought nothing better."""
    paced = {"schedule": "plateau", "plateau": {"factor": 0.1, "patience": 1}, "early_stopping": {"patience": 2}}
    federation = Federation.fresh(tmp_path, rounds=9, weighting="dynamic", recipe=RECIPE | {"training": paced})
    for _ in range(4):
        federation.one_round()
    rows, study = federation.rounds(), federation.study()
    assert [(row.kind, row.state) for row in rows] == [("training", "complete")] * 3 + [("evaluation", "complete")]
    assert [row.plan.get("rate", 1) for row in rows] == pytest.approx([1, 1, 1, 0.1])
    assert [row.plan.get("reference_loss") for row in rows] == [None, 1, 1, 1]
    assert (study.state, study.completed, study.rounds) == ("finished", 3, 9)
    assert study.reason == (
        "ended early, after 3 of 9 rounds: for 2 rounds the validation loss over all sites did not get better"
    )
    assert study.current_model == rows[2].model == rows[3].model
    assert actions(federation)[-2:] == ["study.ended-early", "round.complete"]
    assert not federation.conductor.advance_once()
