"""A trained model on everybody's cases: its probabilities, and where it looked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from models.flatten import SavedModel, load_vector
from models.heatmaps import heat_map
from models.recipe import Recipe
from models.registry import build
from participant.case_data import CaseData, Cases
from participant.data.cases import Case
from participant.training import Machine, Trainer
from simulation.control_worker import silent
from simulation.experiments.results import Examined, HeatMap, Predictions, Split


def examine(
    saved: SavedModel,
    cases: Mapping[str, CaseData],
    members: Sequence[str],
    splits: Sequence[Split],
    state: Path,
    checkpoints: Path | None,
) -> Examined:
    """Its probabilities on the test cases of all hospitals and on the members' other cases, and its heat maps."""
    joined = CaseData.joined(list(cases.values()))
    trainer = Trainer(saved.recipe, joined, state, 0, checkpoints=checkpoints, machine=Machine(threads=1))
    found = {
        split: _predictions(
            trainer, saved, {site: getattr(cases[site], split) for site in _whose(split, cases, members)}
        )
        for split in splits
    }
    return Examined(**found, heat_maps=heat_maps(saved, [of_site.test for of_site in cases.values()], checkpoints))


def _whose(split: Split, cases: Mapping[str, CaseData], members: Sequence[str]) -> Sequence[str]:
    return list(cases) if split == "test" else members


def heat_maps(saved: SavedModel, tests: Sequence[Cases], checkpoints: Path | None) -> tuple[HeatMap, ...]:
    """Of one test case of each class, chosen by a digest of its name: the same one whatever the model."""
    network = build(saved.recipe, folder=checkpoints)
    load_vector(network, saved.layout, saved.vector)
    network.eval()
    found = []
    for number, label in enumerate(saved.recipe.network.classes):
        candidates = [(cases, n) for cases in tests for n in np.flatnonzero(cases.labels == number).tolist()]
        if not candidates:
            continue
        cases, index = min(candidates, key=lambda pair: _draw(_listed(pair[0])[pair[1]]))
        inputs = cases.evaluation_inputs(index)[:1]
        with torch.inference_mode():
            given = float(network(inputs).float().softmax(dim=1)[0, number])
        image, heat = _shown(saved.recipe, inputs[0, 0].numpy()), heat_map(network, inputs, number)
        found.append(HeatMap(label, _listed(cases)[index].path.name, given, image, heat))
    return tuple(found)


def _predictions(trainer: Trainer, saved: SavedModel, splits: Mapping[str, Cases]) -> Predictions:
    probabilities = [trainer.probabilities(saved.vector, saved.layout, cases, silent) for cases in splits.values()]
    listed = {site: _listed(cases) for site, cases in splits.items()}
    return Predictions(
        np.concatenate(probabilities),
        np.array([case.label for own in listed.values() for case in own], np.int64),
        np.array([case.patient for own in listed.values() for case in own], np.str_),
        np.array([site for site, own in listed.items() for _ in own], np.str_),
    )


def _listed(cases: Cases) -> list[Case]:
    """In the order in which they are numbered."""
    return [case for part in cases.parts for case in part.cases]


def _draw(case: Case) -> bytes:
    return sha256(case.path.name.encode()).digest()


def _shown(recipe: Recipe, given: NDArray[np.float32]) -> NDArray[np.float32]:
    """The input [*size] as a picture in [0, 1]: a film as it is, a CT in the recipe's window."""
    values = given * recipe.preprocessing.std + recipe.preprocessing.mean
    if recipe.preprocessing.ct is not None:
        low, high = recipe.preprocessing.ct.hu_window
        values = (values - low) / (high - low)
    return np.asarray(np.clip(values, 0, 1), np.float32)
