"""Adding and revealing under `ckks`: sums of ciphertexts, and the opener's parts, on a folder of blobs."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from safetensors.numpy import load, save

from coordinator import aggregation
from coordinator.aggregation import PartLost, add_up, reveal
from coordinator.rounds.work import Work
from coordinator.store.blobs import Blobs, model_key, part_key, sum_key
from crypto.canonical import sha256
from crypto.ckks_body import write_frames
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.errors import CanaryMismatch, OpeningRefused
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, BodyOpening, Manifest
from crypto.parameters import CKKS_OPENING_NOISE, CKKS_SLOTS
from crypto.plan import Member, Plan, Roster
from crypto.schemes import scheme
from crypto.schemes.opening import open_bodies
from crypto.wire import Signed

ROUND, OPENER, DIGEST = UUID(int=1), UUID(int=12), "ab" * 32
LAYOUT = Layout(
    (Tensor("weight", (66, CKKS_SLOTS), "parameter"), Tensor("mean", (7,), "buffer")), (CountField("n", ()),)
)
# Neither adding nor revealing asks who else is on it.
MEMBER = Member(site=UUID(int=11), name="one", index=1, signing_key="11" * 32, hpke_key="11")
ROSTER = Roster(study=UUID(int=2), members=(MEMBER,))
SAMPLES = (40, 250, 10)
CKKS = scheme("ckks")
NOBODY_MINDS = lambda: None  # noqa: E731


@pytest.fixture(scope="module")
def secret() -> SecretContext:
    return SecretContext.generate()


@pytest.fixture(scope="module")
def public(secret) -> PublicContext:
    return PublicContext.load(secret.public_bytes())


class Case:
    """Sealed contributions of three sites in a blob store, and what is in them."""

    def __init__(self, root: Path, public: PublicContext, secret: SecretContext) -> None:
        random = np.random.default_rng(3)
        self.blobs, self.public, self.secret = Blobs(root), public, secret
        self.base = {t.name: random.normal(size=t.shape).astype(np.float32) for t, _ in LAYOUT.slices()}
        data = save(self.base, {"format": "pleura/model/v1"})
        self.plan = plan_of(self.blobs.put_bytes(model_key(sha256(data)), data).sha256)
        self.updates = random.uniform(-1, 1, (3, LAYOUT.size)).astype(np.float32)
        ballot = Ballot(plan=self.plan.digest, manifests=tuple(self._contribute(number) for number in range(3)))
        self.work = Work(ROUND, self.plan, ROSTER, LAYOUT, {"name": "a recipe"}, ballot)

    def _contribute(self, number: int) -> Signed[Manifest]:
        site = self.plan.expected[number]
        sealed = CKKS.seal(self.plan, LAYOUT, self.updates[number], SAMPLES[number], [number + 5], self.public)
        parts = [
            self.blobs.put_bytes(part_key(ROUND, site, "body", index), part).sha256 for index, part in enumerate(sealed)
        ]
        message = Manifest(plan=self.plan.digest, site=site, parts=tuple(parts), key_parts=())
        return Signed[Manifest](message=message, signature="0" * 128)

    def add_up(self) -> None:
        add_up(self.blobs, self.work, NOBODY_MINDS, self.public)

    def open(self) -> list[str]:
        """What an opener does: fetch the sums, upload the opened parts, sign for their digests."""
        self.add_up()
        totals = [self.blobs.read(sum_key(ROUND, number)) for number in (0, 1)]
        opened = open_bodies(self.plan, LAYOUT, self.work.ballot, totals, self.secret)
        return [self.blobs.put_bytes(opened_key(number), part).sha256 for number, part in enumerate(opened)]

    def reveal(self, digests: list[str]):
        body = BodyOpening(ballot=self.work.ballot.digest, site=OPENER, parts=tuple(digests))
        return reveal(self.blobs, self.work, (), list(self.plan.bounds), NOBODY_MINDS, body)


def opened_key(number: int) -> str:
    return part_key(ROUND, OPENER, "opened", number)


def plan_of(base: str) -> Plan:
    return Plan(
        study=UUID(int=2),
        round=4,
        attempt=1,
        kind="training",
        base_model=base,
        layout=LAYOUT.digest,
        recipe=DIGEST,
        roster=ROSTER.digest,
        epoch=DIGEST,
        scheme="ckks",
        release="open",
        weighting="samples",
        expected=tuple(UUID(int=number) for number in (11, 12, 13)),
        k_max=16,
        n_max=100,
        bounds=(1.0, 64.0),
        threshold=None,
        minimum_contributors=2,
        collect_until=100,
        vote_seconds=10,
        open_seconds=10,
    )


@pytest.fixture
def case(tmp_path, public, secret) -> Case:
    return Case(tmp_path, public, secret)


def test_the_new_model_is_the_base_plus_the_weighted_mean(case) -> None:
    revealed = case.reveal(case.open())
    digest, _ = revealed.model
    tensors = load(case.blobs.read(model_key(digest)))
    mean = np.average(case.updates.astype(np.float64), axis=0, weights=np.minimum(SAMPLES, 100))
    weight = case.base["weight"].astype(np.float64) + mean[: 66 * CKKS_SLOTS].reshape(66, CKKS_SLOTS)
    assert np.abs(tensors["weight"] - weight).max() < 7 * CKKS_OPENING_NOISE / 1.5 + 5e-7
    assert np.abs(tensors["mean"] - case.base["mean"] - mean[-7:]).max() < 64 * 7 * CKKS_OPENING_NOISE / 1.5
    assert revealed.counts["samples"] == sum(SAMPLES)
    assert revealed.counts["recipe"] == {"n": 5 + 6 + 7}


def test_what_was_opened_needs_no_sums_any_more(case) -> None:
    digests = case.open()
    first = case.reveal(digests).model
    for number in (0, 1):
        case.blobs.delete(sum_key(ROUND, number))
    for site in case.plan.expected:
        case.blobs.delete(part_key(ROUND, site, "body", 0))
    assert case.reveal(digests).model == first


def test_opened_parts_are_those_that_the_opener_signed_for(case) -> None:
    digests = case.open()
    part = case.blobs.read(opened_key(1))
    for wrong in (part[:-4], part + bytes(4), bytes(4) + part[4:]):
        case.blobs.put_bytes(opened_key(1), wrong)
        with pytest.raises(OpeningRefused, match=r"opened part 1 .* is not the one"):
            case.reveal(digests)
    case.blobs.delete(opened_key(1))
    with pytest.raises(OpeningRefused, match="opened part 1 is not in the blob store"):
        case.reveal(digests)
    for wrong_number in (digests[:1], digests * 2):
        with pytest.raises(OpeningRefused, match="just 2 opened parts"):
            case.reveal(wrong_number)
    with pytest.raises(OpeningRefused, match="just 2 opened parts"):
        reveal(case.blobs, case.work, (0,) * 2048, list(case.plan.bounds), NOBODY_MINDS)


def test_an_opener_that_makes_numbers_up_gives_no_model(case) -> None:
    case.open()
    sizes = CKKS.opened_sizes(case.plan, LAYOUT)
    made_up = np.random.default_rng(1).uniform(-1, 1, sum(sizes) // 4).astype("<f4").tobytes()
    parts = [made_up[: sizes[0]], made_up[sizes[0] :]]
    digests = [case.blobs.put_bytes(opened_key(n), part).sha256 for n, part in enumerate(parts)]
    with pytest.raises(CanaryMismatch):
        case.reveal(digests)


def test_a_part_that_is_none_fails_the_sum_by_name(case) -> None:
    site = case.plan.expected[1]
    key = part_key(ROUND, site, "body", 0)
    junk = write_frames([b"junk"] * 64)
    digest = case.blobs.put_bytes(key, junk).sha256
    manifests = list(case.work.ballot.manifests)
    message = manifests[1].message.model_copy(update={"parts": (digest, manifests[1].message.parts[1])})
    manifests[1] = Signed[Manifest](message=message, signature="0" * 128)
    ballot = Ballot(plan=case.plan.digest, manifests=tuple(manifests))
    with pytest.raises(PartLost, match=f"{key} cannot be added: ciphertext 0 of 64"):
        add_up(case.blobs, replace(case.work, ballot=ballot), NOBODY_MINDS, case.public)
    assert not case.blobs.exists(sum_key(ROUND, 0))


def test_memory_does_not_grow_with_the_sites(case) -> None:
    many = case.work.ballot.model_copy(update={"manifests": case.work.ballot.manifests * 4})

    def peak(ballot: Ballot) -> int:
        case.blobs.delete_prefix(f"sums/{ROUND}")
        tracemalloc.start()
        try:
            add_up(case.blobs, replace(case.work, ballot=ballot), NOBODY_MINDS, case.public)
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(many) < 1.1 * peak(case.work.ballot) < 4 * aggregation.THREADS * 4 * 2**20
