"""The trainings that a federation is compared with, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from models.flatten import (
    SavedModel,
    Vector,
    layout_of,
    load_vector,
    read_model,
    save_model,
    study_layout,
    to_vector,
)
from models.pooled import count_fields
from models.recipe import load_recipe
from models.registry import build
from participant.case_data import CaseData, batches
from participant.data.errors import DataProblems
from participant.optimise import learning_rate, seed_of
from participant.terms import RoundTerms
from participant.training import Machine, Trainer
from simulation.control_worker import macro_auc, train_rounds
from simulation.controls import Job, Place, run_jobs
from simulation.hospitals import Population, phantom_hospitals

SMALL = {
    "network.options.width": 4,
    "network.options.growth": 4,
    "input.size": [12, 16, 16],
    "preprocessing.ct.subsets": 1,
    "training.batch": 4,
    "training.precision": "32",
}

#: Nothing but steps, of a rate for each round.
STEADY = {
    "training.schedule": "cosine",
    "federation.rounds": 2,
    "training.warmup_rounds": 0,
    "training.weight_decay": 0.0,
    "training.class_weights": "none",
    "training.augmentation": {},
    "training.local_epochs": 1,
    "network.options.stem_drop": 0.0,
    "network.options.final_drop": 0.0,
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    folder = tmp_path_factory.mktemp("hospitals")
    population = Population(train=5, validation=2, test=3)
    return {h.name: Place(h.data, folder / "cache", 0) for h in phantom_hospitals(folder, 2, 3, "ct", population)}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    recipe = load_recipe("ucadi").overridden(SMALL)
    torch.manual_seed(1)
    network = build(recipe)
    path = tmp_path_factory.mktemp("model") / "first.safetensors"
    save_model(path, network, study_layout(network, recipe), recipe)
    return path


def test_each_job_trains_on_its_own_and_is_evaluated_on_all(
    places: dict[str, Place], model: Path, tmp_path: Path
) -> None:
    def job(name: str, trained_on: list[str], rounds: int) -> Job:
        return Job(name, model, trained_on, rounds, places, tmp_path / name, seed=0, curve_points=2)

    seen: list[dict[str, int]] = []
    jobs = [job("pooled", ["site-1", "site-2"], 2), job("site-1", ["site-1"], 2), job("untrained", [], 0)]
    outcomes = run_jobs(jobs, tmp_path / "logs", lambda done: seen.append(dict(done)))
    assert seen[-1] == {"pooled": 2, "site-1": 2, "untrained": 0}
    assert {name: [number for number, _ in outcome.curve] for name, outcome in outcomes.items()} == {
        "pooled": [1, 2],
        "site-1": [1, 2],
        "untrained": [],
    }
    for outcome in outcomes.values():
        assert {site: len(labels) for site, labels in outcome.labels.items()} == {"site-1": 3, "site-2": 3}
        for site in places:
            assert outcome.probabilities[site].shape == (3, 4)
            np.testing.assert_allclose(outcome.probabilities[site].sum(axis=1), 1, atol=1e-5)
        assert sum(outcome.cases["site-2"]["training"].values()) == 5
    alone, pooled, untrained = (outcomes[name].probabilities["site-2"] for name in ("site-1", "pooled", "untrained"))
    assert not np.array_equal(alone, untrained)
    assert not np.array_equal(alone, pooled)
    assert "pooled: round 2 of 2" in (tmp_path / "logs" / "controls.log").read_text()


def test_what_a_job_raises_is_raised_here(model: Path, tmp_path: Path) -> None:
    nowhere = {"site-1": Place(tmp_path / "nowhere", tmp_path, 0)}
    with pytest.raises(DataProblems, match="does not exist"):
        run_jobs([Job("a", model, ["site-1"], 1, nowhere, tmp_path, 0)], tmp_path / "logs", lambda done: None)


def test_the_optimiser_of_a_control_goes_on_from_round_to_round(
    places: dict[str, Place], model: Path, tmp_path: Path
) -> None:
    settings = {"training.optimizer": "sgd", "training.momentum": 0.9, "training.lr": 0.01, **STEADY}
    saved = read_model(model)
    recipe = saved.recipe.overridden(settings)
    cases = CaseData.read(recipe, places["site-1"].data, places["site-1"].cache, 0)

    def trained(name: str, *, continuous: bool) -> Vector:
        machine = Machine(device="cpu", threads=1)
        trainer = Trainer(recipe, cases, tmp_path / name, 0, machine=machine, continuous=continuous)
        start = SavedModel(saved.vector, saved.layout, recipe)
        return [result.vector for result in train_rounds(trainer, start, 2)][-1]

    def by_hand(*, anew: bool) -> Vector:
        network = build(recipe)
        load_vector(network, saved.layout, saved.vector)
        network.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # missing in torch's stubs
        network.train()
        moments: dict[str, torch.Tensor] = {}
        for number in (1, 2):
            if anew:
                moments = {}
            order = seed_of(seed_of(0, "round", number), 0)
            for inputs, labels in batches(cases.training, recipe.training.batch, order):
                network.zero_grad()
                scores = network(inputs.contiguous(memory_format=torch.channels_last_3d)).float()
                torch.nn.functional.cross_entropy(scores, labels).backward()
                with torch.no_grad():
                    for name, weights in network.named_parameters():
                        assert weights.grad is not None
                        if name in moments:
                            moments[name].mul_(0.9).add_(weights.grad)
                        else:
                            moments[name] = weights.grad.clone()
                        weights.add_(moments[name], alpha=-learning_rate(recipe, RoundTerms(number)))
        return to_vector(network, saved.layout)

    torch.set_num_threads(1)
    going_on, anew = trained("continuous", continuous=True), trained("federated", continuous=False)
    np.testing.assert_array_equal(going_on, by_hand(anew=False))
    np.testing.assert_array_equal(anew, by_hand(anew=True))
    assert not np.array_equal(going_on, anew)


@pytest.mark.parametrize(("rounds", "points", "expected"), [(10, 4, [3, 5, 8, 10]), (2, 4, [1, 2]), (9, 3, [3, 6, 9])])
def test_the_learning_curve_has_evenly_spaced_points_and_the_last(
    rounds: int, points: int, expected: list[int]
) -> None:
    job = Job("a", Path("model"), [], rounds, {}, Path("state"), 0, points)
    assert [number for number in range(1, rounds + 1) if job.is_point(number)] == expected


def test_macro_auc_of_pooled_counts() -> None:
    recipe = load_recipe("ucadi").overridden(SMALL)
    layout = layout_of(build(recipe), (), count_fields(2, 4))
    scores = [[0, 0, 0, 2], [2, 0, 0, 0]], [[0, 2, 0, 0], [0, 2, 0, 0]]  # the first class told apart, the second not
    counts = [4, 0, 0, 0, 0, 0, *np.ravel(scores).tolist()]
    assert macro_auc(counts, layout) == 0.75
    assert macro_auc([0] * layout.counts_size, layout) == 0.5
