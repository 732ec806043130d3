"""The noise that an opener adds under `ckks`: how much it is, and that nothing else shows beside it."""

from __future__ import annotations

import ckks_round
import numpy as np
import pytest
import tenseal as ts
from ckks_round import NOISE, frames_of

from crypto.ckks_secret import opening_noise
from crypto.parameters import CKKS_OPENING_NOISE, CKKS_SLOTS

study, updates, played = ckks_round.study, ckks_round.updates, ckks_round.played


def test_the_error_is_the_opening_noise_in_units_of_the_bound(played, updates):
    """Neither CKKS nor float32 adds anything that shows beside it, for small bounds as for large ones."""
    weights = np.array([0.4, 1.0, 0.8])
    exact = weights @ updates[:3].astype(np.float64) / weights.sum()
    error = (played.reveal().mean - exact)[:2400] * weights.sum() / CKKS_OPENING_NOISE
    assert error.std() == pytest.approx(1.0, abs=0.1)
    assert abs(error.mean()) < 0.1


def test_each_opening_has_its_own_noise(played):
    first, second = (np.frombuffer(played.open()[0], "<f4") for _ in range(2))
    difference = (first.astype(np.float64) - second)[2500:4000]  # zeros between values and counts
    assert difference.std() == pytest.approx(np.sqrt(2) * CKKS_OPENING_NOISE, rel=0.1)


def test_the_noise_covers_that_of_decryption(played, updates):
    """What decryption alone leaves in a slot is far smaller than what the opener adds."""
    context, (first, *_) = played.study.dealt.secret._context, frames_of(played.totals[0])
    values = np.array(ts.ckks_vector_from(context, first).decrypt())
    weights = np.array([0.4, 1.0, 0.8])
    exact = (weights[:, None] * updates[:3, :CKKS_SLOTS].astype(np.float64)).astype(np.float32).sum(axis=0, dtype=float)
    assert 0 < (values - exact).std() < CKKS_OPENING_NOISE / 100
    opened = np.frombuffer(played.open()[0], "<f4")[:CKKS_SLOTS]
    assert np.abs(opened - exact).max() < NOISE


def test_noise_is_gaussian():
    noise = opening_noise(200_000) / CKKS_OPENING_NOISE
    assert noise.mean() == pytest.approx(0.0, abs=0.01)
    assert noise.std() == pytest.approx(1.0, abs=0.01)
    for deviations, share in ((1, 0.3173), (2, 0.0455), (3, 0.0027)):
        assert (np.abs(noise) > deviations).mean() == pytest.approx(share, rel=0.15)
