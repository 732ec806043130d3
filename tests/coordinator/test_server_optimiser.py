"""Server optimisers against formulas written down once more in float64, number by number; and their state as a file."""

from __future__ import annotations

import math

import numpy as np
import pytest
from safetensors.numpy import load

from coordinator.server_optimiser import first_state, keeps_state, take_step
from coordinator.terms import Server
from crypto.errors import Malformed
from crypto.layout import Layout, Tensor

LAYOUT = Layout(
    (
        Tensor("weight", (300, 301), "parameter"),  # more than is converted at a time
        Tensor("norm.running_mean", (7,), "buffer"),
        Tensor("scale", (), "parameter"),
        Tensor("bias", (5,), "parameter"),
    )
)
PARAMETER = np.repeat([True, False, True, True], [300 * 301, 7, 1, 5])
WATCHED = [0, 65_535, 65_536, 90_299, 90_307, 90_308, 90_312]  # parameters, at the edges of pieces and tensors
RULES = [
    Server(optimizer="fedavgm", lr=0.7, momentum=0.8),
    Server(optimizer="fedadam", lr=0.05, momentum=0.9, beta2=0.95, tau=0.01),
    Server(optimizer="fedyogi", lr=0.05, momentum=0.6, beta2=0.9, tau=0.001),
]


def means(rounds: int = 5) -> list[np.ndarray]:
    """Mean updates, some exactly zero, some far larger than others."""
    random = np.random.default_rng(3)
    found = random.normal(0, 0.1, (rounds, LAYOUT.size)) * random.choice([0.01, 1, 10], LAYOUT.size)
    found[:, 65_536] = 0.0
    return list(found.astype(np.float32))


def by_hand(rule: Server, deltas: list[float]) -> list[float]:
    """The steps of one parameter, as the papers have them."""
    m, v, steps = 0.0, rule.tau**2, []
    for delta in map(float, deltas):
        if rule.optimizer == "fedavgm":
            m = rule.momentum * m + delta
            steps.append(rule.lr * m)
            continue
        m = rule.momentum * m + (1 - rule.momentum) * delta
        if rule.optimizer == "fedadam":
            v = rule.beta2 * v + (1 - rule.beta2) * delta * delta
        else:
            sign = (v > delta * delta) - (v < delta * delta)
            v = v - (1 - rule.beta2) * delta * delta * sign
        steps.append(rule.lr * m / (math.sqrt(v) + rule.tau))
    return steps


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.optimizer)
def test_every_step_is_the_papers(rule) -> None:
    rounds, steps, state = means(), [], first_state(rule, LAYOUT)
    for mean in rounds:
        step = mean.copy()
        take_step(rule, LAYOUT, step, state)
        np.testing.assert_array_equal(step[~PARAMETER], mean[~PARAMETER], "buffers are averaged")
        steps.append(step)
    for place in WATCHED:
        expected = by_hand(rule, [mean[place] for mean in rounds])
        np.testing.assert_allclose([step[place] for step in steps], expected, rtol=3e-6)
    assert np.abs(np.array(steps) - np.array(rounds))[:, PARAMETER].max() > 0.01, "it is no plain mean"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.optimizer)
def test_the_state_is_a_safetensors_file_of_the_parameters_moments(rule) -> None:
    state = first_state(rule, LAYOUT)
    before = load(bytes(state))
    kinds = ["momentum"] if rule.optimizer == "fedavgm" else ["momentum", "second_moment"]
    assert set(before) == {f"{kind}/{name}" for kind in kinds for name in ("weight", "scale", "bias")}
    assert before["momentum/weight"].shape == (300, 301)
    assert before["momentum/scale"].shape == ()
    assert not before["momentum/bias"].any()
    if "second_moment" in kinds:
        np.testing.assert_allclose(before["second_moment/weight"], rule.tau**2, rtol=1e-6)
    mean = means(1)[0]
    take_step(rule, LAYOUT, mean.copy(), state)
    after = load(bytes(state))
    share = 1 if rule.optimizer == "fedavgm" else 1 - rule.momentum
    np.testing.assert_allclose(after["momentum/bias"], share * mean[-5:], rtol=1e-6)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.optimizer)
def test_the_same_again_is_the_same_to_the_last_bit(rule) -> None:
    """Whoever was killed in between repeats it from the stored state."""
    first, second = means(2)
    state = first_state(rule, LAYOUT)
    take_step(rule, LAYOUT, first, state)
    stored, once, twice = bytes(state), second.copy(), second.copy()
    take_step(rule, LAYOUT, once, state)
    again = bytearray(stored)
    take_step(rule, LAYOUT, twice, again)
    assert bytes(again) == bytes(state) != stored
    assert once.tobytes() == twice.tobytes()


def test_a_rate_alone_needs_no_state() -> None:
    rule, mean = Server(lr=0.5), means(1)[0]
    step = mean.copy()
    take_step(rule, LAYOUT, step, first_state(rule, LAYOUT))
    np.testing.assert_array_equal(step[PARAMETER], mean[PARAMETER] * np.float32(0.5))
    np.testing.assert_array_equal(step[~PARAMETER], mean[~PARAMETER])
    assert not keeps_state(rule)
    assert all(keeps_state(each) for each in RULES)
    assert Server().plain
    assert not rule.plain


def test_a_state_of_another_rule_or_layout() -> None:
    mean, other = means(1)[0], Layout(LAYOUT.tensors[:2])
    for state in (first_state(RULES[0], LAYOUT), first_state(RULES[1], other), bytearray()):
        with pytest.raises(Malformed, match="not that of fedadam"):
            take_step(RULES[1], LAYOUT, mean, state)
