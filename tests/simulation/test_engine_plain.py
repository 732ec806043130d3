"""Plaintext runs weigh, pace, step and carry as coordinators do: beside an encrypted run of the same updates."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crypto.layout import Layout, Tensor
from models.flatten import read_model, save_model
from models.pooled import count_fields
from models.recipe import load_recipe
from participant.progress import Advance
from participant.steps.desk import TrainerFactory
from participant.terms import RoundTerms
from simulation.engine import Federated, RoundDone, Spec, run
from simulation.engine.shares import carried
from simulation.federation import Hospital

BINS = 4
LAYOUT = Layout((Tensor("weight", (30, 20), "parameter"), Tensor("mean", (5,), "buffer")), count_fields(3, BINS))
BASIS = {
    "federation.n_max": 100,
    "federation.fraction": 1.0,
    "federation.minimum_contributors": 3,
    "evaluation.bins": BINS,
    "federation.weighting": "equal",
}


@dataclass
class Result:
    vector: NDArray[np.float32]
    samples: int
    loss: float = 0.5
    seconds: float = 0.01
    state: bytes = b""


@dataclass
class Site:
    """Noise of the site and round, as long as the rate says and within all bounds of six rounds: nothing is clipped.

    Its loss gets better in each of the first `gains` rounds.
    """

    number: int
    gains: int = 0
    evaluated: int = 0

    @property
    def samples(self) -> int:
        return 25 * self.number

    def train(self, base: NDArray[np.float32], layout: Layout, terms: RoundTerms, progress: Advance) -> Result:
        progress(1, 1)
        noise = np.random.default_rng([self.number, terms.round]).uniform(-0.02, 0.02, layout.size) * terms.rate
        return Result((base + noise).astype(np.float32), self.samples)

    def evaluate(self, base: NDArray[np.float32], layout: Layout, progress: Advance) -> list[int]:
        self.evaluated += 1
        loss = 1000 * self.number // min(self.evaluated, 1 + self.gains)
        scores = np.tile([[0, 0, 0, 1], [1, 0, 0, 0]], (3, 1, 1))
        return [3, loss, *np.eye(3, dtype=int).ravel().tolist(), *scores.ravel().tolist()]


@dataclass(frozen=True)
class Made:
    gains: int = 0

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        number = 1 + ord(site[-1]) - ord("a")
        made = Site(number, self.gains)  # one a run: it counts how often it was asked
        return lambda study: made


def spec_of(folder: Path, changes: Mapping[str, Any], *, rounds: int, sites: str = "abc", **more: Any) -> Spec:
    recipe = load_recipe("fl-cxr-resnet18").overridden({**BASIS, "federation.rounds": rounds, **changes})
    model = folder / "first.safetensors"
    vector = np.random.default_rng(7).normal(0, 0.5, LAYOUT.size).astype(np.float32)
    save_model(model, vector, LAYOUT, recipe)
    hospitals = [Hospital(f"site-{letter}", folder) for letter in sites]
    return Spec(recipe, model, hospitals, "lwe-ckks", "open", 1, rounds, **{"trainers": Made()} | more)


def silent(done: RoundDone) -> None:
    """No progress."""


def both(folder: Path, changes: Mapping[str, Any], **more: Any) -> tuple[Federated, Federated]:
    sealed = run(spec_of(folder, changes, **more), folder / "sealed", silent)
    return sealed, run(spec_of(folder, changes, plaintext=True, **more), folder / "plain", silent)


def check_alike(sealed: Federated, plain: Federated, limit: float = 1e-6) -> None:
    """The same rounds, and models that differ by the rounding of sealed values alone: 1e-6 of a bound of 64 at most."""
    for name in ("round", "kind", "state", "contributors", "carried", "metrics"):
        assert [row[name] for row in sealed.history] == [row[name] for row in plain.history], name
    assert list(sealed.models) == list(plain.models)
    for number, model in plain.models.items():
        one, other = read_model(model).vector, read_model(sealed.models[number]).vector
        assert np.abs(one - other)[:600].max() < limit
        assert np.abs(one - other)[600:].max() < 64 * limit


@pytest.mark.parametrize("weighting", ["samples", "equal", "dynamic"])
def test_sites_weigh_as_the_recipe_says(tmp_path: Path, weighting: str) -> None:
    sealed, plain = both(tmp_path, {"federation.weighting": weighting}, rounds=2)
    check_alike(sealed, plain)


def test_dynamic_weights_follow_the_pooled_loss(tmp_path: Path) -> None:
    models = [
        read_model(run(spec_of(tmp_path, changes, rounds=2, plaintext=True), tmp_path / name, silent).model).vector
        for name, changes in (("a", {}), ("b", {"federation.weighting": "dynamic"}))
    ]
    assert np.abs(models[0] - models[1]).max() > 1e-3


def test_a_plateau_lowers_the_rate_and_a_study_stops_early(tmp_path: Path) -> None:
    changes = {
        "training.schedule": "plateau",
        "training.plateau": {"factor": 0.5, "patience": 1},
        "training.early_stopping": {"patience": 3},
    }
    sealed, plain = both(tmp_path, changes, rounds=9, trainers=Made(gains=2))
    assert [row["kind"] for row in plain.history] == ["training"] * 6 + ["evaluation"]
    check_alike(sealed, plain)
    steps = [read_model(plain.models[number]).vector for number in (4, 5, 6)]
    spread = [float(np.std(one - other)) for one, other in zip(steps[1:], steps, strict=False)]
    assert spread[1] < 0.7 * spread[0]


@pytest.mark.parametrize("optimizer", ["average", "fedavgm", "fedadam", "fedyogi"])
def test_the_server_optimiser_takes_the_step(tmp_path: Path, optimizer: str) -> None:
    changes = {"federation.server": {"optimizer": optimizer, "lr": 0.5, "tau": 0.1}}
    sealed, plain = both(tmp_path, changes, rounds=3)
    check_alike(sealed, plain, 1e-5)  # a step divides by tau
    kept = sorted(file.name for file in (tmp_path / "plain").glob("server-state-*"))
    assert kept == ["server-state-2", "server-state-3"]


def test_a_site_that_left_still_counts(tmp_path: Path) -> None:
    changes = {"federation.carry": True}
    moves: dict[str, Any] = {"departures": {"site-d": 1}, "sites": "abcd", "rounds": 3}
    sealed, plain = both(tmp_path, changes, **moves)
    check_alike(sealed, plain, 4e-6)  # bounds of parameters stay 4 there
    assert [row["carried"] for row in plain.history] == [[], ["site-d"], ["site-d"], []]


def test_no_site_that_left_counts_for_ever(tmp_path: Path) -> None:
    """A sum of three fresh contributions adds a third to the exposure, of which 4 is the most."""
    moves: dict[str, Any] = {"departures": {"site-d": 1}, "sites": "abcd", "rounds": 20}
    spec = spec_of(tmp_path, {"federation.carry": True}, **moves)
    assert [number for number in range(1, 21) if carried(spec, number)] == list(range(2, 13))
    assert carried(spec_of(tmp_path, {}, **moves), 2) == []
    never_there = spec_of(tmp_path, {"federation.carry": True}, **moves | {"departures": {"site-d": 0}})
    assert carried(never_there, 2) == []


def test_a_plaintext_run_asks_whom_it_is_told(tmp_path: Path) -> None:
    changes = {"federation.fraction": 0.5}
    asked = {1: ["site-d", "site-e", "site-f"], 2: ["site-a", "site-c", "site-e"]}
    free = run(spec_of(tmp_path, changes, rounds=3, sites="abcdef", plaintext=True), tmp_path / "free", silent)
    spec = spec_of(tmp_path, changes, rounds=3, sites="abcdef", plaintext=True, asked=asked)
    told = run(spec, tmp_path / "told", silent)
    rows = [row["contributors"] for row in told.history]
    assert rows[:2] == list(asked.values())
    assert rows[2:] == [row["contributors"] for row in free.history][2:]
    assert [row["contributors"] for row in free.history][:2] != rows[:2]


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    changes = {"federation.server": {"optimizer": "fedadam", "tau": 0.1}, "federation.weighting": "dynamic"}
    whole = run(spec_of(tmp_path, changes, rounds=4, plaintext=True), tmp_path / "whole", silent)
    spec = spec_of(tmp_path, changes, rounds=4, plaintext=True)

    class Broken(Exception):
        pass

    def stop_after_two(done: RoundDone) -> None:
        if done.completed == 2:
            raise Broken

    with pytest.raises(Broken):
        run(spec, tmp_path / "broken", stop_after_two)
    again = run(spec, tmp_path / "broken", silent)
    assert np.array_equal(read_model(again.model).vector, read_model(whole.model).vector)
