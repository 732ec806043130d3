"""Training at a site, on small volumes whose class is where they are dense."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from small_volumes import first_model, recipe, silent, trainer, write_site

from crypto.layout import Layout, named_counts
from models.flatten import LayoutMismatch, Vector, study_layout, to_vector
from models.recipe import Recipe, load_recipe
from models.registry import build
from participant.case_data import CaseData, batches, steps_per_epoch
from participant.data.errors import DataProblems
from participant.documents import Study
from participant.optimise import (
    class_weights,
    learning_rate,
    optimizer_for,
    precision_for,
    seed_of,
    weighted_loss,
)
from participant.settings import Config, Home
from participant.setup import image_trainer
from participant.terms import RoundTerms
from participant.training import Machine, Trainer, TrainingDiverged


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


def test_a_few_rounds_learn_what_can_be_seen(site: Path, tmp_path: Path) -> None:
    made = recipe(training__local_epochs=3)
    vector, layout = first_model(made)
    agent = trainer(made, site, tmp_path)
    losses = []
    for number in (1, 2, 3, 4, 5, 6):
        result = agent.train(vector, layout, RoundTerms(number), silent)
        agent.keep(result)
        vector = result.vector
        losses.append(result.loss)
    assert losses[-1] < 0.5 * losses[0]
    test = agent.cases.test
    found = agent.probabilities(vector, layout, test, silent)
    assert found.shape == (6, 3)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)
    assert (found.argmax(axis=1) == test.labels).all()


def test_the_seed_and_the_round_decide_everything(site: Path, tmp_path: Path) -> None:
    made = recipe(network__options__stem_drop=0.1)
    vector, layout = first_model(made)

    def once(home: str, number: int, seed: int = 0) -> Vector:
        torch.rand(3)  # whatever else drew from torch's generator before
        return trainer(made, site, tmp_path / home, seed).train(vector, layout, RoundTerms(number), silent).vector

    again = once("a", 1)
    np.testing.assert_array_equal(again, once("b", 1))
    assert not np.array_equal(again, once("c", 2))
    assert not np.array_equal(again, once("d", 1, seed=1))


def test_training_leaves_torchs_generator_where_it_was(site: Path, tmp_path: Path) -> None:
    made = recipe(network__options__stem_drop=0.1)
    agent = trainer(made, site, tmp_path)
    torch.manual_seed(7)
    expected = torch.rand(1)
    torch.manual_seed(7)
    agent.train(*first_model_without_draw(made), RoundTerms(1), silent)
    assert torch.rand(1) == expected


def first_model_without_draw(of: Recipe) -> tuple[Vector, Layout]:
    with torch.random.fork_rng():
        return first_model(of)


def test_the_result_says_what_was_done(site: Path, tmp_path: Path) -> None:
    made = recipe(training__local_steps=3)
    vector, layout = first_model(made)
    base = vector.copy()
    seen: list[tuple[int, int]] = []
    agent = trainer(made, site, tmp_path)
    result = agent.train(vector, layout, RoundTerms(1), lambda *step: seen.append(step))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    assert result.samples == agent.samples == 21
    assert result.vector.shape == (layout.size,)
    assert result.vector.dtype == np.float32
    assert result.seconds > 0
    np.testing.assert_array_equal(vector, base)
    assert not np.array_equal(result.vector, base)


def test_counts_are_of_the_validation_cases(site: Path, tmp_path: Path) -> None:
    made = recipe()
    vector, layout = first_model(made)
    agent = trainer(made, site, tmp_path)
    counts = named_counts(agent.evaluate(vector, layout, silent), layout.counts)
    assert int(counts["cases"]) == len(agent.cases.validation) == 3
    np.testing.assert_array_equal(counts["confusion"].sum(axis=1), agent.cases.validation.class_counts)
    assert agent.evaluate(vector, layout, silent) == agent.evaluate(vector, layout, silent)


def test_what_stays_home_is_kept_between_rounds_and_restarts(site: Path, tmp_path: Path) -> None:
    made = recipe(training__local_steps=5)
    vector, layout = first_model(made)
    for number in (1, 2):
        agent = trainer(made, site, tmp_path)
        lost = agent.train(vector, layout, RoundTerms(number), silent)
        counted = agent.train(vector, layout, RoundTerms(number), silent)
        np.testing.assert_array_equal(lost.vector, counted.vector)  # what does not count changes nothing here
        agent.keep(counted)
    (kept,) = tmp_path.iterdir()
    state = load_file(kept)
    (schedule,) = [value for name, value in state.items() if name.endswith("taken")]
    assert int(schedule) == 10
    assert not set(state) & {tensor.name for tensor in layout.tensors}


def test_work_that_is_called_off_changes_nothing(site: Path, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise InterruptedError

    made = recipe()
    vector, layout = first_model(made)
    with pytest.raises(InterruptedError):
        trainer(made, site, tmp_path).train(vector, layout, RoundTerms(1), stop)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_ends_the_training(site: Path, tmp_path: Path) -> None:
    made = recipe(training__lr=1e30)
    vector, layout = first_model(made)
    with pytest.raises(TrainingDiverged, match=r"lower training\.lr"):
        trainer(made, site, tmp_path).train(vector, layout, RoundTerms(1), silent)


def test_a_base_model_of_another_network_is_refused(site: Path, tmp_path: Path) -> None:
    _, other = first_model(recipe(network__options__width=8))
    with pytest.raises(LayoutMismatch):
        trainer(recipe(), site, tmp_path).train(np.zeros(other.size, np.float32), other, RoundTerms(1), silent)


def test_frozen_tensors_stay_as_they_were_and_do_not_travel(site: Path, tmp_path: Path) -> None:
    made = recipe(network__frozen=["stem.*"], training__local_steps=2)
    vector, layout = first_model(made)
    assert not any(tensor.name.startswith("stem.") for tensor in layout.tensors)
    assert trainer(made, site, tmp_path).train(vector, layout, RoundTerms(1), silent).vector.size == layout.size


def test_bf16_trains_float32_weights(site: Path, tmp_path: Path) -> None:
    deep: dict[str, Any] = {"input__size": [12, 16, 16], "training__local_steps": 2}
    made = recipe(training__precision="bf16", **deep)
    vector, layout = first_model(made)
    result = trainer(made, site, tmp_path).train(vector, layout, RoundTerms(1), silent)
    exact = trainer(recipe(**deep), site, tmp_path / "b").train(vector, layout, RoundTerms(1), silent)
    assert not np.array_equal(result.vector, exact.vector)
    assert np.isfinite(result.vector).all()


def test_a_class_without_cases_is_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    made = recipe(training__class_weights="balanced", training__local_steps=1)
    write_site(tmp_path / "site", (6, 4, 0))
    with caplog.at_level(logging.WARNING):
        agent = trainer(made, tmp_path / "site", tmp_path / "home")
    assert "class left has no cases" in caplog.text
    assert np.isfinite(agent.train(*first_model(made), RoundTerms(1), silent).loss)


def test_a_site_without_training_cases_is_told_so(tmp_path: Path) -> None:
    root = write_site(tmp_path / "site", (2, 0, 0))
    (root / "labels.csv").write_text("path,label,split\nfront/p000.nii.gz,front,test\nfront/p001.nii.gz,front,test\n")
    made = recipe()
    with pytest.raises(DataProblems, match="cannot train"):
        trainer(made, root, tmp_path / "home").train(*first_model(made), RoundTerms(1), silent)


def test_damaged_cases_are_all_named_at_once(tmp_path: Path) -> None:
    root = write_site(tmp_path / "site", (4, 4, 4))
    for name in ("front/p000.nii.gz", "left/p203.nii.gz"):
        (root / name).write_bytes(b"cut short")
    with pytest.raises(DataProblems) as raised:
        trainer(recipe(), root, tmp_path / "home")
    assert "p000" in str(raised.value)
    assert "p203" in str(raised.value)


def test_sites_joined_have_the_cases_of_both_in_their_splits(site: Path, tmp_path: Path) -> None:
    made = recipe()
    other = write_site(tmp_path / "other", (5, 0, 5), seed=9)
    both = [CaseData.read(made, root, tmp_path / "cache", 0) for root in (site, other)]
    joined = CaseData.joined(both)
    assert len(joined.training) == sum(len(each.training) for each in both)
    assert joined.test.class_counts == tuple(np.add(both[0].test.class_counts, both[1].test.class_counts))
    last = len(both[1].test) - 1
    torch.testing.assert_close(
        joined.test.evaluation_inputs(len(joined.test) - 1), both[1].test.evaluation_inputs(last)
    )


@pytest.mark.parametrize(("cases", "batch"), [(21, 4), (21, 5), (21, 21), (21, 40), (21, 10)])
def test_an_epoch_has_each_case_at_most_once_and_no_batch_of_one(
    site: Path, tmp_path: Path, cases: int, batch: int
) -> None:
    training = CaseData.read(recipe(), site, tmp_path, 0).training
    assert len(training) == cases
    sizes = [len(labels) for _, labels in batches(training, batch, 5)]
    assert len(sizes) == steps_per_epoch(cases, batch)
    assert min(sizes) > 1
    assert cases - 1 <= sum(sizes) <= cases


def test_a_sites_own_statistics_are_those_of_its_training_cases(site: Path, tmp_path: Path) -> None:
    own = CaseData.read(recipe(preprocessing__statistics="site"), site, tmp_path, 0)
    values = torch.stack([own.training[i][0] for i in range(len(own.training))])
    assert abs(values.mean()) < 0.05
    assert abs(values.std() - 1) < 0.05


def test_weight_decay_spares_norms_and_biases_when_asked() -> None:
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), torch.nn.BatchNorm3d(2), torch.nn.Linear(2, 2))
    spared = optimizer_for(network, recipe(training__no_decay_on_norm_and_bias=True).training, 0.1)
    assert [(len(group["params"]), group["weight_decay"]) for group in spared.param_groups] == [(2, 5e-4), (4, 0.0)]
    plain = optimizer_for(network, recipe(training__no_decay_on_norm_and_bias=False).training, 0.1)
    assert [(len(group["params"]), group["weight_decay"]) for group in plain.param_groups] == [(6, 5e-4)]
    adam = optimizer_for(network, load_recipe("fl-cxr-resnet18").training, 2e-5)
    assert isinstance(adam, torch.optim.Adam)
    assert adam.param_groups[0]["lr"] == 2e-5


def test_class_weights() -> None:
    assert class_weights(recipe(), [5, 5, 5]) is None
    balanced = class_weights(recipe(training__class_weights="balanced"), [6, 2, 0])
    assert balanced is not None
    torch.testing.assert_close(balanced, torch.tensor([8 / 12, 8 / 4, 0.0]))
    given = class_weights(recipe(training__class_weights=[0.2, 0.4, 0.4]), [1, 1, 1])
    assert given is not None
    torch.testing.assert_close(given, torch.tensor([0.6, 1.2, 1.2]))
    rare = class_weights(recipe(training__class_weights=[1.0, 1.0, 12.0]), [50, 30, 2])
    assert rare is not None
    assert float(rare @ torch.tensor([50.0, 30.0, 2.0])) == pytest.approx(82), (
        "1 on average: the rate keeps its meaning"
    )
    assert float(rare[2] / rare[0]) == pytest.approx(12)
    assert class_weights(recipe(training__class_weights=[0.0, 0.0, 1.0]), [5, 5, 0]).tolist() == [0, 0, 0]


def test_a_cases_weight_is_its_classs_whatever_else_is_in_the_batch() -> None:
    scores, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    weights = torch.tensor([0.2, 0.0, 0.8])
    each = torch.nn.functional.cross_entropy(scores, labels, reduction="none") * weights[labels]
    torch.testing.assert_close(weighted_loss(scores, labels, weights), each.mean())
    halves = [weighted_loss(scores[part], labels[part], weights) for part in (slice(0, 2), slice(2, 6))]
    torch.testing.assert_close((2 * halves[0] + 4 * halves[1]) / 6, each.mean())
    assert weighted_loss(scores[1:2], labels[1:2], weights) == 0


def test_precision_is_the_recipes_or_what_the_device_can(caplog: pytest.LogCaptureFixture) -> None:
    cpu = torch.device("cpu")
    assert precision_for(recipe(training__precision="32", input__size=[16, 16, 16]), cpu) == "32-true"
    assert precision_for(recipe(training__precision="bf16", input__size=[16, 16, 16]), cpu) == "bf16-mixed"
    assert (
        precision_for(recipe(training__precision="auto", input__size=[16, 16, 16]), torch.device("meta")) == "32-true"
    )
    assert not caplog.records
    assert precision_for(recipe(training__precision="bf16", input__size=[8, 16, 16]), cpu) == "32-true"
    assert "fewer than 12 slices" in caplog.text


def test_seeds_differ_by_purpose() -> None:
    seeds = {seed_of(1), seed_of(1, "round", 1), seed_of(1, "round", 2), seed_of(2, "round", 1), seed_of(1, 1)}
    assert len(seeds) == 5
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_learning_rate_falls_over_the_recipes_rounds_and_never_rises_again() -> None:
    falling = recipe(training__lr=0.4, training__schedule="cosine", federation__rounds=4)
    rates = [learning_rate(falling, RoundTerms(number)) for number in range(1, 7)]
    assert rates[:4] == pytest.approx([0.4, 0.2 + 0.2 * 2**-0.5, 0.2, 0.2 - 0.2 * 2**-0.5])
    assert rates[4:] == [rates[3]] * 2
    assert learning_rate(recipe(training__lr=0.4), RoundTerms(100)) == 0.4


def test_a_warm_up_rises_in_equal_steps_to_where_the_schedule_starts() -> None:
    def rates(**changes: Any) -> list[float]:
        made = recipe(training__lr=0.4, training__warmup_rounds=3, federation__rounds=7, **changes)
        return [learning_rate(made, RoundTerms(number)) for number in range(1, 9)]

    assert rates() == pytest.approx([0.1, 0.2, 0.3] + [0.4] * 5)
    cosine = [0.4, 0.2 + 0.2 * 2**-0.5, 0.2, 0.2 - 0.2 * 2**-0.5]
    assert rates(training__schedule="cosine") == pytest.approx([0.1, 0.2, 0.3, *cosine, cosine[-1]])


def test_a_plateau_lowers_every_rate_as_the_terms_say() -> None:
    plateau = {"training__schedule": "plateau", "training__plateau": {"factor": 0.7, "patience": 5}}
    made = recipe(training__lr=0.4, training__warmup_rounds=1, **plateau)
    rates = [learning_rate(made, RoundTerms(number, rate=0.7)) for number in (1, 2, 50)]
    assert rates == pytest.approx([0.14, 0.28, 0.28])


def test_a_round_trains_at_its_own_rate(site: Path, tmp_path: Path) -> None:
    """The first step of a round moves the weights by its rate: a later round of a falling schedule moves them less."""
    falling = recipe(training__schedule="cosine", training__local_steps=1, federation__rounds=10)
    cases = CaseData.read(falling, site, tmp_path / "cache", 0)
    network = build(falling)
    layout = study_layout(network, falling)
    base = to_vector(network, layout)

    def moved(number: int) -> float:
        trainer = Trainer(falling, cases, tmp_path / str(number), 0, machine=Machine(threads=1))
        result = trainer.train(base, layout, RoundTerms(number), silent)
        parameters = np.concatenate([np.full(t.size, t.kind == "parameter") for t in layout.tensors])
        return float(np.abs(result.vector - base)[parameters].sum())

    assert moved(10) < 0.1 * moved(1)


def test_studies_of_one_recipe_share_their_cases_and_nothing_else(site: Path, tmp_path: Path) -> None:
    """DropBlock's schedule counts a study's own steps, whatever else the site trains."""
    shared = recipe(training__local_steps=1)
    home, config = Home(tmp_path), Config(name="north", coordinator="https://example.org", data=str(site))
    network = build(shared)
    layout = study_layout(network, shared)
    for number in (1, 2):
        study = Study.model_construct(id=UUID(int=number), name=f"study {number}", recipe=shared.to_json())
        trainer = image_trainer(home, config)(study)
        trainer.keep(trainer.train(to_vector(network, layout), layout, RoundTerms(1), silent))
    states = sorted(tmp_path.rglob("local-state.safetensors"))
    assert [state.parent.name for state in states] == [str(UUID(int=number)) for number in (1, 2)]
    taken = [value.max().item() for state in states for name, value in load_file(state).items() if "taken" in name]
    assert taken
    assert set(taken) == {1}
