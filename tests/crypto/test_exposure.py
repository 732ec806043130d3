"""What carried contributions cost in protection: the shares, the limit, and that both mean what they are said to."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from benchmarks.carrying import observe, recovered
from benchmarks.parameters import QUANTUM, Problem, carried_deviation, primal
from crypto.errors import Malformed
from crypto.exposure import may_carry, shares
from crypto.parameters import CARRY_LIMIT, SIGMA, N


def test_each_sum_adds_one_over_the_fresh_ones_beside(federation, carrying):
    fresh = federation.ballot()
    assert shares(fresh, federation.plan) == {entry.message.digest: 1 / 3 for entry in fresh.manifests}
    exposed = shares(carrying.ballot, carrying.plan)
    assert exposed.pop(carrying.manifest.digest) == 1 / 3
    assert list(exposed.values()) == [1 / 2] * 3


def test_whoever_is_carried_under_anothers_name_has_no_share(carrying):
    entry = carrying.plan.carried[0].to_json()
    entry["member"] |= {"site": str(uuid.UUID(int=99))}
    plan = carrying.plan.from_json(carrying.plan.to_json() | {"carried": [entry]})
    with pytest.raises(Malformed, match=r"carries the manifest of site .* as that of Hospital 9"):
        shares(carrying.ballot, plan)


@pytest.mark.parametrize(("fresh", "sums"), [(2, 7), (3, 11), (10, 39), (64, 255)])
def test_the_limit_in_sums(fresh, sums):
    """The first sum is that of the round in which it was made, and every one reckons with the fewest fresh ones."""
    exposure, counted = 1 / fresh, 0
    while may_carry(exposure, fresh):
        exposure, counted = exposure + 1 / fresh, counted + 1
    assert counted == sums
    assert exposure == pytest.approx(CARRY_LIMIT)


@pytest.mark.parametrize(("sums", "fresh", "beside"), [(0, 2, 2), (7, 2, 2), (11, 3, 5), (40, 10, 3), (60, 2, 4)])
def test_the_sums_leave_a_coefficient_the_stated_deviation(sums, fresh, beside):
    seen = observe(sums, fresh, seed=sums + fresh, beside=beside)
    assert seen.exposure == pytest.approx(1 / beside + sums / fresh)
    for about, truth in ((seen.about_secret, seen.secret), (seen.about_error, seen.error)):
        assert (about - truth).std() == pytest.approx(carried_deviation(seen.exposure), rel=0.06)


@pytest.mark.parametrize(
    ("exposure", "classical", "quantum"), [(1, 215, 195), (2, 210, 190), (CARRY_LIMIT, 204, 185), (8, 197, 179)]
)
def test_the_body_at_an_exposure_as_the_documents_state_it(exposure, classical, quantum):
    deviation = carried_deviation(exposure)
    problem = Problem("test", N, 32, deviation, deviation)
    assert (round(primal(problem).bits), round(primal(problem, QUANTUM).bits)) == (classical, quantum)


def test_without_a_limit_the_secret_is_read_after_several_hundred_sums():
    """With two fresh contributions a round, and no more than linear algebra."""
    seen = observe(600, 2, seed=600)
    found = recovered(seen)
    assert found is not None
    assert np.array_equal(found, seen.secret)


def test_at_the_limit_rounding_finds_little_more_than_guessing():
    seen = observe(7, 2, seed=7)
    assert seen.exposure == CARRY_LIMIT
    assert recovered(seen) is None
    guessed = 1 / (np.sqrt(2 * np.pi) * SIGMA)  # always zero
    assert guessed < (np.rint(seen.about_secret) == seen.secret).mean() < 0.25
