"""Any subset of enough shares gives the secret, wrong ones are named, and the opened mean is the float64 mean."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.canonical import sha256
from crypto.errors import OpeningRefused, SharesDisagree, TooFewShares
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest
from crypto.parameters import N
from crypto.plan import Member, Plan, Roster
from crypto.schemes import Recipients, scheme
from crypto.schemes.shares import open_shares
from crypto.shamir import P, add_shares, combine, minimum_threshold, split

SCHEME = scheme("lwe-shamir")
STUDY = uuid.UUID(int=6)
SITES = [uuid.UUID(int=number) for number in range(1, 10)]
IDENTITIES = [Identity.generate() for _ in SITES]
LAYOUT = Layout((Tensor("w", (300,), "parameter"),), (CountField("confusion", (2, 2)),))
N_MAX = 500


@st.composite
def sharings(draw, fewest=2):
    """(members, threshold, indices, seed)"""
    members = draw(st.integers(fewest, 40))
    threshold = draw(st.integers(minimum_threshold(members), members))
    indices = draw(st.sampled_from([range(1, members + 1), None]))
    if indices is None:  # permanent membership numbers, of which some have left
        indices = draw(st.lists(st.integers(1, P - 1), min_size=members, max_size=members, unique=True))
    return threshold, list(indices), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


def chosen(random, indices, number):
    return [int(index) for index in random.choice(indices, number, replace=False)]


def lagrange_at_0(points, values):
    """With Python's integers, and without any of the code under test."""
    total = 0
    for x, value in zip(points, values, strict=True):
        numerator = denominator = 1
        for other in points:
            if other != x:
                numerator, denominator = numerator * -other % P, denominator * (x - other) % P
        total += value * numerator * pow(denominator, P - 2, P)
    return total % P


@given(sharings())
@settings(max_examples=60, deadline=None)
def test_any_subset_of_enough_shares_gives_the_sum(sharing):
    threshold, indices, random = sharing
    secrets = random.integers(-32, 33, (int(random.integers(1, 5)), N))
    dealt = [split(secret, threshold, indices) for secret in secrets]
    openers = chosen(random, indices, int(random.integers(threshold, len(indices) + 1)))
    sums = {index: add_shares(shares[index] for shares in dealt) for index in openers}
    opened = combine(sums, threshold)
    assert np.array_equal(opened.secret, secrets.sum(axis=0))
    assert opened.wrong == ()
    column = int(random.integers(N))
    by_hand = lagrange_at_0(openers[:threshold], [int(sums[index][column]) for index in openers[:threshold]])
    assert by_hand == secrets[:, column].sum() % P
    with pytest.raises(TooFewShares):
        combine({index: sums[index] for index in openers[: threshold - 1]}, threshold)


@given(sharings())
@settings(max_examples=40, deadline=None)
def test_too_few_shares_with_a_guess_give_anything(sharing):
    """Without the last share every value of it is possible, and each opens to another secret."""
    threshold, indices, random = sharing
    shares = split(np.zeros(N, np.int64), threshold, indices)
    openers = chosen(random, indices, threshold)
    guess = random.integers(0, P, N).astype(np.uint32)
    opened = combine({index: shares[index] for index in openers} | {openers[0]: guess}, threshold)
    assert np.array_equal(opened.secret == 0, guess == shares[openers[0]])


@given(sharings(fewest=6), st.sampled_from(["every", "some", "one"]), st.data())
@settings(max_examples=60, deadline=None)
def test_wrong_shares_are_named(sharing, where, data):
    threshold, indices, random = sharing
    secret = random.integers(-32, 33, N)
    shares = split(secret, threshold, indices)
    most = (len(indices) - threshold) // 2
    wrong = sorted(chosen(random, indices, data.draw(st.integers(0, most))))
    for index in wrong:
        shift = random.integers(1, P, N)
        if where == "some":
            shift *= random.random(N) < 0.3
            shift[int(random.integers(N))] = 1
        elif where == "one":
            shift *= np.arange(N) == random.integers(N)
        shares[index] = ((shares[index] + shift) % P).astype(np.uint32)
    opened = combine(shares, threshold)
    assert opened.wrong == tuple(wrong)
    assert np.array_equal(opened.secret, secret)


@given(sharings(fewest=3))
@settings(max_examples=40, deadline=None)
def test_one_wrong_share_too_many_is_noticed(sharing):
    """Random errors in all coefficients: that they look like few others in each has a chance of 2^-31 times few."""
    threshold, indices, random = sharing
    if threshold == len(indices):
        threshold -= 1
    shares = split(np.zeros(N, np.int64), threshold, indices)
    for index in chosen(random, indices, (len(indices) - threshold) // 2 + 1):
        shares[index] = random.integers(0, P, N).astype(np.uint32)
    with pytest.raises(SharesDisagree):
        combine(shares, threshold)


# --- through the scheme


def plan_and_roster(members, threshold, weighting):
    roster = Roster(
        study=STUDY,
        members=tuple(
            Member(
                site=site,
                name=f"Site {index}",
                index=index,
                signing_key=identity.public.signing_key.hex(),
                hpke_key=identity.public.hpke_key.hex(),
            )
            for index, (site, identity) in enumerate(zip(SITES[:members], IDENTITIES, strict=False), 1)
        ),
    )
    plan = Plan(
        study=STUDY,
        round=1,
        attempt=1,
        kind="training",
        base_model="00" * 32,
        layout=LAYOUT.digest,
        recipe="11" * 32,
        roster=roster.digest,
        epoch=None,
        scheme="lwe-shamir",
        release="open",
        weighting=weighting,
        expected=tuple(SITES[:members]),
        k_max=members,
        n_max=N_MAX,
        bounds=(1.0,),
        threshold=threshold,
        minimum_contributors=2,
        collect_until=1,
        vote_seconds=1,
        open_seconds=1,
    )
    return plan, roster


@st.composite
def rounds(draw):
    members = draw(st.integers(2, len(SITES)))
    threshold = draw(st.integers(minimum_threshold(members), members))
    plan, roster = plan_and_roster(members, threshold, draw(st.sampled_from(["samples", "equal"])))
    contributors = sorted(draw(st.sets(st.integers(0, members - 1), min_size=2)))
    openers = draw(st.permutations(range(members)))[: draw(st.integers(threshold, members))]
    return plan, roster, contributors, openers, np.random.default_rng(draw(st.integers(0, 2**32 - 1)))


@given(rounds())
@settings(max_examples=25, deadline=None)
def test_the_opened_mean_is_the_float64_mean(case):
    plan, roster, contributors, openers, random = case
    updates = random.uniform(-1, 1, (len(contributors), LAYOUT.size)).astype(np.float32)
    samples = random.integers(N_MAX // 4, 2 * N_MAX, len(contributors))
    recipe = random.integers(0, 2**24, (len(contributors), 4))
    adders = [SCHEME.adder(plan, LAYOUT, number) for number in range(len(SCHEME.part_sizes(plan, LAYOUT)))]
    manifests, key_parts = [], {}
    rows = zip(contributors, updates, samples.tolist(), recipe.tolist(), strict=True)
    for place, update, number, counts in rows:
        sealed = SCHEME.seal(plan, LAYOUT, update, number, counts, Recipients(roster, SITES[place]))
        parts = []
        for adder, part in zip(adders, sealed, strict=True):
            adder.add(part)
            parts.append(sha256(part))
        key_parts[SITES[place]] = sealed.key_parts
        digests = tuple(map(sha256, sealed.key_parts))
        manifest = Manifest(plan=plan.digest, site=SITES[place], parts=tuple(parts), key_parts=digests)
        manifests.append(IDENTITIES[place].sign(manifest))
    totals = [adder.total() for adder in adders]
    ballot = Ballot(plan=plan.digest, manifests=tuple(manifests))
    answers = []
    for place in openers:
        mine = {sender: parts[place] for sender, parts in key_parts.items()}
        answers.append(open_shares(plan, roster, ballot, mine, IDENTITIES[place], SITES[place]))
    combined = SCHEME.combine(plan, roster, answers)
    revealed = SCHEME.reveal(plan, LAYOUT, totals, combined.values, len(contributors))

    weights = np.ones(len(samples)) if plan.weighting == "equal" else np.minimum(samples, N_MAX) / N_MAX
    expected = weights @ updates.astype(np.float64) / weights.sum()
    assert combined.wrong == ()
    assert (np.abs(revealed.mean - expected) <= 1e-6).all()
    assert revealed.counts.samples == samples.sum()
    assert revealed.counts.recipe == tuple(recipe.sum(axis=0).tolist())

    def open_all(given):
        again = SCHEME.combine(plan, roster, given)
        return again, SCHEME.reveal(plan, LAYOUT, totals, again.values, len(contributors))

    unlike = answers[0].model_copy(update={"share_sum": tuple((x + 1) % P for x in answers[0].share_sum)})
    if len(openers) < plan.threshold + 2:  # noticed, here or when the sum is opened
        with pytest.raises(OpeningRefused):
            open_all([unlike, *answers[1:]])
    else:  # and named
        again, _ = open_all([unlike, *answers[1:]])
        assert again.wrong == (answers[0].site,)
