"""What a site remembers, allows and keeps in studies whose models only the members hold."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from crypto.canonical import sha256
from crypto.identity import Identity
from crypto.outcome import Outcome
from crypto.plan import Member, Roster
from participant.model_store import ModelStore
from participant.policy import Policy, Refused
from participant.record import Record
from participant.steps.agreement import agreeing_members
from participant.steps.sealed_models import TURN_SECONDS, SealedModels

STUDY, OTHER, MODEL = UUID(int=1), UUID(int=2), "ab" * 32
SITES = [UUID(int=number) for number in range(10, 14)]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    record = Record(tmp_path / "record.sqlite", fresh=True)
    yield record
    record.close()


def outcome(site: UUID = SITES[0], **changes: Any) -> Outcome:
    values = {"ballot": "cd" * 32, "site": site, "model": MODEL, "size": 100}
    counts = {"samples": 5, "capped_samples": 5, "clipped": (0,), "recipe": (1, 2)}
    return Outcome(**values | counts | changes)


# --- the record


def test_the_first_model_is_agreed_on_and_later_ones_are_not_by_themselves(record: Record) -> None:
    record.agree_first(STUDY, MODEL)
    assert record.agreed(STUDY, MODEL)
    record.agree_first(STUDY, "22" * 32)
    assert not record.agreed(STUDY, "22" * 32), "a study has one first model"
    assert not record.agreed(OTHER, MODEL)
    for _ in range(2):
        record.agree(STUDY, "33" * 32)
    assert record.agreed(STUDY, "33" * 32)


def test_one_outcome_a_ballot(record: Record, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "record.sqlite") as database:
        database.execute("INSERT INTO ballots VALUES ('s', 1, 1, ?, 'm', '[]', 0)", ("cd" * 32,))
    database.close()
    identity = Identity.generate()
    first, second = identity.sign(outcome()), identity.sign(outcome(model="22" * 32))
    assert record.outcome("cd" * 32) is None
    assert record.keep_outcome(first) == first
    assert record.keep_outcome(second) == first, "the first one kept is its word ever after"


def test_a_study_that_changes_its_terms_is_another_study(record: Record) -> None:
    what = ("a" * 64, "b" * 64)
    record.pin(STUDY, *what, "lwe-shamir", "members")
    for scheme, release in (("lwe-shamir", "open"), ("lwe-ckks", "members")):
        with pytest.raises(Refused, match="joined it as lwe-shamir, release members") as caught:
            record.pin(STUDY, *what, scheme, release)
        assert caught.value.code == "study-changed"


# --- policy


def test_both_releases_are_allowed_unless_the_policy_says_otherwise() -> None:
    for release in ("open", "members"):
        Policy().check_release(release)
    with pytest.raises(Refused, match=r"`releases` in policy\.toml"):
        Policy(releases=["members"]).check_release("open")


# --- the store


def test_models_of_members_are_kept_by_study_and_used_ones_stay(tmp_path: Path) -> None:
    store, nobody = ModelStore(tmp_path / "models"), SimpleNamespace()
    datas = [bytes([number]) * 10 for number in range(6)]
    base = sha256(datas[0])
    assert store.keep(STUDY, base, datas[0]) == tmp_path / "models" / str(STUDY) / f"{base}.safetensors"
    for number, data in enumerate(datas[1:]):
        assert store.fetch(nobody, base).read_bytes() == datas[0], "found without asking the coordinator"
        file = store.keep(STUDY, sha256(data), data)
        _age(file, 100 + number)
        _age(store.fetch(nobody, base), 200 + number)
    store.keep(OTHER, sha256(b"other"), b"other")
    assert [store.holds(sha256(data)) for data in datas] == [True, False, False, True, True, True]
    assert store.holds(sha256(b"other"))
    assert not store.holds(MODEL)


def _age(file: Path, moment: int) -> None:
    os.utime(file, (moment, moment))


# --- agreement


def test_more_than_half_have_to_sign_for_the_model() -> None:
    same = [outcome(site) for site in SITES[:3]]
    assert agreeing_members([*same, outcome(SITES[3], model="22" * 32)], MODEL, 3) == set(SITES[:3])
    for few in (same[:2], [same[0]] * 3, [same[0], same[1], outcome(SITES[2], samples=6)], []):
        with pytest.raises(Refused, match="of at least 3 members signed for it"):
            agreeing_members(few, MODEL, 3)


# --- whose turn it is to pass a model on


def test_one_holder_seals_at_once_and_the_others_one_after_another() -> None:
    clock = SimpleNamespace(now=1000.0)
    wanted = SITES[3]
    members = [
        Member(site=site, name=f"site-{n}", index=n + 1, signing_key=f"{n:064x}", hpke_key=f"{n:08x}")
        for n, site in enumerate(SITES)
    ]
    approved, task = Roster(study=STUDY, members=tuple(members)), SimpleNamespace(model_wanted=(wanted,))
    desks = [
        SimpleNamespace(study=SimpleNamespace(release="open"), site=SimpleNamespace(me=me, clock=lambda: clock.now))
        for me in SITES[:3]
    ]
    holders = [SealedModels(desk) for desk in desks]  # type: ignore[arg-type]

    def turns() -> int:
        return sum(holder._is_my_turn(task, MODEL, wanted, approved) for holder in holders)  # type: ignore[arg-type]

    assert turns() == 1
    for number in (2, 3):
        clock.now += TURN_SECONDS
        assert turns() == number
