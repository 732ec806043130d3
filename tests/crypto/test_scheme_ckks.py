"""`ckks` from update to mean through the facade, its limits, and what people are told of it."""

from __future__ import annotations

import ckks_round
import numpy as np
import pytest
from ckks_round import CKKS, COUNTS, NOISE, Round

from crypto.canonical import sha256
from crypto.errors import Malformed, OutOfRange
from crypto.layout import Layout, Tensor
from crypto.manifest import BodyOpening, Opening
from crypto.parameters import CKKS_SLOTS, PART_BYTES, N
from crypto.schemes import check_release, scheme
from crypto.schemes.opening import open_bodies
from crypto.slots import SlotFormat

study, updates, played = ckks_round.study, ckks_round.updates, ckks_round.played


def test_mean_counts_and_weights(played, updates):
    revealed = played.reveal()
    weights = np.array([0.4, 1.0, 0.8])
    expected = weights @ updates[:3].astype(np.float64) / weights.sum()
    bounds = np.repeat([1.0, 64.0], [2400, 7])
    assert revealed.mean.dtype == np.float32
    assert (np.abs(revealed.mean - expected) <= (NOISE / weights.sum() + 2e-7) * bounds).all()
    assert revealed.weight_sum == pytest.approx(2.2)
    assert (revealed.counts.samples, revealed.counts.capped_samples) == (370, 220)
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)


def test_equal_weights(study, updates):
    played = Round(study.with_plan(weighting="equal"), updates, [1, 1000, 3, 70])
    revealed = played.reveal()
    assert revealed.weight_sum == 4.0
    exact = updates[:, :2400].mean(axis=0, dtype=np.float64)
    np.testing.assert_allclose(revealed.mean[:2400], exact, rtol=0, atol=NOISE / 4 + 2e-7)


def test_clipping_is_counted_and_kept(study, updates):
    updates[0, 5], updates[1, 5], updates[1, -1] = 3.0, -2.5, 70.0
    played = Round(study, updates[:2], [100, 100])
    first, second = played.sealed
    assert (first.clipped, second.clipped) == ((1, 0), (1, 1))
    assert first.residual[5] == pytest.approx(2.0, abs=1e-6)
    assert np.flatnonzero(second.residual).tolist() == [5, 2406]
    revealed = played.reveal()
    assert revealed.counts.clipped == (2, 1)
    assert revealed.mean[5] == pytest.approx(0.0, abs=NOISE)


def test_an_evaluation_round_carries_counts_alone(study):
    played = Round(study.with_plan(kind="evaluation"), [None, None, None], [40, 0, 250])
    assert CKKS.opened_sizes(played.plan, played.layout) == (4 * CKKS_SLOTS,)
    assert all(sealed.residual is None and sealed.clipped == (0, 0) for sealed in played.sealed)
    revealed = played.reveal()
    assert revealed.mean is None
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)


def test_several_parts_stay_within_their_size(federation, random):
    layout = Layout((Tensor("big", (64 * CKKS_SLOTS - 3,), "parameter"),))
    study = federation.with_plan(scheme="ckks", layout=layout.digest, bounds=[2.0])
    sizes, opened_sizes = CKKS.part_sizes(study.plan, layout), CKKS.opened_sizes(study.plan, layout)
    assert opened_sizes == (4 * 64 * CKKS_SLOTS, 4 * CKKS_SLOTS)
    assert sizes[0] == PART_BYTES
    updates = random.uniform(-2, 2, (2, layout.size)).astype(np.float32)
    adders = [CKKS.adder(study.plan, layout, number, study.public) for number in (0, 1)]
    for update in updates:
        for number, part in enumerate(CKKS.seal(study.plan, layout, update, 100, [], study.public)):
            assert 0.8 * sizes[number] < len(part) <= sizes[number]
            adders[number].add(memoryview(part))
    ballot = study.ballot(study.sites[:2])
    totals = (adder.total() for adder in adders)
    opened = list(open_bodies(study.plan, layout, ballot, totals, study.dealt.secret))
    assert tuple(map(len, opened)) == opened_sizes
    mean = CKKS.reveal(study.plan, layout, iter(opened), (), 2).mean
    np.testing.assert_allclose(mean, updates.mean(axis=0, dtype=np.float64), rtol=0, atol=2 * NOISE)


def test_sealing_twice_shares_nothing(played, updates):
    first, second = (b"".join(played.seal(updates[0], 40)) for _ in range(2))
    assert first != second
    assert not np.array_equal(np.frombuffer(first[200:4200], "<u4"), np.frombuffer(second[200:4200], "<u4"))


def test_a_contribution_is_read_once(played, updates):
    sealed = played.seal(updates[0], 40)
    with pytest.raises(ValueError, match="once all parts"):
        _ = sealed.residual
    assert len(list(sealed)) == 1
    assert sealed.key_parts == ()
    with pytest.raises(ValueError, match="sealed once"):
        list(sealed)


# --- limits


def test_digits_are_exact_at_the_largest_number_of_contributors(study):
    """1,024 times the largest count, by adding one contribution ten times to itself."""
    played = Round(study.with_plan(k_max=1024, kind="evaluation", n_max=2**24 - 1), [None], [2**24 - 1], COUNTS)
    total = played.totals[0]
    for _ in range(10):
        total = played.add([total, total])
    played.ballot = played.ballot.model_copy(update={"manifests": played.ballot.manifests * 1024})
    counts = played.reveal(played.open(totals=[total])).counts
    assert counts.samples == 1024 * (2**24 - 1)
    assert counts.recipe == tuple(1024 * count for count in COUNTS)


def test_the_scale_leaves_room_for_the_sum():
    for k_max, bits in ((1, 40), (16, 40), (511, 40), (512, 39), (1023, 39), (1024, 38)):
        assert SlotFormat(k_max).scale_bits == bits
        assert k_max * 2**bits < 2**49
        assert bits == 40 or k_max * 2 ** (bits + 1) >= 2**49
    for wrong in (0, 1025):
        with pytest.raises(OutOfRange):
            SlotFormat(wrong)


def test_a_sum_of_the_largest_values_does_not_wrap_around(study, updates):
    """511 contributions of all ones: the sum comes within 2^40 of half the modulus, by doubling and adding one."""
    full = Round(study.with_plan(k_max=511, weighting="equal"), [np.full_like(updates[0], 1.0)], [1])
    (one,) = full.totals
    total = one
    for _ in range(8):
        total = full.add([total, total, one])
    full.ballot = full.ballot.model_copy(update={"manifests": full.ballot.manifests * 511})
    (opened,) = full.open(totals=[total])
    slots = np.frombuffer(opened, "<f4")
    np.testing.assert_allclose(slots[:2400], 511.0, rtol=0, atol=1e-4)
    np.testing.assert_allclose(slots[2400:2407], 511.0 / 64.0, rtol=0, atol=1e-5)


# --- answers and what people are told


def test_one_answer_names_the_opened_parts(played):
    opened = played.open()
    answer = BodyOpening(ballot=played.ballot.digest, site=played.study.sites[0], parts=tuple(map(sha256, opened)))
    combined = CKKS.combine(played.plan, played.study.roster, [answer])
    assert (combined.values, combined.wrong, combined.body, combined.opened) == ((), (), answer, answer.parts)
    assert CKKS.openings_needed(played.plan) == 1
    assert CKKS.key_part_limit(played.plan) == 0
    other = Opening(ballot=played.ballot.digest, site=played.study.sites[0], secret_sum=(0,) * N)
    for wrong in ([], [answer, answer], [other]):
        with pytest.raises(Malformed, match="answer of one opener"):
            CKKS.combine(played.plan, played.study.roster, wrong)


def test_every_scheme_says_whom_it_protects_against():
    assert "honest-but-curious coordinator only" in CKKS.trust
    assert "conspires" in scheme("lwe-ckks").trust
    assert "a third" in scheme("lwe-shamir").trust


def test_the_blind_coordinator_is_not_offered():
    with pytest.raises(ValueError, match="'members' is not offered with the scheme 'ckks'"):
        check_release("ckks", "members")
    for name, release in (("ckks", "open"), ("lwe-ckks", "members"), ("lwe-shamir", "members")):
        check_release(name, release)
    with pytest.raises(ValueError, match="no scheme"):
        check_release("bfv", "open")
