"""DP-SGD: what each step adds up, what is drawn, what is refused, and what it says of the privacy that it costs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from dp_accounting import GaussianDpEvent, PoissonSampledDpEvent
from dp_accounting.rdp import RdpAccountant
from small_volumes import first_model, recipe, silent, trainer
from test_training_parts import NORMS
from torch import nn

from models.recipe import Recipe, load_recipe
from models.recipe_problems import RecipeError
from models.recipe_sections import DpSgd
from models.registry import build
from participant.data.dataset import CaseDataset
from participant.optimise import weighted_loss
from participant.terms import RoundTerms
from participant.training import Machine, Trainer
from participant.training.machine import Hardware
from participant.training.parts import Parts
from participant.training.private import NoiseAccount, PrivateSteps, drawn_batches
from participant.training_files import LastRound

PROMISE = {"max_grad_norm": 1.0, "noise_multiplier": 1.0, "delta": 1e-3}
PRIVATE: dict[str, Any] = {"network__frozen": NORMS, "training__dp_sgd": PROMISE, "training__local_steps": 4}


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


class Small(nn.Module):
    """No norm; the activation writes in place, which Opacus cannot do with unless told not to."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv3d(1, 3, 3, padding=1), nn.LeakyReLU(0.1, inplace=True), nn.AdaptiveAvgPool3d(2), nn.Flatten()
        )
        self.head = nn.Linear(24, 3)

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        scores: torch.Tensor = self.head(self.layers(volumes))
        return scores


def a_step(network: nn.Module, promise: DpSgd, parts: int | None, inputs: torch.Tensor, labels: torch.Tensor) -> float:
    optimizer = torch.optim.SGD(network.parameters(), lr=1.0)
    hardware = Hardware.chosen(recipe(training__dp_sgd=PROMISE, network__frozen=NORMS), Machine(device="cpu"))
    weights = torch.tensor([0.5, 1.0, 2.0])
    steps = PrivateSteps(hardware, network, optimizer, weights, Parts(parts), promise, batch=4)
    return steps.step(0, inputs, labels)


@pytest.mark.parametrize("parts", [None, 2])
@pytest.mark.parametrize("clip", [0.05, 100.0])
def test_a_step_follows_the_sum_of_clipped_gradients(parts: int | None, clip: float) -> None:
    torch.manual_seed(1)
    network, inputs, labels = Small(), torch.randn(5, 1, 4, 6, 6), torch.tensor([0, 1, 2, 2, 0])
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    expected = {name: torch.zeros_like(parameter) for name, parameter in before.items()}
    clipped = 0
    for case in range(5):
        network.zero_grad()
        loss = weighted_loss(network(inputs[case : case + 1]), labels[case : case + 1], torch.tensor([0.5, 1.0, 2.0]))
        loss.backward()  # type: ignore[no-untyped-call]
        gradients = {name: p.grad for name, p in network.named_parameters() if p.grad is not None}
        length = torch.cat([gradient.reshape(-1) for gradient in gradients.values()]).norm()
        clipped += int(length > clip)
        for name, gradient in gradients.items():
            expected[name] += gradient * min(1.0, clip / float(length)) / 4  # by a batch's mean size, not by 5
    network.zero_grad()
    silent_promise = DpSgd.model_construct(max_grad_norm=clip, noise_multiplier=0.0, delta=1e-3)
    a_step(network, silent_promise, parts, inputs, labels)
    assert clipped == (5 if clip < 1 else 0)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(before[name] - parameter.detach(), expected[name], rtol=1e-3, atol=1e-6)


def test_the_noise_has_its_deviation_and_is_never_the_same() -> None:
    promise = DpSgd(max_grad_norm=2.0, noise_multiplier=3.0, delta=1e-3)
    empty = torch.empty((0, 1, 4, 6, 6)), torch.empty(0, dtype=torch.int64)
    drawn = []
    for _ in range(2):
        torch.manual_seed(5)
        network = nn.Sequential(nn.Flatten(), nn.Linear(144, 1000))
        before = network[1].weight.detach().clone()
        assert a_step(network, promise, None, *empty) == 0.0
        drawn.append((before - network[1].weight.detach()).numpy().ravel())
    assert drawn[0].std() == pytest.approx(2.0 * 3.0 / 4, rel=0.01)  # of 144,000 values: 0.2 % is one deviation
    assert abs(drawn[0].mean()) < 0.02
    assert np.abs(drawn[0]).max() > 4 * 1.5
    assert abs(np.corrcoef(*drawn)[0, 1]) < 0.02, "the noise hangs on a seed that others may know"


def test_each_case_is_drawn_by_itself(site: Path, tmp_path: Path) -> None:
    cases = trainer(recipe(), site, tmp_path).cases.training
    sizes = [len(labels) for _, labels in drawn_batches(cases, 0.2, seed=1, first=0, steps=300)]
    assert np.mean(sizes) == pytest.approx(21 * 0.2, abs=5 * np.sqrt(21 * 0.2 * 0.8 / 300))
    assert np.var(sizes) == pytest.approx(21 * 0.2 * 0.8, rel=0.5)
    assert sizes != [len(labels) for _, labels in drawn_batches(cases, 0.2, seed=1, first=0, steps=300)]
    inputs, labels = next(drawn_batches(cases, 0.0, seed=1, first=0, steps=1))
    assert (inputs.shape, labels.shape) == ((0, 1, 8, 16, 16), (0,))
    assert len(list(drawn_batches(cases, 1.0, seed=1, first=3, steps=5))) == 2


def test_epsilon_is_that_of_an_independent_accountant(tmp_path: Path) -> None:
    account, promise = NoiseAccount(tmp_path), DpSgd(max_grad_norm=1.0, noise_multiplier=1.1, delta=1e-5)
    first = account.add(RoundTerms(1), promise, 0.05, 20)
    again = account.add(RoundTerms(1), promise, 0.05, 20)
    second = NoiseAccount(tmp_path).add(RoundTerms(1, attempt=2), promise, 0.05, 20)
    assert first == again, "one attempt leaves once, however often it was trained"
    for steps, found in ((20, first), (40, second)):
        independent = RdpAccountant()
        independent.compose(PoissonSampledDpEvent(0.05, GaussianDpEvent(1.1)), steps)
        assert found == pytest.approx(independent.get_epsilon(1e-5), rel=0.02)


def test_a_round_is_trained_accounted_and_goes_on_after_a_crash(
    site: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = recipe(**PRIVATE)
    base, layout = first_model(made)
    cases = trainer(made, site, tmp_path / "cases").cases

    def agent() -> Trainer:
        machine = Machine(device="cpu", threads=1, micro_batch=2, checkpoint_seconds=0)
        return Trainer(made, cases, tmp_path, 0, machine=machine, study="a study")

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        agent().train(base, layout, RoundTerms(1), stop)
    assert not (tmp_path / "noise.json").exists(), "nothing left, nothing was given away"
    steps: list[int] = []
    with caplog.at_level(logging.INFO):
        result = agent().train(base, layout, RoundTerms(1), lambda done, total: steps.append(done))
    assert steps == [3, 4]
    assert np.isfinite(result.vector).all()
    assert not np.array_equal(result.vector, base)
    last = LastRound.read(tmp_path)
    assert last is not None
    assert last.epsilon == NoiseAccount(tmp_path).add(RoundTerms(1), DpSgd(**PROMISE), 4 / 21, 4)
    assert f"epsilon {last.epsilon:.2f} at delta 0.001" in caplog.text
    later = agent().train(base, layout, RoundTerms(2), silent)
    assert not np.array_equal(later.vector, result.vector)
    assert (LastRound.read(tmp_path) or last).epsilon > last.epsilon


def refusal(made: Recipe) -> str:
    with pytest.raises(RecipeError) as caught:
        build(made)
    return str(caught.value)


def test_batch_norm_is_refused_with_its_layers_and_what_to_do() -> None:
    words = refusal(recipe(training__dp_sgd=PROMISE))
    assert "training.dp_sgd: densenet3d has layers that mix the cases of a batch: stem.1, stages.0.0.layers.0" in words
    assert "and 8 more" in words  # of sixteen
    assert "network.frozen" in words
    assert "ModuleValidator.fix" in words
    assert build(recipe(**PRIVATE))
    assert "stem.1" in refusal(recipe(**PRIVATE | {"network__frozen": [name for name in NORMS if "stem" not in name]}))


def test_norms_that_opacus_does_not_look_at_are_refused_too() -> None:
    from models.private_networks import refused_layers

    network = nn.Sequential(
        nn.BatchNorm2d(2, affine=False), nn.GroupNorm(1, 2), nn.InstanceNorm2d(2, affine=True, track_running_stats=True)
    )
    assert refused_layers(network) == ["0", "2"]


def test_the_guides_group_norm_network_trains(site: Path, tmp_path: Path) -> None:
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    (code,) = (block.partition("```")[0] for block in text.split("```python\n")[1:])
    folder = tmp_path / "checkpoints"
    folder.mkdir()
    (folder / "densenet3d_group_norm.py").write_text(code)
    from crypto.canonical import sha256

    own = {"network__name": "densenet3d_group_norm", "network__file": "densenet3d_group_norm.py"}
    made = recipe(**own, network__file_sha256=sha256(code.encode()), training__dp_sgd=PROMISE, training__local_steps=1)
    base, layout = first_model(made, folder)
    cases = trainer(recipe(), site, tmp_path / "cases").cases
    agent = Trainer(made, cases, tmp_path / "home", 0, checkpoints=folder, machine=Machine(device="cpu", threads=1))
    assert not np.array_equal(agent.train(base, layout, RoundTerms(1), silent).vector, base)
    assert isinstance(cases.training.parts[0], CaseDataset)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"training.class_weights": "balanced"}, "training.class_weights"),
        ({"training.precision": "bf16"}, "training.precision"),
        ({"preprocessing.statistics": "site"}, "preprocessing.statistics"),
        ({"training.dp_sgd": PROMISE | {"delta": 0.5}}, "training.dp_sgd.delta"),
        ({"training.dp_sgd": PROMISE | {"noise_multiplier": 0.0}}, "training.dp_sgd.noise_multiplier"),
        ({"training.dp_sgd": {"max_grad_norm": 1.0, "noise_multiplier": 1.0}}, "training.dp_sgd.delta"),
    ],
)
def test_what_a_recipe_cannot_promise(changes: dict[str, Any], key: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load_recipe("ucadi").overridden({"training.dp_sgd": PROMISE} | changes)
    assert [problem.key for problem in caught.value.problems] == [key]


def test_recipes_that_promise_nothing_keep_their_digests() -> None:
    made = load_recipe("ucadi")
    assert "dp_sgd" not in made.to_json()["training"]
    private = made.overridden({"training.dp_sgd": PROMISE})
    assert private.digest != made.digest
    assert Recipe.from_json(private.to_json()) == private
    assert private.training.dp_sgd == DpSgd(**PROMISE)
