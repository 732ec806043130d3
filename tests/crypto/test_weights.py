"""What a contribution counts for: the rule of dynamic weights, and that their sum opens exactly under every scheme."""

from __future__ import annotations

import numpy as np
import pytest

from crypto.canonical import sha256
from crypto.errors import Malformed
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot
from crypto.plan import Plan
from crypto.schemes import Recipients, scheme
from crypto.schemes.opening import open_ballot, open_bodies
from crypto.schemes.shares import open_shares
from crypto.schemes.weights import weight_units

LAYOUT = Layout(
    (Tensor("weight", (30, 50), "parameter"), Tensor("mean", (9,), "buffer")),
    (CountField("loss", ()), CountField("cases", ()), CountField("confusion", (2, 2))),
)
BOUNDS = np.repeat([1.0, 64.0], [1500, 9])
SAMPLES = [37, 250, 80, 99]
LOSSES = [(9_000, 10), (300, 20), (70_001, 17), (0, 0)]  # thousandths of a nat, cases


def counts_of(loss: int, cases: int) -> list[int]:
    return [loss, cases, 1, 2, 3, 4]


@pytest.fixture
def dynamic(federation):
    changes = {"layout": LAYOUT.digest, "weighting": "dynamic", "reference_loss": 0.8}
    return federation.with_plan(**changes)


def units(plan: Plan, samples: int, loss: int, cases: int) -> int:
    return weight_units(plan, LAYOUT, samples, counts_of(loss, cases))


class TestRule:
    """w = min(n, n_max) / n_max times clip(loss / reference, 1/2, 2) / 2, in whole units of 1 / n_max."""

    @pytest.mark.parametrize(
        ("loss", "cases", "expected"),
        [
            (800, 1, 50),  # the reference itself: a half
            (1100, 1, 69),  # 1.375 of it, and 68.75 rounded
            (700, 1, 44),
            (400, 1, 25),
            (100, 1, 25),  # not below a quarter
            (0, 3, 25),  # nothing wrong at all
            (1600, 1, 100),
            (90_000, 1, 100),  # not above all that samples give
            (8000, 10, 50),  # a mean over the cases
            (0, 0, 50),  # no validation cases: as for a site like the average
        ],
    )
    def test_against_the_reference(self, dynamic, loss, cases, expected) -> None:
        assert units(dynamic.plan, 100, loss, cases) == units(dynamic.plan, 5000, loss, cases) == expected

    def test_the_first_round_knows_no_reference(self, dynamic) -> None:
        plan = dynamic.plan.model_copy(update={"reference_loss": None})
        assert [units(plan, 60, loss, cases) for loss, cases in LOSSES] == [30] * 4

    def test_who_contributes_counts(self, dynamic) -> None:
        assert units(dynamic.plan, 1, 100, 1) == 1
        assert units(dynamic.plan, 0, 100, 1) == 0  # evaluating alone

    def test_samples_and_equal_weights_look_at_no_loss(self, dynamic) -> None:
        for weighting in ("samples", "equal"):
            plan = dynamic.plan.model_copy(update={"weighting": weighting})
            assert [units(plan, samples, 90_000, 1) for samples in (40, 100, 250)] == [40, 100, 100]

    def test_a_layout_without_losses(self, dynamic) -> None:
        bare = Layout(LAYOUT.tensors, (CountField("cases", ()),))
        with pytest.raises(Malformed, match="cases and loss"):
            weight_units(dynamic.plan, bare, 10, [5])


@pytest.mark.parametrize("name", ["lwe-ckks", "lwe-shamir", "ckks"])
def test_the_mean_is_the_float64_one_and_the_weights_sum_exactly(federation, dynamic, random, name) -> None:
    shamir = name == "lwe-shamir"
    plan = dynamic.with_plan(scheme=name, epoch=None if shamir else dynamic.plan.epoch, threshold=3 if shamir else None)
    plan = plan.plan
    updates = random.normal(0, 0.2, (4, LAYOUT.size)).astype(np.float32).clip(-0.9, 0.9)
    found = played(federation, plan, updates)

    shares = [min(max(loss / 1000 / cases / 0.8, 0.5), 2) / 2 if cases else 0.5 for loss, cases in LOSSES]
    weights = np.array([np.rint(min(n, 100) * share) for n, share in zip(SAMPLES, shares, strict=True)])
    assert found.counts.capped_samples == weights.sum()
    assert found.weight_sum == weights.sum() / 100
    assert found.counts.samples == sum(SAMPLES)
    expected = weights @ updates.astype(np.float64) / weights.sum()
    allowed = 1e-6 if name != "ckks" else 1e-5  # there the opener adds noise of 2^-20 to each slot
    assert (np.abs(found.mean - expected) <= allowed * BOUNDS).all()
    plain = np.average(updates.astype(np.float64), axis=0, weights=np.minimum(SAMPLES, 100))
    assert np.abs(expected - plain).max() > 0.01, "the weights make a difference"


def played(federation, plan: Plan, updates):
    """A round from sealing to the mean."""
    chosen, keys, signed = scheme(plan.scheme), {}, []
    public = None if plan.scheme == "lwe-shamir" else federation.public
    adders = [chosen.adder(plan, LAYOUT, number, public) for number in range(len(chosen.part_sizes(plan, LAYOUT)))]
    for site, update, samples, (loss, cases) in zip(federation.sites, updates, SAMPLES, LOSSES, strict=True):
        to = Recipients(federation.roster, site) if public is None else public
        sealed = chosen.seal(plan, LAYOUT, update, samples, counts_of(loss, cases), to)
        digests = []
        for adder, part in zip(adders, sealed, strict=True):
            adder.add(part)
            digests.append(sha256(part))
        keys[site] = sealed.key_parts
        manifest = federation.manifest(site).model_copy(
            update={"plan": plan.digest, "parts": tuple(digests), "key_parts": tuple(map(sha256, sealed.key_parts))}
        )
        signed.append(federation.identities[site].sign(manifest))
    ballot = Ballot(plan=plan.digest, manifests=tuple(signed))
    totals = [bytes(adder.total()) for adder in adders]
    secret = federation.dealt.secret
    if plan.scheme == "ckks":
        totals, secrets = list(open_bodies(plan, LAYOUT, ballot, totals, secret)), ()
    elif plan.scheme == "lwe-ckks":
        secrets = open_ballot(plan, ballot, keys, secret, federation.sites[0]).secret_sum
    else:
        answers = []
        for place, site in enumerate(federation.sites):
            shares = {sender: parts[place] for sender, parts in keys.items()}
            answers.append(open_shares(plan, federation.roster, ballot, shares, federation.identities[site], site))
        secrets = chosen.combine(plan, federation.roster, answers).values
    return chosen.reveal(plan, LAYOUT, totals, secrets, len(updates))
