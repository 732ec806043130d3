"""What a site must never forget, and its sealed contributions on disk: every rule of section 6 that needs memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from crypto.identity import Identity
from crypto.manifest import Ballot, Manifest, Opening, ShareOpening, Vote
from crypto.plan import Plan
from crypto.wire import Signed
from participant.policy import Refused
from participant.record import Record
from participant.sealed import SealedStore
from participant.training_files import unfinished_file

SITES = tuple(UUID(int=number) for number in (1, 2, 3, 4))
STUDY = UUID(int=99)
IDENTITY = Identity.generate()


def plan(number: int = 1, attempt: int = 1, **changes: Any) -> Plan:
    digest = "0" * 64
    values: dict[str, Any] = {
        "study": STUDY, "round": number, "attempt": attempt, "kind": "training", "base_model": digest, "layout": digest,
        "recipe": digest, "roster": digest, "epoch": digest, "scheme": "lwe-ckks", "release": "open",
        "weighting": "equal", "expected": SITES, "k_max": 16, "n_max": 100, "bounds": (1.0,), "threshold": None,
        "minimum_contributors": 2, "collect_until": 1, "vote_seconds": 1, "open_seconds": 1,
    }  # fmt: skip
    return Plan(**values | changes)


def manifest(of: Plan, site: UUID = SITES[0], part: str = "a") -> Signed[Manifest]:
    return IDENTITY.sign(Manifest(plan=of.digest, site=site, parts=(part * 64,), key_parts=("b" * 64,)))


def ballot(of: Plan, *sites: UUID, part: str = "a") -> Ballot:
    return Ballot(plan=of.digest, manifests=tuple(manifest(of, site, part) for site in sites))


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    kept = Record(tmp_path / "record.sqlite", fresh=True)
    yield kept
    kept.close()


@contextmanager
def refused(code: str) -> Iterator[None]:
    with pytest.raises(Refused) as caught:
        yield
    assert caught.value.code == code


# --- plans


def test_a_plan_is_accepted_once_and_survives(record: Record, tmp_path: Path) -> None:
    record.accept(plan())
    record.accept(plan())
    again = Record(tmp_path / "record.sqlite")
    assert again.accepted(plan())
    assert not again.lost
    again.close()


def test_one_plan_an_attempt(record: Record) -> None:
    record.accept(plan())
    with refused("plan-differs"):
        record.accept(plan(n_max=7))


@pytest.mark.parametrize(("number", "attempt"), [(1, 1), (2, 1)])
def test_plans_go_forward_only(record: Record, number: int, attempt: int) -> None:
    record.accept(plan(2, 2))
    with refused("plan-old"):
        record.accept(plan(number, attempt))
    record.accept(plan(2, 3))
    record.accept(plan(3, 1))


def test_after_a_vote_no_further_attempt_of_the_round(record: Record) -> None:
    record.accept(plan())
    shown = ballot(plan(), *SITES[:2])
    record.see_ballot(plan(), shown, 2)
    record.keep_vote(IDENTITY.sign(Vote(ballot=shown.digest, site=SITES[0])))
    with refused("round-over"):
        record.accept(plan(1, 2))
    record.accept(plan(2, 1))


def test_after_an_answer_without_a_vote_no_further_attempt_either(record: Record) -> None:
    """lwe-shamir: the answer is the vote."""
    first = plan(threshold=3, scheme="lwe-shamir", epoch=None)
    record.accept(first)
    shown = ballot(first, *SITES[:3])
    record.see_ballot(first, shown, 2)
    answer = IDENTITY.sign(ShareOpening(ballot=shown.digest, site=SITES[0], share_sum=(7,) * 2048))
    assert record.keep_opening(answer) == answer
    other = IDENTITY.sign(ShareOpening(ballot=shown.digest, site=SITES[0], share_sum=(8,) * 2048))
    assert record.keep_opening(other) == answer, "one answer a ballot"
    with refused("round-over"):
        record.accept(plan(attempt=2, threshold=3, scheme="lwe-shamir", epoch=None))


def test_a_study_stays_what_it_was_when_joined(record: Record) -> None:
    joined = {"recipe": "a" * 64, "layout": "b" * 64, "scheme": "lwe-shamir", "release": "members"}
    for _ in range(2):
        record.pin(STUDY, **joined)
    for change in ({"recipe": "c" * 64}, {"layout": "c" * 64}, {"scheme": "lwe-ckks"}, {"release": "open"}):
        with refused("study-changed"):
            record.pin(STUDY, **(joined | change))
    record.pin(UUID(int=98), **(joined | {"recipe": "c" * 64}))


def test_a_studys_minimum_may_rise_and_not_fall(record: Record) -> None:
    """Also where an agent asks the coordinator anew at each start what the study says."""
    record.pin_minimum(STUDY, 4)
    record.pin_minimum(STUDY, 5)
    record.pin_minimum(STUDY, 4)
    with refused("study-changed"):
        record.pin_minimum(STUDY, 3)
    record.pin_minimum(UUID(int=98), 2)


def test_a_new_attempt_is_fine_where_nothing_was_answered(record: Record) -> None:
    record.accept(plan())
    record.accept(plan(1, 2))


def test_lost_memory_sits_out_what_is_under_way(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.sqlite")
    assert record.lost
    assert record.skip_if_lost(STUDY, plan(4, 2))
    assert not record.skip_if_lost(STUDY, plan(5, 1))
    with refused("plan-old"):
        record.accept(plan(4, 2))
    record.accept(plan(4, 3))
    record.close()


def test_lost_memory_with_nothing_under_way_costs_nothing(tmp_path: Path) -> None:
    record = Record(tmp_path / "record.sqlite")
    assert not record.skip_if_lost(STUDY, None)
    record.accept(plan())
    record.close()


# --- manifests


def test_one_manifest_an_attempt(record: Record) -> None:
    record.accept(plan())
    record.sign_manifest(plan(), manifest(plan()))
    record.sign_manifest(plan(), manifest(plan()))
    with refused("manifest-differs"):
        record.sign_manifest(plan(), manifest(plan(), part="c"))
    assert record.manifest(plan()) == manifest(plan())


# --- ballots, votes, openings


def test_one_ballot_an_attempt(record: Record) -> None:
    record.accept(plan())
    assert record.see_ballot(plan(), ballot(plan(), *SITES[:3]), 2) == (True, 1)
    assert record.see_ballot(plan(), ballot(plan(), *SITES[:3]), 2) == (False, 1)
    with refused("ballot-differs"):
        record.see_ballot(plan(), ballot(plan(), *SITES[:2]), 2)


def test_only_the_plan_accepted_last_is_voted_on(record: Record) -> None:
    record.accept(plan())
    with refused("ballot-of-other-plan"):
        record.see_ballot(plan(1, 2), ballot(plan(1, 2), *SITES[:2]), 2)
    record.accept(plan(2))
    with refused("ballot-of-other-plan"):
        record.see_ballot(plan(), ballot(plan(), *SITES[:2]), 2)


def test_at_most_so_many_sets_on_one_base_model(record: Record) -> None:
    for number, sites, sets in [(1, SITES[:3], 1), (2, SITES[:3], 1), (3, SITES[1:], 2)]:
        record.accept(plan(number))
        assert record.see_ballot(plan(number), ballot(plan(number), *sites), 2) == (True, sets)
    record.accept(plan(4))
    with refused("too-many-sets"):
        record.see_ballot(plan(4), ballot(plan(4), *SITES), 2)
    newer = plan(5, base_model="1" * 64)
    record.accept(newer)
    assert record.see_ballot(newer, ballot(newer, *SITES), 2) == (True, 1)


def test_answers_are_given_once_and_repeated(record: Record, tmp_path: Path) -> None:
    record.accept(plan())
    shown = ballot(plan(), *SITES[:2])
    record.see_ballot(plan(), shown, 2)
    first = IDENTITY.sign(Opening(ballot=shown.digest, site=SITES[0], secret_sum=(0,) * 2048))
    other = IDENTITY.sign(Opening(ballot=shown.digest, site=SITES[0], secret_sum=(1,) * 2048))
    assert record.opening(shown.digest, Opening) is None
    assert record.keep_opening(first) == first
    assert record.keep_opening(other) == first
    again = Record(tmp_path / "record.sqlite")
    assert again.opening(shown.digest, Opening) == first
    again.close()


def test_a_refusal_is_new_once(record: Record) -> None:
    assert not record.refused("a" * 64, "plan-old")
    for _ in range(2):
        record.keep_refusal("a" * 64, "plan-old")
    assert record.refused("a" * 64, "plan-old")
    assert not record.refused("a" * 64, "plan-differs")


def test_the_newest_epoch_is_remembered(record: Record) -> None:
    assert record.newest_epoch(STUDY) is None
    for number, digest in ((2, "b" * 64), (1, "a" * 64), (2, "c" * 64)):
        record.keep_epoch(STUDY, number, digest)
    assert record.newest_epoch(STUDY) == (2, "b" * 64)
    assert record.knows_epoch(STUDY, "a" * 64)
    assert not record.knows_epoch(UUID(int=5), "a" * 64)


def test_figures_are_merged_until_dropped(record: Record) -> None:
    record.note_figures(plan(), train_seconds=2.0)
    record.note_figures(plan(), open_seconds=1.0)
    assert list(record.figures(STUDY)) == [(1, 1, {"train_seconds": 2.0, "open_seconds": 1.0})]
    record.drop_figures(STUDY, 1, 1)
    assert list(record.figures(STUDY)) == []


# --- sealed contributions


class Update:
    """Stands for a scheme's sealed update; `fail_after` parts the machine goes down."""

    key_parts = (b"key",)
    clipped = (0,)

    def __init__(self, fail_after: int | None = None) -> None:
        self._fail_after = fail_after
        self.residual: NDArray[np.float32] | None = np.array([0.0, 2.5], np.float32)

    def __iter__(self) -> Iterator[memoryview]:
        for number, data in enumerate((b"first", b"second")):
            if number == self._fail_after:
                raise KeyboardInterrupt
            yield memoryview(data)


@pytest.fixture
def store(tmp_path: Path, record: Record) -> SealedStore:
    record.accept(plan())
    return SealedStore(
        tmp_path / "sealed", tmp_path / "residuals", record, lambda study: tmp_path / "local" / str(study)
    )


def files(tmp_path: Path) -> set[str]:
    return {str(file.relative_to(tmp_path / "sealed")) for file in (tmp_path / "sealed").rglob("*") if file.is_file()}


def test_a_sealed_contribution_is_read_back_as_signed(store: SealedStore, tmp_path: Path) -> None:
    stored = store.write(plan(), SITES[0], Update(), IDENTITY.sign)
    found = store.find(plan())
    assert found == stored
    assert found is not None
    assert [found.octets("parts", number) for number in (0, 1)] == [b"first", b"second"]
    assert found.octets("key-parts", 0) == b"key"
    assert found.upload_bytes == len("firstsecondkey") + len(stored.manifest.encode())
    assert store.under_way(STUDY) == [(1, 1)]


def test_a_trainings_checkpoint_goes_when_it_is_sealed_or_its_round_has_ended(
    store: SealedStore, tmp_path: Path
) -> None:
    folder = tmp_path / "local" / str(STUDY)
    folder.mkdir(parents=True)
    for number, attempt in ((1, 1), (1, 2), (2, 1)):
        unfinished_file(folder, number, attempt).touch()
    torn = folder / ".unfinished-1-2.safetensors.99"  # killed while it was written
    torn.touch()
    (folder / "local-state.safetensors").touch()
    store.write(plan(), SITES[0], Update(), IDENTITY.sign)
    assert store.under_way(STUDY) == [(1, 1), (1, 2), (2, 1)]
    assert not unfinished_file(folder, 1, 1).exists()
    store.settle(STUDY, 1, 2, counted=False)
    assert {file.name for file in folder.iterdir()} == {"unfinished-2-1.safetensors", "local-state.safetensors"}
    assert store.under_way(STUDY) == [(1, 1), (2, 1)]


def test_an_interrupted_sealing_leaves_nothing(store: SealedStore, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        store.write(plan(), SITES[0], Update(fail_after=1), IDENTITY.sign)
    assert files(tmp_path)
    assert store.find(plan()) is None
    assert files(tmp_path) == set()


def test_killed_between_record_and_rename(store: SealedStore, tmp_path: Path) -> None:
    store.write(plan(), SITES[0], Update(), IDENTITY.sign)
    folder = tmp_path / "sealed" / str(STUDY) / "1-1"
    folder.rename(folder.with_name("1-1.tmp"))
    found = store.find(plan())
    assert found is not None
    assert found.octets("parts", 1) == b"second"


def test_lost_or_damaged_bytes_are_never_sealed_again(store: SealedStore, tmp_path: Path) -> None:
    stored = store.write(plan(), SITES[0], Update(), IDENTITY.sign)
    (stored.folder / "parts-1").write_bytes(b"secons")
    with refused("sealed-damaged"):
        stored.octets("parts", 1)
    (stored.folder / "parts-0").unlink()
    with refused("sealed-damaged"):
        stored.octets("parts", 0)
    stored.folder.rename(tmp_path / "elsewhere")
    with refused("sealed-lost"):
        store.find(plan())
    with refused("manifest-differs"):
        store.write(plan(), SITES[0], Update(), lambda message: manifest(plan(), part="d"))


def test_the_residual_counts_only_when_the_attempt_does(store: SealedStore, tmp_path: Path) -> None:
    store.write(plan(), SITES[0], Update(), IDENTITY.sign)
    store.settle(STUDY, 1, 1, counted=False)
    assert store.residual(STUDY, 2).tolist() == [0.0, 0.0]
    assert files(tmp_path) == set()
    assert store.under_way(STUDY) == []


def test_a_counted_residual_is_kept_and_replaced(store: SealedStore, record: Record, tmp_path: Path) -> None:
    store.write(plan(), SITES[0], Update(), IDENTITY.sign)
    store.settle(STUDY, 1, 1, counted=True)
    store.settle(STUDY, 1, 1, counted=True)
    assert store.residual(STUDY, 2).tolist() == [0.0, 2.5]
    assert files(tmp_path) == set()


def test_the_trainers_state_is_the_next_rounds_only_if_the_attempt_counts(
    store: SealedStore, record: Record, tmp_path: Path
) -> None:
    place = tmp_path / "local" / str(STUDY) / "local-state.safetensors"
    store.write(plan(), SITES[0], Update(), IDENTITY.sign, b"trained")
    assert not place.exists()
    store.settle(STUDY, 1, 1, counted=False)
    assert not place.exists()
    record.accept(plan(2))
    store.write(plan(2), SITES[0], Update(), IDENTITY.sign, b"trained again")
    for _ in range(2):  # killed in between, it is settled once more
        store.settle(STUDY, 2, 1, counted=True)
    assert place.read_bytes() == b"trained again"
    assert files(tmp_path) == set()
