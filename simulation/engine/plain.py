"""The same federation without cryptography, protocol or coordinator: what secrecy costs in accuracy shows beside it.

What the coordinator decides of the training (its pace, the server optimiser, the weights) is computed by its own code;
a site that left counts with its last contribution for good where the recipe carries contributions.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from coordinator.adoption import pooled
from coordinator.rounds.pace import Pace, pace
from coordinator.server_optimiser import first_state, take_step
from coordinator.terms import Terms
from crypto.canonical import digest, sha256
from crypto.lanes import OpenedCounts
from crypto.layout import Layout
from models.flatten import SavedModel, read_model, save_model
from participant.documents import Study
from participant.files import write_whole
from participant.sealed import LOCAL_STATE
from participant.setup import image_trainer
from participant.steps.desk import Trainer
from participant.terms import RoundTerms
from simulation.engine.folder import Progress, local_models, model_file, note_seconds
from simulation.engine.seeded import seeded
from simulation.engine.shares import asked_in, carried, weight_of
from simulation.engine.sites import OPEN, config_of, home_of, trainer_factory
from simulation.engine.values import Federated, RoundDone, Spec

_HISTORY: Final = "history.jsonl"
_CONTRIBUTION: Final = "contribution.npz"
_SERVER_STATE: Final = "server-state-{}"  # after that round
_STUDY: Final = UUID(int=0)  # only names folders here

Row = dict[str, Any]
Doubles = NDArray[np.float64]


def run_plain(spec: Spec, folder: Path, progress: Progress) -> Federated:
    """Train and average in float64, round after round; `folder` is this run's already."""
    plain, rows = _Plain(spec, folder), _rows(folder)
    while not plain.over(rows):
        start = time.perf_counter()
        rows.append(plain.round(rows))
        seconds = time.perf_counter() - start
        note_seconds(folder, seconds)
        with (folder / _HISTORY).open("a") as file:
            file.write(json.dumps(rows[-1]) + "\n")
        completed = sum(row["kind"] == "training" for row in rows)
        progress(RoundDone(rows[-1], completed, spec.rounds, seconds))
    return _result(spec, folder, rows)


class _Contribution(NamedTuple):
    """update: float64 [layout.size], of a trained model to the one that updates are relative to. counts: the layout's,
    of the model that was trained."""

    update: Doubles
    weight: float
    seconds: float
    counts: Sequence[int]


class _Plain:
    def __init__(self, spec: Spec, folder: Path) -> None:
        self._spec, self._folder = spec, folder
        self._first = read_model(spec.model)
        self._layout = self._first.layout
        self._terms = Terms.of(spec.recipe.to_json())
        self._hospitals = {hospital.name: hospital for hospital in spec.hospitals}
        self._trainer = lru_cache(OPEN)(self._new_trainer)

    def over(self, rows: Sequence[Row]) -> bool:
        """After the evaluation, or after the last training round where nothing is counted."""
        last = len(rows) == self._spec.rounds and not self._layout.counts
        return last or (bool(rows) and rows[-1]["kind"] == "evaluation")

    def round(self, rows: Sequence[Row]) -> Row:
        """The next round after these, its model on the disk; its row as a coordinator would give it."""
        spec, number, started = self._spec, len(rows) + 1, time.time()
        losses = [row["metrics"]["loss"] for row in rows if row["metrics"].get("loss") is not None]
        paced = pace(losses, self._terms.plateau, self._terms.early_stopping)
        training = number <= spec.rounds and not paced.stop
        base = read_model(model_file(self._folder, number - 1)) if number > 1 else self._first
        present = spec.present(number - 1)
        asked = asked_in(spec, number)
        counts = {name: self._counts(name, base) for name in asked}
        seconds, leavers = 0.0, carried(spec, number) if training else []
        if training:
            seconds = self._train(number, base, asked, present, counts, leavers, paced, losses)
        return {
            "round": number,
            "attempt": 1,
            "kind": "training" if training else "evaluation",
            "state": "complete",
            "reason": None,
            "contributors": sorted([*asked, *leavers]),
            "carried": leavers,
            "bounds": [],
            "bytes_received": 0,
            "started": started,
            "ended": time.time(),
            "seconds": {"train": seconds, "add": 0.0, "open": 0.0},
            "metrics": self._measures([*counts.values(), *(self._kept(name).counts for name in leavers)]),
        }

    def _train(
        self,
        number: int,
        base: SavedModel,
        asked: Sequence[str],
        present: Sequence[str],
        counts: Mapping[str, Sequence[int]],
        leavers: Sequence[str],
        paced: Pace,
        losses: Sequence[float],
    ) -> float:
        """Leaves the round's model on the disk; the seconds that the sites trained."""
        terms = RoundTerms(number, paced.rate, len(asked) / len(present))
        reference = next((loss for loss in losses[-1:] if loss > 0), None)
        total, weights, seconds = np.zeros(self._layout.size), 0.0, 0.0
        for name in asked:
            made = self._contribution(name, base, terms, counts[name], reference)
            total, weights, seconds = total + made.weight * made.update, weights + made.weight, seconds + made.seconds
        for name in leavers:
            kept = self._kept(name)
            total, weights = total + kept.weight * kept.update, weights + kept.weight
        start = self._first if self._terms.federation.carry else base
        vector = (start.vector + self._stepped(total / weights, number)).astype(np.float32)
        file = model_file(self._folder, number)
        file.parent.mkdir(exist_ok=True)
        save_model(file, vector, self._layout, base.recipe)
        return seconds

    def _contribution(
        self, name: str, base: SavedModel, terms: RoundTerms, counts: Sequence[int], reference: float | None
    ) -> _Contribution:
        """A site's part, its own state kept; where contributions are carried, it is kept whole for when it leaves."""
        result = self._trainer(name).train(base.vector, self._layout, terms, _silent)
        home = home_of(self._folder, name)
        if result.state:
            folder = home.local_state(_STUDY)
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / LOCAL_STATE, result.state)
        weight = weight_of(self._spec.recipe, self._layout, result.samples, counts, reference)
        start = self._first if self._terms.federation.carry else base
        update = self._protected(name, terms.round, result.vector - start.vector).astype(np.float64)
        if self._terms.federation.carry:
            np.savez(home.path / _CONTRIBUTION, update=update, weight=weight, counts=counts)
        return _Contribution(update, weight, result.seconds, counts)

    def _counts(self, name: str, base: SavedModel) -> list[int]:
        """What a site counts of a round's base model, in a study in which they do."""
        return self._trainer(name).evaluate(base.vector, self._layout, _silent) if self._layout.counts else []

    def _protected(self, name: str, number: int, update: NDArray[np.float32]) -> NDArray[np.float32]:
        """The update with the site's share of noise, where the recipe has differential privacy."""
        promise, seed = self._terms.privacy, self._spec.noise_seed
        if promise is None:
            return update
        with nullcontext() if seed is None else seeded(seed, name, number, 1):
            return promise.protected(update, self._spec.recipe.federation.minimum_contributors)

    def _kept(self, name: str) -> _Contribution:
        with np.load(home_of(self._folder, name).path / _CONTRIBUTION) as kept:
            return _Contribution(kept["update"], float(kept["weight"]), 0.0, kept["counts"].tolist())

    def _stepped(self, mean: Doubles, number: int) -> Doubles:
        """What is added to the model: the mean, or the server optimiser's step."""
        rule = self._terms.server
        if rule.plain:
            return mean
        former = self._folder / _SERVER_STATE.format(number - 1)
        state = bytearray(former.read_bytes()) if former.is_file() else first_state(rule, self._layout)
        step = mean.astype(np.float32)
        take_step(rule, self._layout, step, state)
        write_whole(self._folder / _SERVER_STATE.format(number), bytes(state))
        (self._folder / _SERVER_STATE.format(number - 2)).unlink(missing_ok=True)
        return step.astype(np.float64)

    def _measures(self, counts: Sequence[Sequence[int]]) -> dict[str, Any]:
        """As a coordinator makes them of the pooled counts."""
        total = np.sum(np.array(counts, np.int64), axis=0)
        opened = OpenedCounts(0, 0, (0,) * len(self._layout.tensors), tuple(total.tolist()))
        return pooled(opened, self._layout)[1]

    def _new_trainer(self, name: str) -> Trainer:
        home = home_of(self._folder, name)
        home.path.mkdir(parents=True, exist_ok=True)
        images = image_trainer(home, config_of(self._spec, self._hospitals[name]))
        return trainer_factory(self._spec, self._folder, name, images)(_study(self._spec, self._layout))


def _study(spec: Spec, layout: Layout) -> Study:
    """A study as a trainer sees it."""
    recipe, model = spec.recipe.to_json(), sha256(spec.model.read_bytes())
    return Study(
        id=_STUDY,
        name="simulation",
        state="running",
        scheme=spec.scheme,
        release=spec.release,
        weighting=recipe["federation"]["weighting"],
        minimum_contributors=spec.recipe.federation.minimum_contributors,
        rounds=spec.rounds,
        round=0,
        recipe=recipe,
        recipe_digest=digest(recipe),
        layout=layout.to_json(),
        layout_digest=layout.digest,
        model=model,
        first_model=model,
        member=True,
    )


def _rows(folder: Path) -> list[Row]:
    file = folder / _HISTORY
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []


def _result(spec: Spec, folder: Path, rows: Sequence[Row]) -> Federated:
    seconds = dict.fromkeys(("seal", "open", "add", "reveal"), 0.0)
    seconds["train"] = sum(row["seconds"]["train"] for row in rows)
    seconds["wall"] = note_seconds(folder, 0.0)
    return Federated(
        history=rows,
        models={row["round"]: model_file(folder, row["round"]) for row in rows if row["kind"] == "training"},
        uploads={hospital.name: [] for hospital in spec.hospitals},
        seconds=seconds,
        local_models=local_models(spec, folder),
    )


def _silent(done: int, total: int) -> None:
    """No progress within a site's training."""
