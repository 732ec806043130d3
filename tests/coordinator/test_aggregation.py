"""Adding and revealing on a folder of blobs, against float64 numpy."""

from __future__ import annotations

import json
import tracemalloc
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load, save

from coordinator import aggregation
from coordinator.aggregation import PartLost, add_up, reveal
from coordinator.errors import DiskFull
from coordinator.rounds.work import Work
from coordinator.store.blobs import Blobs, model_key, part_key, sum_key, sums_prefix
from crypto.canonical import canonical, sha256
from crypto.errors import CanaryMismatch, OpeningRefused
from crypto.lanes import LaneFormat, RealEncoder, count_vector
from crypto.layout import CountField, Layout, Tensor
from crypto.lwe import Sealer, seal_parts
from crypto.manifest import Ballot, Manifest
from crypto.plan import Member, Plan, Roster
from crypto.vector import VectorShape
from crypto.wire import Signed

ROUND, STUDY, DIGEST = UUID(int=1), UUID(int=2), "ab" * 32
SMALL = Layout(
    (Tensor("weight", (30, 50), "parameter"), Tensor("mean", (7,), "buffer"), Tensor("scale", (), "parameter")),
    (CountField("cases", ()), CountField("confusion", (2, 2))),
)
LARGE = Layout((Tensor("weight", (1100, 1000), "parameter"),), (CountField("cases", ()),))
# Neither adding nor revealing asks who else is on it.
MEMBER = Member(site=UUID(int=11), name="one", index=1, signing_key="11" * 32, hpke_key="11")
ROSTER = Roster(study=STUDY, members=(MEMBER,))
SAMPLES = (40, 250, 10)
NOBODY_MINDS = lambda: None  # noqa: E731


def make_plan(layout: Layout, base: str, **changes) -> Plan:
    plan = Plan(
        study=STUDY,
        round=4,
        attempt=1,
        kind="training",
        base_model=base,
        layout=layout.digest,
        recipe=DIGEST,
        roster=ROSTER.digest,
        epoch=DIGEST,
        scheme="lwe-ckks",
        release="open",
        weighting="samples",
        expected=tuple(UUID(int=number) for number in (11, 12, 13)),
        k_max=16,
        n_max=100,
        bounds=tuple(1.0 if tensor.kind == "parameter" else 64.0 for tensor in layout.tensors),
        threshold=None,
        minimum_contributors=2,
        collect_until=100,
        vote_seconds=10,
        open_seconds=10,
    )
    return plan.model_copy(update=changes)


class Case:
    """Sealed contributions of three sites in a blob store, and what is in them."""

    def __init__(self, root: Path, layout: Layout = SMALL, **changes) -> None:
        random = np.random.default_rng(3)
        self.blobs, self.layout = Blobs(root), layout
        self.base = {t.name: random.normal(size=t.shape).astype(np.float32) for t, _ in layout.slices()}
        data = save(self.base, {"format": "pleura/model/v1"})
        self.plan = make_plan(layout, self.blobs.put_bytes(model_key(sha256(data)), data).sha256, **changes)
        self.updates = [random.normal(0, 0.1, layout.size).astype(np.float32) for _ in SAMPLES]
        self.counts = [[random.integers(0, 50) for _ in range(layout.counts_size)] for _ in SAMPLES]
        self.secret_sum = np.zeros(2048, np.int64)
        manifests = [self._contribute(number) for number in range(len(SAMPLES))]
        ballot = Ballot(plan=self.plan.digest, manifests=tuple(manifests))
        self.work = Work(ROUND, self.plan, ROSTER, layout, {"name": "a recipe", "länge": 1}, ballot)

    def _contribute(self, number: int) -> Signed[Manifest]:
        plan, site = self.plan, self.plan.expected[number]
        training, lanes = plan.kind == "training", LaneFormat(plan.k_max)
        weight = min(SAMPLES[number], plan.n_max) / plan.n_max if plan.weighting == "samples" else 1.0
        encoder = RealEncoder(self.updates[number], self.layout, plan.bounds, weight, lanes) if training else None
        clipped = encoder.clipped if encoder else [0] * len(self.layout.tensors)
        sealer = Sealer.fresh(plan.study)
        self.secret_sum += sealer.secret
        parts = seal_parts(
            sealer,
            encoder,
            lambda: count_vector(SAMPLES[number], plan.n_max, clipped, self.counts[number]),
            VectorShape.of(self.layout, evaluation_only=not training),
            lanes,
        )
        digests = [
            self.blobs.put_bytes(part_key(ROUND, site, "body", index), part.tobytes()).sha256
            for index, part in enumerate(parts)
        ]
        message = Manifest(plan=plan.digest, site=site, parts=tuple(digests), key_parts=())
        return Signed[Manifest](message=message, signature="0" * 128)

    def expected_mean(self) -> np.ndarray:
        capped = np.minimum(SAMPLES, self.plan.n_max) if self.plan.weighting == "samples" else np.ones(len(SAMPLES))
        return np.average(np.array(self.updates, np.float64), axis=0, weights=capped)

    def reveal(self, secret_sum=None):
        lowest = list(self.plan.bounds)
        secrets = self.secret_sum if secret_sum is None else secret_sum
        return reveal(self.blobs, self.work, secrets.tolist(), lowest, NOBODY_MINDS)

    def model(self, digest: str) -> np.ndarray:
        tensors = load(self.blobs.read(model_key(digest)))
        return np.concatenate([tensors[tensor.name].reshape(-1) for tensor in self.layout.tensors])


@pytest.mark.parametrize("weighting", ["samples", "equal"])
def test_the_new_model_is_the_base_plus_the_weighted_mean(tmp_path, weighting) -> None:
    case = Case(tmp_path, weighting=weighting)
    revealed = case.reveal()
    digest, size = revealed.model
    assert case.blobs.size(model_key(digest)) == size
    assert sha256(case.blobs.read(model_key(digest))) == digest
    base = np.concatenate([case.base[tensor.name].reshape(-1) for tensor in SMALL.tensors])
    difference = np.abs(case.model(digest) - base.astype(np.float64) - case.expected_mean())
    bounds = np.concatenate([np.full(t.size, b) for t, b in zip(SMALL.tensors, case.plan.bounds, strict=True)])
    assert (difference <= 1e-6 * bounds + 2.5e-7 * np.abs(base) + 1e-7).all()


def test_counts_are_pooled_exactly(tmp_path) -> None:
    case = Case(tmp_path)
    revealed = case.reveal()
    total = np.sum(case.counts, axis=0)
    assert revealed.counts["samples"] == sum(SAMPLES)
    assert revealed.counts["capped_samples"] == 40 + 100 + 10
    assert revealed.counts["clipped"] == [0, 0, 0]
    assert revealed.counts["recipe"] == {"cases": total[0], "confusion": total[1:].reshape(2, 2).tolist()}
    assert revealed.measures["accuracy"] == pytest.approx((total[1] + total[4]) / total[1:].sum())
    json.dumps([revealed.counts, revealed.measures])


def test_nothing_clipped_lets_a_bound_fall_and_much_makes_it_grow(tmp_path) -> None:
    assert Case(tmp_path / "a").reveal().bounds == [0.5, 32.0, 0.5]
    tight = Case(tmp_path / "b", bounds=(0.01, 64.0, 1.0)).reveal()
    assert tight.bounds[0] == 0.02
    assert tight.counts["clipped"][0] > 100


def test_an_evaluation_round_makes_no_model_and_moves_no_bound(tmp_path) -> None:
    case = Case(tmp_path, kind="evaluation")
    revealed = case.reveal()
    assert revealed.model is None
    assert revealed.bounds == list(case.plan.bounds)
    assert revealed.counts["recipe"]["cases"] == sum(counts[0] for counts in case.counts)


def test_the_model_file_says_where_it_comes_from(tmp_path) -> None:
    case = Case(tmp_path)
    digest, _ = case.reveal().model
    with safe_open(tmp_path / model_key(digest), framework="numpy") as file:
        metadata = file.metadata()
        assert set(file.keys()) == {"weight", "mean", "scale"}
        assert file.get_tensor("scale").shape == ()
    assert metadata["format"] == "pleura/model/v1"
    assert (metadata["study"], metadata["round"]) == (str(STUDY), "4")
    assert metadata["layout"].encode() == canonical(SMALL.to_json())
    assert metadata["recipe"].encode() == canonical(case.work.recipe)


def test_sums_already_there_are_kept(tmp_path) -> None:
    case = Case(tmp_path, LARGE)
    add_up(case.blobs, case.work, NOBODY_MINDS)
    kept = case.blobs.read(sum_key(ROUND, 0))
    case.blobs.delete_prefix(f"parts/{ROUND}")
    add_up(case.blobs, case.work, NOBODY_MINDS)
    assert case.blobs.read(sum_key(ROUND, 0)) == kept
    base = np.float64(case.base["weight"].reshape(-1))
    assert np.abs(case.model(case.reveal().model[0]) - base - case.expected_mean()).max() < 1.5e-6


def test_lost_sums_are_formed_again_before_revealing(tmp_path) -> None:
    case = Case(tmp_path)
    first = case.reveal().model
    case.blobs.delete_prefix(sums_prefix(ROUND))
    assert case.reveal().model == first


def test_a_missing_part_is_named(tmp_path) -> None:
    case = Case(tmp_path)
    key = part_key(ROUND, case.plan.expected[1], "body", 0)
    case.blobs.delete(key)
    with pytest.raises(PartLost, match=f"{key} is not in the blob store"):
        add_up(case.blobs, case.work, NOBODY_MINDS)


@pytest.mark.parametrize("damage", [lambda data: data[:-4], lambda data: data[:9] + b"\x01" + data[10:]])
def test_a_damaged_part_is_named_and_never_added(tmp_path, damage) -> None:
    case = Case(tmp_path)
    key = part_key(ROUND, case.plan.expected[2], "body", 0)
    case.blobs.put_bytes(key, damage(case.blobs.read(key)))
    with pytest.raises(PartLost, match=f"{key} was damaged"):
        add_up(case.blobs, case.work, NOBODY_MINDS)
    assert not case.blobs.exists(sum_key(ROUND, 0))


def test_a_wrong_sum_of_secrets_opens_nothing(tmp_path) -> None:
    case = Case(tmp_path)
    wrong = case.secret_sum.copy()
    wrong[5] += 1
    with pytest.raises(CanaryMismatch):
        case.reveal(wrong)
    wrong[5] = 32 * 3 + 1
    with pytest.raises(OpeningRefused, match="stays within 96"):
        case.reveal(wrong)
    assert [path.name for path in (tmp_path / "models").iterdir()] == [case.plan.base_model]


def test_a_full_disk_is_said_and_the_sum_formed_later(tmp_path, monkeypatch) -> None:
    case = Case(tmp_path)

    def full(*_: object) -> None:
        raise DiskFull("no room")

    monkeypatch.setattr(case.blobs, "put_bytes", full)
    with pytest.raises(DiskFull):
        add_up(case.blobs, case.work, NOBODY_MINDS)
    monkeypatch.undo()
    add_up(case.blobs, case.work, NOBODY_MINDS)
    assert case.blobs.exists(sum_key(ROUND, 0))


class Interrupted(BaseException):
    """What a beat raises when the process ends."""


def test_work_breaks_off_between_parts(tmp_path) -> None:
    case = Case(tmp_path, LARGE)

    def stop() -> None:
        raise Interrupted

    with pytest.raises(Interrupted):
        add_up(case.blobs, case.work, stop)
    assert add_up(case.blobs, case.work, NOBODY_MINDS) > 0


def test_memory_does_not_grow_with_the_sites(tmp_path) -> None:
    """Two parts a thread: 16 MiB at two threads, whatever the number of contributions."""
    case = Case(tmp_path, LARGE)
    many = case.work.ballot.model_copy(update={"manifests": case.work.ballot.manifests * 8})
    work = replace(case.work, ballot=many)
    tracemalloc.start()
    try:
        add_up(case.blobs, work, NOBODY_MINDS)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < (2 * aggregation.THREADS + 1) * 4 * 2**20
