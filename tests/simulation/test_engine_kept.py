"""What is remembered so that a thousand sites do not parse the same roster a thousand times: never more than it may."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from coordinator.store.database import Store
from coordinator.store.kept import Kept
from crypto.checks import check_ballot
from crypto.errors import InvalidSignature
from crypto.identity import Identity
from crypto.manifest import Ballot, Manifest
from crypto.plan import Member, Plan, Roster

STUDY = UUID(int=9)


def test_the_value_asked_for_longest_ago_goes_first() -> None:
    kept, made = Kept[str](2), []

    def get(name: str) -> str:
        def make() -> str:
            made.append(name)
            return name.upper()

        return kept.get(name, make)

    assert [get(name) for name in "abacb"] == ["A", "B", "A", "C", "B"]
    assert made == ["a", "b", "c", "b"], "b was asked for longer ago than a when c came"


def test_long_json_of_a_column_is_parsed_once(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'some.db'}")
    long, short = json.dumps(["x" * 100] * 100), json.dumps(["x"])

    def read(value: str) -> Any:
        deserialise = store.engine.dialect._json_deserializer
        found = store.read("text", lambda session: session.execute(text("SELECT :v"), {"v": value}).scalar_one())
        return deserialise(found)

    assert read(long) is read(long)
    assert read(short) == read(short)
    assert read(short) is not read(short)
    store.close()


def ballot_of_three() -> tuple[Plan, Roster, Ballot]:
    identities = [Identity.generate() for _ in range(3)]
    members = tuple(
        Member(
            site=UUID(int=number),
            name=f"site-{number}",
            index=number,
            signing_key=identity.public.signing_key.hex(),
            hpke_key=identity.public.hpke_key.hex(),
        )
        for number, identity in enumerate(identities, 1)
    )
    roster = Roster(study=STUDY, members=members)
    plan = Plan(
        study=STUDY, round=1, attempt=1, kind="training", base_model="0" * 64, layout="1" * 64, recipe="2" * 64,
        roster=roster.digest, epoch="3" * 64, scheme="lwe-ckks", release="open", weighting="equal",
        expected=tuple(member.site for member in members), k_max=3, n_max=10, bounds=(1.0,), threshold=None,
        minimum_contributors=2, collect_until=1, vote_seconds=1, open_seconds=1,
    )  # fmt: skip
    manifests = tuple(
        identity.sign(Manifest(plan=plan.digest, site=member.site, parts=("4" * 64,), key_parts=("5" * 64,)))
        for identity, member in zip(identities, members, strict=True)
    )
    return plan, roster, Ballot(plan=plan.digest, manifests=manifests)


def test_a_ballot_that_passed_does_not_vouch_for_another_signature() -> None:
    plan, roster, ballot = ballot_of_three()
    me = UUID(int=77)
    for _ in range(2):
        assert check_ballot(ballot, plan, roster, me, None, 2).contributors == plan.expected
    first, *others = ballot.manifests
    forged = first.model_copy(update={"signature": others[0].signature})
    for _ in range(2):
        with pytest.raises(InvalidSignature):
            check_ballot(ballot.model_copy(update={"manifests": (forged, *others)}), plan, roster, me, None, 2)
