"""Whatever sites seal under `lwe-ckks`, signed ballot and all, the opened mean is the float64 mean, or nothing is.

The arithmetic has its own, denser property tests; here the whole facade is in the loop, with CKKS and signatures.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crypto.canonical import sha256
from crypto.checks import check_ballot
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.errors import CanaryMismatch, OpeningRefused, WrongDigest
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.lwe import draw_secret
from crypto.manifest import Ballot, Manifest
from crypto.plan import Member, Plan, Roster
from crypto.schemes import scheme
from crypto.schemes.opening import open_ballot

SCHEME = scheme("lwe-ckks")
STUDY = uuid.UUID(int=5)
SECRET = SecretContext.generate()
PUBLIC = PublicContext.load(SECRET.public_bytes())
FOREIGN = PublicContext.load(SecretContext.generate().public_bytes())
SITES = [uuid.UUID(int=number) for number in range(1, 65)]
IDENTITIES = [Identity.generate() for _ in SITES]
MEMBERS = tuple(
    Member(
        site=site,
        name=f"Site {index}",
        index=index,
        signing_key=identity.public.signing_key.hex(),
        hpke_key=identity.public.hpke_key.hex(),
    )
    for index, (site, identity) in enumerate(zip(SITES, IDENTITIES, strict=True), 1)
)
N_MAX = 500


@dataclass
class Case:
    plan: Plan
    roster: Roster
    layout: Layout
    updates: np.ndarray  # float32 [K, size]
    samples: np.ndarray  # int [K]
    recipe: np.ndarray  # int [K, counts]

    @property
    def weights(self) -> np.ndarray:
        equal = self.plan.weighting == "equal"
        return np.ones(len(self.samples)) if equal else np.minimum(self.samples, N_MAX) / N_MAX


def plan_of(layout, roster, weighting, bounds, k_max):
    sites = tuple(member.site for member in roster.members)
    return Plan(
        study=STUDY,
        round=1,
        attempt=1,
        kind="training",
        base_model="00" * 32,
        layout=layout.digest,
        recipe="11" * 32,
        roster=roster.digest,
        epoch="22" * 32,
        scheme="lwe-ckks",
        release="open",
        weighting=weighting,
        expected=sites,
        k_max=k_max,
        n_max=N_MAX,
        bounds=bounds,
        threshold=None,
        minimum_contributors=2,
        collect_until=1,
        vote_seconds=1,
        open_seconds=1,
    )


@st.composite
def cases(draw, most=64):
    contributors = draw(st.integers(2, most))
    sizes = draw(st.lists(st.integers(1, 300), min_size=1, max_size=3))
    layout = Layout(
        tuple(Tensor(f"t{i}", (size,), "parameter") for i, size in enumerate(sizes)),
        (CountField("confusion", (draw(st.integers(1, 4)), 2)),),
    )
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    bounds = tuple(draw(st.sampled_from([2.0**-6, 1.0, 64.0])) for _ in sizes)
    reach = draw(st.sampled_from([1e-3, 0.9, 2.0])) * np.repeat(bounds, sizes)
    updates = (random.uniform(-1, 1, (contributors, layout.size)) * reach).astype(np.float32)
    samples = random.integers(N_MAX // 4, 2 * N_MAX, contributors)
    recipe = random.integers(0, 2**24, (contributors, layout.counts_size))
    roster = Roster(study=STUDY, members=MEMBERS[:contributors])
    k_max = draw(st.integers(contributors, 2 * contributors))
    plan = plan_of(layout, roster, draw(st.sampled_from(["samples", "equal"])), bounds, k_max)
    return Case(plan, roster, layout, updates, samples, recipe)


def play(case, contexts=None):
    """Seal, sign and add: (sums of the parts, ballot, key parts by site)."""
    sizes = SCHEME.part_sizes(case.plan, case.layout)
    adders = [SCHEME.adder(case.plan, case.layout, number) for number in range(len(sizes))]
    manifests, key_parts = [], {}
    rows = zip(SITES, IDENTITIES, case.updates, case.samples.tolist(), case.recipe.tolist(), strict=False)
    for index, (site, identity, update, samples, recipe) in enumerate(rows):
        public = PUBLIC if contexts is None else contexts[index]
        sealed = SCHEME.seal(case.plan, case.layout, update, samples, recipe, public)
        digests = []
        for adder, part in zip(adders, sealed, strict=True):
            adder.add(part)
            digests.append(sha256(part))
        key_parts[site] = sealed.key_parts
        manifest = Manifest(
            plan=case.plan.digest, site=site, parts=tuple(digests), key_parts=tuple(map(sha256, sealed.key_parts))
        )
        manifests.append(identity.sign(manifest))
    return [adder.total() for adder in adders], Ballot(plan=case.plan.digest, manifests=tuple(manifests)), key_parts


@given(cases())
@settings(max_examples=25, deadline=None)
def test_the_opened_mean_is_the_float64_mean(case):
    totals, ballot, key_parts = play(case)
    checked = check_ballot(ballot, case.plan, case.roster, SITES[0], ballot.manifests[0].message, 2)
    opening = open_ballot(case.plan, ballot, key_parts, SECRET, SITES[0])
    revealed = SCHEME.reveal(case.plan, case.layout, totals, opening.secret_sum, len(checked.contributors))

    wide = np.repeat(case.plan.bounds, [tensor.size for tensor in case.layout.tensors])
    weights = case.weights.reshape(-1, 1)
    weighted = np.clip(weights * case.updates.astype(np.float64), -wide, wide)
    assert (np.abs(revealed.mean - weighted.sum(axis=0) / weights.sum()) <= 1e-6 * wide).all()
    assert revealed.weight_sum == pytest.approx(weights.sum())
    assert revealed.counts.samples == case.samples.sum()
    assert revealed.counts.recipe == tuple(case.recipe.sum(axis=0).tolist())


@given(cases(most=12), st.data())
@settings(max_examples=15, deadline=None)
def test_one_foreign_key_opens_nothing(case, data):
    contexts = [PUBLIC] * len(case.samples)
    contexts[data.draw(st.integers(0, len(contexts) - 1))] = FOREIGN
    _, ballot, key_parts = play(case, contexts)
    with pytest.raises(OpeningRefused):
        open_ballot(case.plan, ballot, key_parts, SECRET, SITES[0])


@given(cases(most=12), st.sampled_from(["missing", "replaced", "twice"]), st.data())
@settings(max_examples=25, deadline=None)
def test_another_set_of_secrets_gives_no_mean(case, fault, data):
    totals, ballot, key_parts = play(case)
    index = data.draw(st.integers(0, len(case.samples) - 1))
    parts = [own for (own,) in key_parts.values()]
    if fault == "missing":
        del parts[index]
    elif fault == "replaced":
        parts[index] = PUBLIC.encrypt(draw_secret())
    else:
        parts.append(parts[index])
    if parts:
        secret_sum = SECRET.decrypt_sum(parts).tolist()
        with pytest.raises((CanaryMismatch, OpeningRefused)):
            SCHEME.reveal(case.plan, case.layout, totals, secret_sum, len(case.samples))
    exchanged = key_parts | {SITES[index]: (PUBLIC.encrypt(draw_secret()),)}
    with pytest.raises(WrongDigest, match=str(SITES[index])):
        open_ballot(case.plan, ballot, exchanged, SECRET, SITES[0])
