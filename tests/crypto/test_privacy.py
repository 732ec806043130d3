"""Distributed differential privacy: the noise of opened sums, and what epsilon is of it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.special import ndtri

from crypto import sampling
from crypto.canonical import sha256
from crypto.errors import Malformed
from crypto.lanes import LaneFormat
from crypto.layout import Layout, Tensor
from crypto.manifest import Ballot
from crypto.parameters import K_LIMIT
from crypto.privacy import Privacy, assumptions, length
from crypto.sampling import NORMAL_LIMIT, normal
from crypto.schemes import scheme
from crypto.schemes.opening import open_ballot

MINIMUM = 3
PROMISE = Privacy(clip=2.0, noise_multiplier=0.8, delta=1e-5)
LAYOUT = Layout((Tensor("weight", (24, 8), "parameter"), Tensor("variance", (10,), "buffer")))
KEY = bytes(range(32))


# --- one site's update


def test_a_long_update_is_clipped_whole_and_a_short_one_is_not() -> None:
    quiet = Privacy(clip=2.0, noise_multiplier=0.01, delta=1e-5)
    long, short = np.full(10_000, 1.0, np.float32), np.full(10_000, 0.01, np.float32)
    assert quiet.protected(long, MINIMUM).mean() == pytest.approx(0.02, abs=1e-3)  # of length 100, clipped to 2
    assert quiet.protected(short, MINIMUM).mean() == pytest.approx(0.01, abs=1e-3)


def test_each_share_has_its_part_of_the_variance() -> None:
    noise = PROMISE.protected(np.zeros(400_000, np.float32), MINIMUM)
    assert noise.std() == pytest.approx(1.6 / math.sqrt(3), rel=0.01)
    assert abs(noise.mean()) < 0.01


def test_noise_is_never_the_same_twice() -> None:
    update = np.zeros(100, np.float32)
    assert not np.array_equal(PROMISE.protected(update, MINIMUM), PROMISE.protected(update, MINIMUM))


def test_no_piece_of_a_long_update_has_the_noise_of_another() -> None:
    noise = PROMISE.protected(np.zeros(1 << 17, np.float32), MINIMUM)
    assert np.mean(noise[: 1 << 16] == noise[1 << 16 :]) < 0.001  # as float32 some meet by chance


def test_the_update_itself_stays_as_it_was() -> None:
    update = np.ones(100, np.float32)
    PROMISE.protected(update, MINIMUM)
    assert (update == 1).all()


def test_lengths_are_summed_in_doubles() -> None:
    assert length(np.full(200_000, 1e-3, np.float32)) == pytest.approx(1e-3 * math.sqrt(200_000), rel=1e-7)
    assert length(np.full(4, 1e30, np.float32)) == pytest.approx(2e30, rel=1e-6)


def test_samples_are_normal_and_go_on_where_they_stopped() -> None:
    samples = normal(KEY, 0, 200_000)
    assert np.array_equal(samples[1000:1010], normal(KEY, 1000, 10))
    assert (samples.mean(), samples.std()) == (pytest.approx(0, abs=0.01), pytest.approx(1, abs=0.01))
    assert np.mean(np.abs(samples) > 1.959964) == pytest.approx(0.05, abs=0.002)


@pytest.mark.parametrize(("octet", "sign"), [(b"\x00", -1), (b"\xff", 1)])
def test_the_farthest_sample_is_a_number(monkeypatch: pytest.MonkeyPatch, octet: bytes, sign: int) -> None:
    monkeypatch.setattr(sampling, "keystream", lambda key, start, count: np.frombuffer(octet * count, np.uint8))
    (farthest,) = normal(KEY, 0, 1)
    assert 8.2 < sign * farthest < NORMAL_LIMIT


def test_the_farthest_sample_is_within_its_limit() -> None:
    assert -NORMAL_LIMIT < ndtri(0.5 * 2.0**-53) < -NORMAL_LIMIT + 0.01


# --- lanes


@pytest.mark.parametrize("minimum", [2, 3, 64, K_LIMIT])
@pytest.mark.parametrize("multiplier", [0.01, 0.5, 1.0, 10_000.0])
@pytest.mark.parametrize("clip", [2.0**-16, 1.0, 3.0, 2.0**16])
def test_lanes_hold_all_noise_and_resolve_it(clip: float, multiplier: float, minimum: int) -> None:
    promise = Privacy(clip=clip, noise_multiplier=multiplier, delta=1e-6)
    bound, share = promise.bound(minimum), promise.share(minimum)
    assert clip + NORMAL_LIMIT * share <= bound <= 2**32
    assert share > 300 * bound / LaneFormat(K_LIMIT).Q


# --- recipes


def test_a_recipe_without_the_section_promises_nothing() -> None:
    assert Privacy.of({"name": "plain"}) is None
    whole = {"clip": 1, "noise_multiplier": 1, "delta": 1e-5}
    assert Privacy.of({"privacy": whole}) == Privacy(clip=1.0, noise_multiplier=1.0, delta=1e-5)


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"clip": 1.0, "noise_multiplier": 1.0}, "delta: Field required"),
        ({"clip": 0.0, "noise_multiplier": 1.0, "delta": 1e-5}, "clip: Input should be greater"),
        ({"clip": 1.0, "noise_multiplier": 0.0, "delta": 1e-5}, "noise_multiplier: Input should be greater"),
        ({"clip": 1.0, "noise_multiplier": 1.0, "delta": 0.5}, "delta: Input should be less"),
        ({"clip": 1.0, "noise_multiplier": 1.0, "delta": 1e-5, "sigma": 1}, "sigma: Extra"),
        ("yes", "Input should be"),
    ],
)
def test_what_is_no_promise(section: object, fault: str) -> None:
    with pytest.raises(Malformed, match=f"privacy cannot be.*{fault}"):
        Privacy.of({"privacy": section})


# --- epsilon, beside an independent accountant


@pytest.mark.parametrize("sums", [1, 5, 40])
@pytest.mark.parametrize("multiplier", [0.7, 1.0, 4.0])
def test_epsilon_agrees_with_an_independent_accountant(multiplier: float, sums: int) -> None:
    """Opacus' Renyi accountant bounds epsilon from above, by no more than 10 %; its numerical one is within 0.01."""
    accountants = pytest.importorskip("opacus.accountants")
    found = Privacy(clip=1.0, noise_multiplier=multiplier, delta=1e-5).epsilon(sums)
    renyi, numerical = accountants.RDPAccountant(), accountants.PRVAccountant()
    renyi.history, numerical.history = [(multiplier, 1.0, sums)], [(multiplier, 1 - 1e-9, sums)]
    orders = [1 + each / 50 for each in range(1, 5000)]
    assert found <= renyi.get_epsilon(1e-5, alphas=orders) <= 1.1 * found
    assert numerical.get_epsilon(1e-5, eps_error=0.005) == pytest.approx(found, abs=0.01)


def test_nothing_opened_tells_nothing() -> None:
    assert PROMISE.epsilon(0) == 0
    assert PROMISE.epsilon(1) < PROMISE.epsilon(2) < PROMISE.epsilon(10)


def test_the_assumptions_name_the_minimum() -> None:
    assert "while 5 contributors" in " ".join(assumptions(5))


# --- opened sums, through the real scheme


def opened_sum(study, plan, updates) -> np.ndarray:
    """The sum of what these sites make of their updates, sealed, added and opened."""
    ours = scheme(plan.scheme)
    sealed = [ours.seal(plan, LAYOUT, PROMISE.protected(each, MINIMUM), 0, [], study.public) for each in updates]
    bodies = [list(each) for each in sealed]
    assert not any(sum(each.clipped) for each in sealed)
    sites = study.sites[: len(updates)]
    keys = [tuple(map(sha256, each.key_parts)) for each in sealed]
    manifests = tuple(
        study.identities[site].sign(study.manifest(site, parts=tuple(map(sha256, body)), key_parts=key))
        for site, body, key in zip(sites, bodies, keys, strict=True)
    )
    ballot = Ballot(plan=plan.digest, manifests=manifests)
    key_parts = {site: [own.key_parts[0]] for site, own in zip(sites, sealed, strict=True)}
    answer = open_ballot(plan, ballot, key_parts, study.dealt.secret, study.sites[0])
    totals = []
    for number, parts in enumerate(zip(*bodies, strict=True)):
        adder = ours.adder(plan, LAYOUT, number)
        for part in parts:
            adder.add(part)
        totals.append(adder.total())
    revealed = ours.reveal(plan, LAYOUT, totals, answer.secret_sum, len(updates))
    assert (revealed.counts.samples, revealed.counts.capped_samples, revealed.counts.recipe) == (0, 0, ())
    return np.asarray(revealed.mean, np.float64) * len(updates)


@pytest.mark.parametrize(("rounds", "contributors"), [(1000, MINIMUM), (100, 4)])
def test_the_noise_of_opened_sums_is_the_promised_one(federation, rounds: int, contributors: int) -> None:
    bounds = [PROMISE.bound(MINIMUM)] * len(LAYOUT.tensors)
    changes = {"layout": LAYOUT.digest, "weighting": "equal", "bounds": bounds, "minimum_contributors": MINIMUM}
    study = federation.with_plan(**changes)
    random = np.random.default_rng(11)
    updates = random.normal(0, 1, (contributors, LAYOUT.size)).astype(np.float32)
    clipped = sum(2.0 * each.astype(np.float64) / length(each) for each in updates)
    noise = np.array([opened_sum(study, study.plan, updates) for _ in range(rounds)]) - clipped
    promised = PROMISE.deviation * math.sqrt(contributors / MINIMUM)
    assert noise.std() == pytest.approx(promised, rel=0.05)
    assert abs(noise.mean()) < 5 * promised / math.sqrt(noise.size)
    if rounds == 1000:  # each value by itself, and no two of them together
        assert (np.abs(noise.std(axis=0) / promised - 1) < 0.12).all()
        among = np.corrcoef(noise.T)[~np.eye(LAYOUT.size, dtype=bool)]
        assert np.abs(among).max() < 0.2
