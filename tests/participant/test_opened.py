"""What was opened under `ckks` stays on the disk, and is the same ever after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from crypto.canonical import sha256
from crypto.plan import Plan
from participant.opened import OpenedStore
from participant.policy import Refused

STUDY, DIGEST = UUID(int=9), "0" * 64
PARTS = (b"first", b"second")


def plan(attempt: int = 1) -> Plan:
    return Plan(
        study=STUDY, round=1, attempt=attempt, kind="training", base_model=DIGEST, layout=DIGEST, recipe=DIGEST,
        roster=DIGEST, epoch=DIGEST, scheme="ckks", release="open", weighting="equal", expected=(UUID(int=1),),
        k_max=16, n_max=100, bounds=(1.0,), threshold=None, minimum_contributors=2, collect_until=1, vote_seconds=1,
        open_seconds=1,
    )  # fmt: skip


@pytest.fixture
def store(tmp_path: Path) -> OpenedStore:
    return OpenedStore(tmp_path / "opened")


def test_what_was_opened_is_not_opened_again(store: OpenedStore) -> None:
    digests = store.write(plan(), PARTS)
    assert digests == tuple(map(sha256, PARTS))
    again = iter((b"other noise",))
    assert store.write(plan(), again) == digests
    assert next(again) == b"other noise", "nothing of it was drawn"
    assert [store.octets(plan(), number, digest) for number, digest in enumerate(digests)] == list(PARTS)


def test_an_interrupted_opening_leaves_nothing(store: OpenedStore) -> None:
    def interrupted() -> Iterator[bytes]:
        yield b"thinner noise"
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.write(plan(), interrupted())
    assert store.write(plan(), PARTS) == tuple(map(sha256, PARTS))


def test_lost_or_damaged_parts_are_refused(store: OpenedStore, tmp_path: Path) -> None:
    digests = store.write(plan(), PARTS)
    folder = tmp_path / "opened" / str(STUDY) / "1-1"
    (folder / "0").write_bytes(b"fir5t")
    (folder / "1").unlink()
    for number, digest in enumerate(digests):
        with pytest.raises(Refused, match=f"opened part {number} is damaged on this site's disk") as refused:
            store.octets(plan(), number, digest)
        assert refused.value.code == "opened-damaged"


def test_what_ended_is_deleted(store: OpenedStore, tmp_path: Path) -> None:
    for attempt in (1, 2):
        store.write(plan(attempt), PARTS)
    store.settle(STUDY, 1, 1)
    assert [path.name for path in (tmp_path / "opened" / str(STUDY)).iterdir()] == ["1-2"]
