"""`lwe-ckks` from update to mean through the facade: parts as bytes, key parts, opening, and every way it can fail."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from crypto.canonical import sha256
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.errors import CanaryMismatch, Malformed, MalformedKeyPart, OpeningRefused, OutOfRange, WrongDigest
from crypto.layout import Layout, Tensor
from crypto.lwe import draw_secret
from crypto.manifest import Ballot
from crypto.parameters import PART_BYTES, N
from crypto.schemes import SCHEMES, scheme
from crypto.schemes.opening import open_ballot

ROOT = Path(__file__).parents[2]
COUNTS = [5, 0, 1, 2**24 - 1]


def adders_of(plan, layout):
    rlwe = scheme(plan.scheme)
    return [rlwe.adder(plan, layout, number) for number in range(len(rlwe.part_sizes(plan, layout)))]


class Round:
    """A whole round in memory: who sealed what, and the coordinator's sums."""

    def __init__(self, federation, updates, samples):
        self.federation, self.plan, self.layout = federation, federation.plan, federation.layout
        self.scheme = scheme(self.plan.scheme)
        adders = adders_of(self.plan, self.layout)
        self.key_parts, self.sealed, signed = {}, [], []
        for site, update, number in zip(federation.sites, updates, samples, strict=False):
            sealed = self.seal(update, number)
            digests = []
            for adder, part in zip(adders, sealed, strict=True):
                adder.add(part)
                digests.append(sha256(part))
            self.key_parts[site] = sealed.key_parts
            self.sealed.append(sealed)
            manifest = federation.manifest(site, parts=tuple(digests), key_parts=tuple(map(sha256, sealed.key_parts)))
            signed.append(federation.identities[site].sign(manifest))
        self.totals = [adder.total() for adder in adders]
        self.ballot = Ballot(plan=self.plan.digest, manifests=tuple(signed))

    def seal(self, update, samples):
        return self.scheme.seal(self.plan, self.layout, update, samples, COUNTS, self.federation.public)

    def open(self, **changes):
        given = {"plan": self.plan, "ballot": self.ballot, "key_parts": self.key_parts}
        given |= {"secret": self.federation.dealt.secret, "me": self.federation.sites[0]}
        return open_ballot(**(given | changes))

    def reveal(self, secret_sum, contributors=None):
        number = len(self.ballot.manifests) if contributors is None else contributors
        return self.scheme.reveal(self.plan, self.layout, self.totals, secret_sum, number)


@pytest.fixture
def updates(federation, random):
    return random.normal(0, 0.2, (4, federation.layout.size)).astype(np.float32).clip(-0.9, 0.9)


@pytest.fixture
def played(federation, updates):
    return Round(federation, updates[:3], [40, 250, 80])


# --- the whole way


def test_mean_counts_and_weights(played, updates, federation):
    opening = played.open()
    assert (opening.ballot, opening.site) == (played.ballot.digest, federation.sites[0])
    revealed = played.reveal(opening.secret_sum)
    weights = np.array([0.4, 1.0, 0.8])
    expected = weights @ updates[:3].astype(np.float64) / weights.sum()
    bounds = np.repeat([1.0, 64.0], [2400, 7])
    assert revealed.mean.dtype == np.float32
    assert (np.abs(revealed.mean - expected) <= 1e-6 * bounds).all()
    assert revealed.weight_sum == pytest.approx(2.2)
    assert (revealed.counts.samples, revealed.counts.capped_samples) == (370, 220)
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)


def test_equal_weights(federation, updates):
    played = Round(federation.with_plan(weighting="equal"), updates, [1, 1000, 3, 70])
    revealed = played.reveal(played.open().secret_sum)
    assert revealed.weight_sum == 4.0
    np.testing.assert_allclose(revealed.mean[:2400], updates[:, :2400].mean(axis=0, dtype=np.float64), atol=1e-6)
    assert revealed.counts.samples == 1074


def test_clipping_is_counted_and_kept(federation, updates):
    updates[0, 5], updates[1, 5], updates[1, -1] = 3.0, -2.5, 70.0
    played = Round(federation, updates[:2], [100, 100])
    first, second = played.sealed
    assert (first.clipped, second.clipped) == ((1, 0), (1, 1))
    assert first.residual[5] == pytest.approx(2.0, abs=1e-6)
    assert np.flatnonzero(second.residual).tolist() == [5, 2406]
    revealed = played.reveal(played.open().secret_sum)
    assert revealed.counts.clipped == (2, 1)
    assert revealed.mean[5] == pytest.approx(0.0, abs=1e-6)


def test_an_evaluation_round_carries_counts_alone(federation):
    evaluated = federation.with_plan(kind="evaluation")
    played = Round(evaluated, [None, None, None], [40, 0, 250])
    assert [total.nbytes for total in played.totals] == [4 * N]
    assert all(sealed.residual is None and sealed.clipped == (0, 0) for sealed in played.sealed)
    revealed = played.reveal(played.open().secret_sum)
    assert revealed.mean is None
    assert revealed.counts.recipe == tuple(3 * count for count in COUNTS)
    assert revealed.weight_sum == pytest.approx(1.4)


def test_several_parts(federation, random):
    layout = Layout((Tensor("big", (PART_BYTES // 4 + 5,), "parameter"),))
    plan = federation.with_plan(layout=layout.digest, bounds=[1.0]).plan
    updates = random.uniform(-1, 1, (2, layout.size)).astype(np.float32)
    lwe_ckks = scheme("lwe-ckks")
    assert lwe_ckks.part_sizes(plan, layout) == (PART_BYTES, 2 * 4 * N)
    adders = adders_of(plan, layout)
    key_parts = []
    for update in updates:
        sealed = lwe_ckks.seal(plan, layout, update, 100, [], federation.public)
        for adder, part in zip(adders, sealed, strict=True):
            adder.add(bytes(part))
        key_parts += sealed.key_parts
    secret_sum = federation.dealt.secret.decrypt_sum(key_parts).tolist()
    revealed = lwe_ckks.reveal(plan, layout, (adder.total() for adder in adders), secret_sum, 2)
    np.testing.assert_allclose(revealed.mean, updates.mean(axis=0, dtype=np.float64), atol=1e-6)


def test_sealing_twice_shares_nothing(played, updates):
    first, second = (b"".join(played.seal(updates[0], 40)) for _ in range(2))
    assert len(first) == len(second)
    same = np.frombuffer(first, "<u4") == np.frombuffer(second, "<u4")
    assert same.mean() < 0.01


def test_a_contribution_is_read_once(played, updates):
    sealed = played.seal(updates[0], 40)
    for attribute in ("clipped", "residual"):
        with pytest.raises(ValueError, match="once all parts"):
            getattr(sealed, attribute)
    assert len(list(sealed)) == len(played.totals)
    assert sealed.residual is not None
    with pytest.raises(ValueError, match="sealed once"):
        list(sealed)


# --- what does not open


def test_a_missing_key_part_gives_no_mean(played, federation):
    fewer = played.ballot.model_copy(update={"manifests": played.ballot.manifests[:2]})
    secret_sum = played.open(ballot=fewer).secret_sum
    with pytest.raises(CanaryMismatch):
        played.reveal(secret_sum)


def test_a_key_part_under_a_foreign_key_is_refused(played, federation):
    site = federation.sites[1]
    foreign = PublicContext.load(SecretContext.generate().public_bytes()).encrypt(draw_secret())
    manifest = federation.manifest(site, key_parts=(sha256(foreign),))
    manifests = list(played.ballot.manifests)
    manifests[1] = federation.identities[site].sign(manifest)
    ballot = Ballot(plan=played.plan.digest, manifests=tuple(manifests))
    with pytest.raises(OpeningRefused, match="another key"):
        played.open(ballot=ballot, key_parts=played.key_parts | {site: (foreign,)})


def test_a_foreign_holder_opens_nothing(played):
    with pytest.raises(OpeningRefused, match="another key"):
        played.open(secret=SecretContext.generate())


def test_a_wrong_secret_gives_no_mean(played, federation):
    sums = np.array(played.open().secret_sum)
    for wrong in (sums + np.eye(1, N, 7, dtype=int)[0], np.zeros(N, int), draw_secret()):
        with pytest.raises(CanaryMismatch):
            played.reveal(wrong.tolist())
    too_large = sums.copy()
    too_large[0] = 32 * 3 + 1
    with pytest.raises(OpeningRefused, match="stays within"):
        played.reveal(too_large.tolist())
    with pytest.raises(OpeningRefused, match="2048 integers"):
        played.reveal(sums[:-1].tolist())


def test_a_changed_body_gives_no_mean(played):
    secret_sum = played.open().secret_sum
    np.frombuffer(played.totals[-1], "<u4")[-N:] += np.uint32(2**30)  # the last polynomial holds the canaries
    with pytest.raises(OpeningRefused):
        played.reveal(secret_sum)


def test_key_parts_are_those_of_the_manifests(played, federation):
    first, second, _ = list(played.key_parts)
    swapped = played.key_parts | {first: played.key_parts[second], second: played.key_parts[first]}
    with pytest.raises(WrongDigest, match=f"key part of site {first}"):
        played.open(key_parts=swapped)
    for wrong in ((), played.key_parts[first] * 2):
        with pytest.raises(MalformedKeyPart, match=f"site {first}"):
            played.open(key_parts=played.key_parts | {first: wrong})


def test_a_malformed_key_part_names_its_site(played, federation):
    site, junk = federation.sites[2], b"junk" * 1000
    manifests = list(played.ballot.manifests)
    manifests[2] = federation.identities[site].sign(federation.manifest(site, key_parts=(sha256(junk),)))
    ballot = Ballot(plan=played.plan.digest, manifests=tuple(manifests))
    with pytest.raises(MalformedKeyPart, match=str(site)):
        played.open(ballot=ballot, key_parts=played.key_parts | {site: (junk,)})


def test_another_plans_ballot_is_not_opened(played, federation):
    with pytest.raises(WrongDigest, match="another plan"):
        played.open(plan=federation.with_plan(attempt=2).plan)


def test_weights_beyond_the_plan_are_refused(federation, updates):
    """A site that counts itself more often than n_max admits: its own plan says 1,000, the round's 100."""
    generous = federation.with_plan(n_max=1000)
    played = Round(generous, updates[:2], [900, 900])
    secret_sum = played.open().secret_sum
    played.plan = federation.plan
    with pytest.raises(OpeningRefused, match="more than the plan admits"):
        played.reveal(secret_sum)


# --- arguments that do not fit


def test_another_layout_is_refused(played, updates):
    other = Layout((Tensor("weight", (updates.shape[1],), "parameter"),))
    public = played.federation.public
    with pytest.raises(WrongDigest, match="not the layout"):
        played.scheme.seal(played.plan, other, updates[0], 40, [], public)
    with pytest.raises(WrongDigest, match="not the layout"):
        played.scheme.reveal(played.plan, other, played.totals, played.open().secret_sum, 3)


@pytest.mark.parametrize("bounds", [[1.0], [1.0, 1.0, 1.0], []])
def test_a_plan_has_a_bound_for_each_tensor(federation, updates, bounds):
    wrong = federation.with_plan(bounds=bounds)
    with pytest.raises(Malformed, match="2 tensors"):
        scheme("lwe-ckks").seal(wrong.plan, wrong.layout, updates[0], 40, COUNTS, wrong.public)


def test_an_update_belongs_to_a_training_round(federation, updates, played):
    with pytest.raises(ValueError, match="training and no update"):
        played.seal(None, 40)
    evaluation = federation.with_plan(kind="evaluation")
    with pytest.raises(ValueError, match="evaluation and an update"):
        scheme("lwe-ckks").seal(evaluation.plan, evaluation.layout, updates[0], 40, COUNTS, federation.public)


def test_numbers_that_lanes_cannot_carry(played, updates):
    with pytest.raises(OutOfRange, match="weight"):
        played.seal(updates[0], 0)
    with pytest.raises(OutOfRange, match="count"):
        list(played.seal(updates[0], 2**24))
    updates[0, 3] = np.nan
    with pytest.raises(OutOfRange, match="weight"):  # the tensor's name
        list(played.seal(updates[0], 40))


@pytest.mark.parametrize("contributors", [0, 5])
def test_contributors_beyond_the_plan(played, contributors):
    with pytest.raises(OutOfRange, match="admits 1 to 4"):
        played.reveal([0] * N, contributors)


def test_parts_of_another_size_are_not_added(played):
    for size in (0, 1, played.totals[0].nbytes - 4, played.totals[0].nbytes + 4):
        with pytest.raises(Malformed, match=f"{size} bytes"):
            adders_of(played.plan, played.layout)[0].add(bytes(size))
        with pytest.raises(Malformed, match="part 0 has"):
            played.scheme.check_part(played.plan, played.layout, 0, bytes(size))
    played.scheme.check_part(played.plan, played.layout, 0, bytes(played.totals[0].nbytes))


def test_a_missing_part_is_noticed(played):
    secret_sum = played.open().secret_sum
    played.totals.pop()
    with pytest.raises(Malformed, match="parts were given"):
        played.reveal(secret_sum)


@pytest.mark.parametrize("name", ["bfv", "", "LWE-CKKS"])
def test_a_scheme_that_is_not_there_names_those_that_are(name):
    with pytest.raises(ValueError, match="It has: lwe-ckks, lwe-shamir, ckks"):
        scheme(name)
    assert scheme("lwe-ckks") is SCHEMES["lwe-ckks"]


# --- who imports what


@pytest.mark.parametrize(
    "modules", ["crypto.schemes", "crypto.checks, crypto.envelope, crypto.identity, crypto.ckks_public, crypto.lwe"]
)
def test_the_coordinators_half_needs_no_secret_key_and_no_torch(modules):
    code = f"import sys, {modules}; print(sorted({{'torch', 'crypto.ckks_secret'}} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert (done.stdout.strip(), done.returncode) == ("[]", 0), done.stderr


def test_the_sites_half_would_be_noticed():
    code = "import sys, crypto.schemes.opening; print('crypto.ckks_secret' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "True", done.stderr
