"""FedProx and SCAFFOLD on quadratics, whose optima and steps are known in closed form."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from models.flatten import Vector, controls, layout_of, to_vector
from participant.drift import ControlVariates, Proximal

LR, STEPS = 0.1, 10


class Quadratic(nn.Module):
    """The loss 1/2 sum of curvature (w - target)^2 over two weights, one of them in a module of its own."""

    def __init__(self, curvature: Sequence[float] = (1.0, 1.0), target: Sequence[float] = (0.0, 0.0)) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.zeros(1))
        self.inner = nn.Module()
        self.inner.second = nn.Parameter(torch.zeros(()))
        self.curvature, self.target = torch.tensor(curvature), torch.tensor(target)

    def forward(self) -> Tensor:
        weights = torch.cat([self.first, self.inner.second[None]])
        return (self.curvature * (weights - self.target) ** 2).sum() / 2


def descend(network: Quadratic, correction: Proximal | ControlVariates | None, steps: int = STEPS) -> None:
    optimizer = torch.optim.SGD(network.parameters(), lr=LR)
    for _ in range(steps):
        optimizer.zero_grad()
        network().backward()
        if correction is not None:
            correction.correct()
        optimizer.step()


@pytest.mark.parametrize("mu", [0.0, 0.5, 1.0, 4.0])
def test_the_proximal_term_holds_the_weights_back_as_computed(mu: float) -> None:
    network = Quadratic((2.0, 1.0), (3.0, -1.0))
    start = np.array([0.5, 0.25])
    with torch.no_grad():
        network.first.fill_(start[0])
        network.inner.second.fill_(start[1])
    descend(network, Proximal(network.parameters(), mu))
    moved = np.array([network.first.item(), network.inner.second.item()]) - start
    curvature, target = np.array([2.0, 1.0]), np.array([3.0, -1.0])
    whole = curvature + mu  # gradient descent on curvature/2 (w - target)^2 + mu/2 (w - start)^2, from start
    expected = (target - start) * curvature / whole * (1 - (1 - LR * whole) ** STEPS)
    np.testing.assert_allclose(moved, expected, rtol=1e-5)


def test_an_unused_parameter_has_no_gradient_to_correct() -> None:
    network = Quadratic()
    layout = layout_of(network, scaffold=True)
    for correction in (
        Proximal(network.parameters(), 1.0),
        ControlVariates(network, layout, np.ones(layout.size, np.float32), {}),
    ):
        correction.correct()
    assert network.first.grad is None


@dataclass
class Site:
    """One site of a federation on quadratics, with SCAFFOLD or without."""

    curvature: tuple[float, float]
    target: tuple[float, float]
    own: dict[str, Tensor] = field(default_factory=dict)

    def scaffold(self, base: Vector, share: float = 1.0, steps: int = STEPS) -> Vector:
        network = Quadratic(self.curvature, self.target)
        layout = layout_of(network, scaffold=True)
        with torch.no_grad():
            network.first.copy_(torch.from_numpy(base[:1]))
            network.inner.second.copy_(torch.tensor(base[1]))
        variates = ControlVariates(network, layout, base, self.own)
        descend(network, variates, steps)
        vector = to_vector(network, layout)
        renewed = variates.renewed(steps, LR)
        variates.put(vector, base, renewed, share)
        self.own = renewed
        return vector

    @property
    def variate(self) -> np.ndarray:
        return np.array([float(self.own[name]) if self.own else 0.0 for name in ("first", "inner.second")])


SITES = [((1.0, 3.0), (4.0, -2.0)), ((5.0, 0.5), (-1.0, 6.0)), ((2.0, 1.0), (0.0, 1.0)), ((0.5, 4.0), (3.0, 3.0))]


def test_a_round_is_that_of_the_published_algorithm() -> None:
    """Against the update rules of the paper's algorithm 1, option II, written out in float64."""
    sites = [Site(*each) for each in SITES[:2]]
    base = np.array([1.0, -1.0, 0.0, 0.0], np.float32)
    x, c, own = base[:2].astype(np.float64), np.zeros(2), [np.zeros(2), np.zeros(2)]
    for _ in range(3):
        updates = [site.scaffold(base) - base for site in sites]
        base = base + np.mean(updates, axis=0)
        ys, news = [], []
        for (curvature, target), mine in zip(SITES[:2], own, strict=True):
            y = x.copy()
            for _ in range(STEPS):
                y -= LR * (np.array(curvature) * (y - np.array(target)) - mine + c)
            ys.append(y)
            news.append(mine - c + (x - y) / (STEPS * LR))
        c = c + np.mean([new - old for new, old in zip(news, own, strict=True)], axis=0)
        x, own = x + np.mean([y - x for y in ys], axis=0), news
        np.testing.assert_allclose(base, np.concatenate([x, c]), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose([site.variate for site in sites], own, rtol=1e-4, atol=1e-5)


def test_scaffold_finds_the_common_optimum_where_plain_averaging_does_not() -> None:
    curvature, target = (np.array([each[i] for each in SITES[:2]]) for i in (0, 1))
    optimum = (curvature * target).sum(axis=0) / curvature.sum(axis=0)
    sites, base, plain = [Site(*each) for each in SITES[:2]], np.zeros(4, np.float32), np.zeros(2)
    for _ in range(200):
        base = np.mean([site.scaffold(base) for site in sites], axis=0, dtype=np.float32)
        kept = (1 - LR * curvature) ** STEPS
        plain = np.mean(target + (plain - target) * kept, axis=0)  # each site's own descent, averaged
    np.testing.assert_allclose(base[:2], optimum, atol=1e-4)
    assert np.abs(plain - optimum).max() > 0.5
    np.testing.assert_allclose(base[2:], 0, atol=1e-3)  # the mean gradient at the optimum


def test_the_shared_variate_is_the_mean_of_all_sites_though_a_few_take_part() -> None:
    sites, base, rng = [Site(*each) for each in SITES], np.zeros(4, np.float32), np.random.default_rng(3)
    for _ in range(150):
        chosen = rng.choice(4, 2, replace=False)
        base = np.mean([sites[number].scaffold(base, share=0.5) for number in chosen], axis=0, dtype=np.float32)
        np.testing.assert_allclose(base[2:], np.mean([site.variate for site in sites], axis=0), atol=1e-4)


@pytest.mark.parametrize("event", ["leaves", "joins", "fails once"])
def test_scaffold_recovers_from_a_site_that(event: str) -> None:
    sites, base = [Site(*each) for each in SITES[:3]], np.zeros(4, np.float32)
    for number in range(300):
        present = sites
        if (event, number < 3) in (("leaves", False), ("joins", True)) or (event, number) == ("fails once", 3):
            present = sites[:2]
        base = np.mean([site.scaffold(base) for site in present], axis=0, dtype=np.float32)
    curvature, target = (np.array([each[i] for each in SITES[: 2 if event == "leaves" else 3]]) for i in (0, 1))
    np.testing.assert_allclose(base[:2], (curvature * target).sum(axis=0) / curvature.sum(axis=0), atol=1e-3)


def test_the_variates_lie_behind_the_parameters_they_are_of() -> None:
    layout = layout_of(Quadratic(), scaffold=True)
    assert [tensor.name for tensor in layout.tensors] == [
        "first",
        "inner.second",
        "control/first",
        "control/inner.second",
    ]
    assert list(controls(layout)) == [("first", slice(2, 3)), ("inner.second", slice(3, 4))]
