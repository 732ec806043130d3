"""One part of a sum, opened on its own: the same numbers as in the whole, and as integers and float64 give them."""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from crypto.canonical import sha256
from crypto.errors import CanaryMismatch, Malformed, OpeningRefused, WrongDigest
from crypto.lanes import LaneFormat
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest
from crypto.parameters import PART_VALUES, SECRET_BOUND, N
from crypto.plan import Plan
from crypto.ring import FftMultiplier
from crypto.schemes import scheme
from crypto.schemes.lwe_bulk import seal_contribution
from crypto.schemes.spot_check import checkable, choices, open_part, parts_needed

SCHEME = scheme("lwe-shamir")
SAMPLES = [40, 250, 80]  # n_max is 100: the second is capped
N_MAX = 100


def layout_of(*sizes: int, counts: int = 5) -> Layout:
    kinds = ("parameter", "buffer")
    tensors = tuple(Tensor(f"t{number}", (size,), kinds[number % 2]) for number, size in enumerate(sizes))
    return Layout(tensors, (CountField("confusion", (counts,)),))


LAYOUTS = {
    "one part": layout_of(2400, 7),
    "tensors across parts": layout_of(PART_VALUES - 5, PART_VALUES + 900, 3000),
    "counts in a part of their own": layout_of(1000, PART_VALUES - 1000),
    "counts across parts": layout_of(PART_VALUES - N - 3, counts=700),
}
PARTS = {  # those with values, and what the check of each takes
    "one part": [(0,)],
    "tensors across parts": [(0, 2), (1, 2), (2,)],
    "counts in a part of their own": [(0, 1)],
    "counts across parts": [(0, 1)],
}


class Round:
    """Three contributions, added up; nobody's key part, but the sum of their secrets."""

    def __init__(self, federation, layout: Layout, **changes):
        self.layout = layout
        bounds = [1.0 + number for number in range(len(layout.tensors))]
        values = {"scheme": "lwe-shamir", "epoch": None, "threshold": 3, "layout": layout.digest, "bounds": bounds}
        self.plan = Plan.from_json(federation.plan.to_json() | values | changes)
        random = np.random.default_rng(11)
        training = self.plan.kind == "training"
        self.updates = [random.normal(0, 0.6, layout.size).astype(np.float32) for _ in SAMPLES]
        self.counts = [random.integers(0, 2**24, layout.counts_size).tolist() for _ in SAMPLES]
        self.clipped, self.secrets = [], np.zeros(N, np.int64)
        sizes = SCHEME.part_sizes(self.plan, layout)
        adders = [SCHEME.adder(self.plan, layout, number) for number in range(len(sizes))]
        for update, samples, counts in zip(self.updates, SAMPLES, self.counts, strict=True):
            sealed = seal_contribution(
                self.plan, layout, update if training else None, samples, counts, self._take_secret, FftMultiplier
            )
            for adder, part in zip(adders, sealed, strict=True):
                adder.add(part)
            self.clipped.append(sealed.clipped)
        self.totals = [bytes(adder.total()) for adder in adders]
        manifests = (
            Manifest(plan=self.plan.digest, site=uuid.UUID(int=number), parts=(sha256(b""),), key_parts=())
            for number in (1, 2, 3)
        )
        signed = tuple(federation.identities[manifest.site].sign(manifest) for manifest in manifests)
        self.ballot = Ballot(plan=self.plan.digest, manifests=signed)

    def _take_secret(self, secret):
        self.secrets += secret
        return ()

    def open(self, part: int, **changes):
        """With exactly the sums that the check of this part takes, and no other."""
        totals = {number: self.totals[number] for number in parts_needed(self.plan, self.layout, part)}
        given = {"plan": self.plan, "layout": self.layout, "ballot": self.ballot, "part": part, "totals": totals}
        return open_part(**(given | {"secret_sum": self.secrets.tolist()} | changes))

    def whole(self):
        return SCHEME.reveal(self.plan, self.layout, self.totals, self.secrets.tolist(), 3)

    def mean(self):
        """In float64, and how far the noise of three contributions and rounding may take an opened value from it."""
        equal = self.plan.weighting == "equal"
        weights = [1.0 if equal else min(samples, N_MAX) / N_MAX for samples in SAMPLES]
        bounds = np.repeat(self.plan.bounds, [tensor.size for tensor in self.layout.tensors])
        sums = np.zeros(self.layout.size)
        for weight, update in zip(weights, self.updates, strict=True):
            sums += np.clip(weight * update.astype(np.float64), -bounds, bounds)
        steps = 3 * (SECRET_BOUND + 0.5) / LaneFormat(self.plan.k_max).Q
        mean = sums / sum(weights)
        return mean, bounds * steps / sum(weights) + np.abs(mean) * 2.0**-23


@pytest.fixture(scope="module", params=LAYOUTS, ids=lambda name: name.replace(" ", "-"))
def played(request, federation):
    return request.param, Round(federation, LAYOUTS[request.param])


@pytest.fixture(scope="module")
def small(federation):
    return Round(federation, LAYOUTS["one part"])


def check_counts(played: Round, counts) -> None:
    assert counts.samples == sum(SAMPLES)
    assert counts.capped_samples == 40 + 100 + 80
    assert list(counts.clipped) == [sum(each) for each in zip(*played.clipped, strict=True)]
    assert list(counts.recipe) == [sum(each) for each in zip(*played.counts, strict=True)]


def test_every_part_says_what_the_whole_says(played) -> None:
    name, round_ = played
    whole, (mean, allowed) = round_.whole(), round_.mean()
    numbers = range(choices(round_.plan, round_.layout))
    assert [parts_needed(round_.plan, round_.layout, number) for number in numbers] == PARTS[name]
    place = 0
    for number in numbers:
        opened = round_.open(number)
        assert (opened.values.start, opened.mean.dtype) == (place, np.float32)
        assert np.array_equal(opened.mean, whole.mean[opened.values])
        assert (np.abs(opened.mean - mean[opened.values]) < allowed[opened.values]).all()
        assert opened.counts == whole.counts
        check_counts(round_, opened.counts)
        place = opened.values.stop
    assert place == round_.layout.size, "the parts are all of the model, each value once"


def test_the_published_model_to_the_last_bit(played) -> None:
    _, round_ = played
    base = np.random.default_rng(3).normal(0, 1, round_.layout.size).astype(np.float32)
    published = round_.whole().mean
    published += base
    numbers = range(choices(round_.plan, round_.layout))
    for number in numbers:
        opened = round_.open(number)
        assert opened.wrong_values(base, published) == 0
        first, last = opened.values.start, opened.values.stop - 1
        for places in ([first], [last], [first, (first + last) // 2, last]):
            altered = published.copy()
            altered[places] = np.nextafter(altered[places], np.inf, dtype=np.float32)
            assert opened.wrong_values(base, altered) == len(places)
            others = [other for other in numbers if other != number]
            assert all(round_.open(other).wrong_values(base, altered) == 0 for other in others)
        spoilt = published.copy()
        spoilt[last] = np.nan
        assert opened.wrong_values(base, spoilt) == 1
        assert opened.wrong_values(np.zeros_like(base), published) > 0.99 * opened.mean.size


def test_an_evaluation_round_is_counts_alone(federation) -> None:
    round_ = Round(federation, LAYOUTS["tensors across parts"], kind="evaluation")
    assert choices(round_.plan, round_.layout) == 1
    assert parts_needed(round_.plan, round_.layout, 0) == (0,)
    opened = round_.open(0)
    assert opened.mean.size == 0
    assert opened.wrong_values(np.zeros(1, np.float32), np.ones(1, np.float32)) == 0
    check_counts(round_, opened.counts)


def test_equal_weights(federation) -> None:
    round_ = Round(federation, LAYOUTS["one part"], weighting="equal")
    mean, allowed = round_.mean()
    assert (np.abs(round_.open(0).mean - mean) < allowed).all()


def test_another_sum_of_secrets_opens_nothing(small) -> None:
    wrong = small.secrets.copy()
    wrong[0] += 1 if wrong[0] < 0 else -1
    with pytest.raises(CanaryMismatch):
        small.open(0, secret_sum=wrong.tolist())
    with pytest.raises(OpeningRefused, match="within 96"):
        small.open(0, secret_sum=[97] * N)


def test_a_forged_divisor_is_refused(small, federation) -> None:
    one = Ballot(plan=small.plan.digest, manifests=small.ballot.manifests[:1])
    with pytest.raises(OpeningRefused):
        small.open(0, ballot=one)


def test_without_samples_there_is_nothing_to_divide_by(federation, monkeypatch) -> None:
    monkeypatch.setattr("crypto.schemes.contribution.count_vector", lambda samples, n_max, clipped, rest: [
        0, samples, *clipped, *rest
    ])  # fmt: skip
    with pytest.raises(OpeningRefused, match="add up to nothing"):
        Round(federation, LAYOUTS["one part"]).open(0)


def test_sums_of_the_wrong_size(small) -> None:
    for total in (small.totals[0][:-4], small.totals[0] + bytes(4 * N), b"", small.totals[0][:-1]):
        with pytest.raises(Malformed, match="part 0 has"):
            small.open(0, totals={0: total})


def test_the_layout_is_the_plans(small) -> None:
    with pytest.raises(WrongDigest, match="not the layout"):
        small.open(0, layout=layout_of(2400, 8))


def test_no_part_beyond_the_last(small) -> None:
    totals = {0: small.totals[0], 1: small.totals[0]}
    with pytest.raises(IndexError, match="parts 0 to 0"):
        open_part(small.plan, small.layout, small.ballot, 1, totals, small.secrets.tolist())


@pytest.mark.parametrize(
    ("name", "release", "expected"),
    [("lwe-shamir", "open", True), ("lwe-shamir", "members", False), ("lwe-ckks", "open", False)],
)
def test_whose_bodies_sites_may_see(federation, small, name, release, expected) -> None:
    plan = small.plan if name == "lwe-shamir" else federation.plan
    assert checkable(Plan.from_json(plan.to_json() | {"release": release})) is expected
