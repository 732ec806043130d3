"""Whole federations in one process: they end as they should, resume, and give the mean that float64 gives."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from crypto.layout import Layout, Tensor
from models.flatten import read_model, save_model
from models.pooled import count_fields
from models.recipe import load_recipe
from participant.ledger import Ledger
from participant.progress import Advance
from participant.steps.desk import TrainerFactory
from participant.terms import RoundTerms
from simulation.engine import Federated, RoundDone, Spec, Stalled, run
from simulation.engine.recorded import Recording, Replaying, errors_of_means
from simulation.federation import Hospital

RECIPE = load_recipe("fl-cxr-resnet18").overridden(
    {
        "federation.rounds": 2,
        "federation.n_max": 100,
        "federation.fraction": 1.0,
        "federation.minimum_contributors": 3,
        "evaluation.bins": 4,
    }
)
ROUNDING = 1e-6 * 64  # what a mean's error may be in units of the largest bound, that of buffers
CLASSES = len(RECIPE.network.classes)
LAYOUT = Layout((Tensor("weight", (60, 50), "parameter"), Tensor("mean", (40,), "buffer")), count_fields(CLASSES, 4))


@dataclass
class Result:
    vector: NDArray[np.float32]
    samples: int
    seconds: float = 0.01
    loss: float = 0.5
    state: bytes = b""


@dataclass
class Noise:
    """Adds noise that depends on site and round alone."""

    number: int
    fails_in: int | None = None

    @property
    def samples(self) -> int:
        return 20 * self.number

    def train(self, base: NDArray[np.float32], layout: Layout, terms: RoundTerms, progress: Advance) -> Result:
        if terms.round == self.fails_in:
            raise RuntimeError("no cases today")
        progress(1, 1)
        noise = np.random.default_rng([self.number, terms.round]).normal(0, 0.1, layout.size)
        return Result(base + noise.astype(np.float32), self.samples)

    def evaluate(self, base: NDArray[np.float32], layout: Layout, progress: Advance) -> list[int]:
        scores = np.tile([[0, 0, 0, 1], [1, 0, 0, 0]], (CLASSES, 1, 1))
        return [CLASSES, 1000 * self.number, *np.eye(CLASSES, dtype=int).ravel().tolist(), *scores.ravel().tolist()]


@dataclass(frozen=True)
class Noises:
    fails: tuple[str, int] | None = None

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        fails_in = self.fails[1] if self.fails and self.fails[0] == site else None
        return lambda study: Noise(1 + ord(site[-1]) - ord("a"), fails_in)


def spec_of(folder: Path, sites: str = "abc", **changes: Any) -> Spec:
    model = folder / "first.safetensors"
    if not model.exists():
        vector = np.random.default_rng(7).normal(0, 0.5, LAYOUT.size).astype(np.float32)
        save_model(model, vector, LAYOUT, RECIPE)
    hospitals = [Hospital(f"site-{letter}", folder) for letter in sites]
    settings: dict[str, Any] = {"scheme": "lwe-ckks", "release": "open", "seed": 1, "rounds": 2, "trainers": Noises()}
    return Spec(RECIPE, model, hospitals, **settings | changes)


def silent(done: RoundDone) -> None:
    """No progress."""


def kinds(run: Federated) -> list[tuple[int, str, str, Sequence[str]]]:
    return [(row["round"], row["kind"], row["state"], row["contributors"]) for row in run.history]


EVERYBODY = ["site-a", "site-b", "site-c"]


@pytest.mark.parametrize(("scheme", "release"), [("lwe-ckks", "open"), ("lwe-ckks", "members"), ("lwe-shamir", "open")])
def test_a_federation_ends_with_the_mean_of_its_updates(tmp_path: Path, scheme: str, release: str) -> None:
    spec = spec_of(tmp_path, scheme=scheme, release=release, keep_local=True)
    spec = replace(spec, trainers=Both(tmp_path / "recording"))
    done: list[RoundDone] = []
    federated = run(spec, tmp_path / "run", done.append)

    assert kinds(federated) == [
        (1, "training", "complete", EVERYBODY),
        (2, "training", "complete", EVERYBODY),
        (3, "evaluation", "complete", EVERYBODY),
    ]
    assert [(each.row["round"], each.completed) for each in done] == [(1, 1), (2, 2), (3, 2)]
    assert list(federated.models) == [1, 2]
    errors = errors_of_means(federated, spec.model, tmp_path / "recording")
    assert set(errors) == {1, 2}
    assert max(errors.values()) < 1e-6
    assert federated.history[-1]["metrics"]["loss"] == pytest.approx((1 + 2 + 3) / (3 * CLASSES))
    for name in EVERYBODY:
        assert len(federated.uploads[name]) == 3
        kept = read_model(federated.local_models[name])
        assert not np.array_equal(kept.vector, read_model(federated.model).vector)
        home = tmp_path / "run" / "sites" / name
        assert Ledger(home / "ledger.jsonl").verify() > 10
        assert not list((home / "sealed").glob("*/*")), "nothing sealed is left"
    assert {"train", "seal", "open", "add", "reveal", "wall"} == set(federated.seconds)


@dataclass(frozen=True)
class Both:
    """Noise that is recorded."""

    folder: Path

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        return Recording(self.folder)(site, Noises()(site, images))


def test_a_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, rounds=3)

    class Broken(Exception):
        pass

    def stop_after_two(done: RoundDone) -> None:
        if done.completed == 2:
            raise Broken

    with pytest.raises(Broken):
        run(spec, tmp_path / "run", stop_after_two)
    done: list[RoundDone] = []
    federated = run(spec, tmp_path / "run", done.append)
    assert [each.row["round"] for each in done] == [3, 4]
    assert [row[0] for row in kinds(federated)] == [1, 2, 3, 4]
    assert list(federated.models) == [1, 2, 3]
    assert all(file.is_file() for file in federated.models.values())
    assert run(spec, tmp_path / "run", pytest.fail).history == federated.history, "a finished run is read back"


def test_another_run_is_not_mixed_in(tmp_path: Path) -> None:
    run(spec_of(tmp_path, rounds=1), tmp_path / "run", silent)
    with pytest.raises(FileExistsError, match="other settings"):
        run(spec_of(tmp_path, rounds=2), tmp_path / "run", silent)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(FileExistsError, match="holds no run"):
        run(spec_of(tmp_path), tmp_path / "full", silent)


def test_sites_come_and_go(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "abcd", rounds=4, arrivals={"site-d": 3}, departures={"site-a": 2})
    federated = run(spec, tmp_path / "run", silent)
    assert [row[3] for row in kinds(federated)] == [
        ["site-a", "site-b", "site-c"],
        ["site-a", "site-b", "site-c"],
        ["site-b", "site-c", "site-d"],
        ["site-b", "site-c", "site-d"],
        ["site-b", "site-c", "site-d"],
    ]
    events = [
        json.loads(line)["event"] for line in (tmp_path / "run/sites/site-a/ledger.jsonl").read_text().splitlines()
    ]
    assert events[-2:] == ["left", "key-deleted"]


def test_a_site_that_fails_is_left_out_once_its_time_is_up(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, "abcd", trainers=Noises(fails=("site-d", 1)))
    federated = run(spec, tmp_path / "run", silent)
    assert [len(row[3]) for row in kinds(federated)] == [3, 4, 4]
    assert "no cases today" not in json.dumps(federated.history)


def test_a_study_that_cannot_go_on_says_why(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, trainers=Noises(fails=("site-a", 1)))
    with pytest.raises(Stalled, match=r"3 attempts failed.*2 of at least 3 contributions.*site-a"):
        run(spec, tmp_path / "run", silent)


def test_the_same_seed_of_noise_gives_the_same_model(tmp_path: Path) -> None:
    recorded = run(spec_of(tmp_path, trainers=Both(tmp_path / "recording"), noise_seed=3), tmp_path / "one", silent)
    again = spec_of(tmp_path, trainers=Replaying(tmp_path / "recording"), noise_seed=3)
    other = replace(again, noise_seed=4)
    first = read_model(recorded.model).vector
    assert np.array_equal(first, read_model(run(again, tmp_path / "two", silent).model).vector)
    assert not np.array_equal(first, read_model(run(other, tmp_path / "three", silent).model).vector)


@pytest.mark.parametrize(
    "changes",
    [{"departures": {"site-x": 1}}, {"arrivals": {"site-a": 2, "site-b": 2, "site-c": 2}}],
)
def test_a_federation_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="hospital"):
        spec_of(tmp_path, **changes)


def test_secrecy_costs_no_accuracy(tmp_path: Path) -> None:
    plain = spec_of(tmp_path, trainers=Both(tmp_path / "recording"), plaintext=True, keep_local=True)
    one = run(plain, tmp_path / "plain", silent)
    other = run(spec_of(tmp_path, trainers=Replaying(tmp_path / "recording")), tmp_path / "sealed", silent)
    assert [row[:3] for row in kinds(one)] == [row[:3] for row in kinds(other)]
    difference = read_model(one.model).vector - read_model(other.model).vector
    assert 0 < np.abs(difference).max() < ROUNDING
    assert [row["metrics"] for row in one.history] == [row["metrics"] for row in other.history]
    assert run(plain, tmp_path / "plain", pytest.fail).history == one.history
    assert set(one.local_models) == set(EVERYBODY)


def test_workers_give_the_same_model_bit_for_bit(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, trainers=Both(tmp_path / "recording"), noise_seed=3)
    one = run(spec, tmp_path / "one", silent)
    two = run(replace(spec, trainers=Replaying(tmp_path / "recording"), workers=2), tmp_path / "two", silent)
    assert np.array_equal(read_model(one.model).vector, read_model(two.model).vector)
