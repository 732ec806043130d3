"""An experiment that is run once more: what is done stays, what is not is done, what is another's is refused."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from tiny_experiment import TINY, Silent, tiny

from simulation.experiments.describe import Arm
from simulation.experiments.results import RESULT
from simulation.experiments.runner import Settings, run_units

# For the fixture's six trainings in two processes, on a machine that may have other work.
pytestmark = pytest.mark.timeout(900)


def test_what_is_done_is_not_done_again_and_what_is_not_is(finished: Settings) -> None:
    kept = finished.unit("federated", 1) / RESULT
    gone = finished.unit("centralised", 1) / RESULT
    before, old = kept.stat().st_mtime_ns, json.loads(gone.read_text())
    gone.unlink()
    run_units(tiny(), finished, Silent())
    assert kept.stat().st_mtime_ns == before
    again = json.loads(gone.read_text())
    assert again["curve"] == old["curve"]  # the same seed gives the same training


def test_a_unit_of_other_settings_is_not_taken_for_this_one(finished: Settings) -> None:
    experiment = tiny()
    changed = replace(experiment.arms[1], changes={**TINY, "training.lr": 0.5})
    with pytest.raises(FileExistsError, match="other settings"):
        run_units(replace(experiment, arms=[changed]), finished, Silent())


def test_a_unit_that_fails_leaves_the_others(finished: Settings) -> None:
    experiment = tiny()
    hopeless = {**TINY, "network.frozen": ["no-such-layer.*"]}
    broken = Arm("broken", "intermittent-cnn", "films", "centralised", hopeless)
    arms = [broken, Arm("after", "intermittent-cnn", "films", changes=TINY, start="broken"), *experiment.arms]
    failed = run_units(replace(experiment, arms=arms), finished, Silent())
    assert set(failed) == {"broken, seed 1", "after, seed 1"}
    assert "no-such-layer" in failed["broken, seed 1"]
    assert "needs" in failed["after, seed 1"]
