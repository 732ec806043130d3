"""Plans say what they always said, and what is new in them only where it says something."""

from __future__ import annotations

import uuid

import pytest

from crypto.canonical import sha256
from crypto.errors import Malformed
from crypto.plan import Carried, Plan

LATER = {"rate": 1, "reference_loss": None, "carried": [], "origin": None}
DIGEST = "ab" * 32


@pytest.fixture
def carried(federation) -> list[dict]:
    """Of two sites that left: they are on no roster any more."""
    leavers = [
        member.model_copy(update={"site": uuid.UUID(int=50 + number), "name": f"left-{number}"})
        for number, member in enumerate(federation.roster.members[:2])
    ]
    return [Carried(manifest=DIGEST, member=leaver, epoch=DIGEST).to_json() for leaver in leavers]


def test_an_older_plan_keeps_its_digest(federation) -> None:
    fields = federation.plan.to_json()
    assert not fields.keys() & LATER.keys()
    assert Plan.from_json(fields).digest == federation.plan.digest == sha256(federation.plan.encode())
    signed = federation.identities[federation.sites[0]].sign(federation.plan)
    assert signed.to_json()["message"] == fields, "within another message too"


@pytest.mark.parametrize("name", list(LATER))
def test_what_says_nothing_is_left_out_and_refused_when_spelled_out(federation, name) -> None:
    with pytest.raises(Malformed, match="spelled another way"):
        Plan.from_json(federation.plan.to_json() | {name: LATER[name]})


def test_what_is_new_survives_the_wire_and_is_in_the_digest(federation, carried) -> None:
    said = {"rate": 0.25, "reference_loss": 0.693, "origin": DIGEST, "carried": carried, "k_max": 6}
    fields = federation.plan.to_json() | said
    plan = Plan.from_json(fields)
    assert plan.to_json() == fields
    assert (plan.rate, plan.reference_loss, plan.origin) == (0.25, 0.693, DIGEST)
    assert [each.member.name for each in plan.carried] == ["left-0", "left-1"]
    assert Plan.decode(plan.encode()) == plan
    changed = [Plan.from_json(fields | {name: other}) for name, other in (("rate", 0.5), ("reference_loss", 0.7))]
    assert len({plan.digest, federation.plan.digest, *(each.digest for each in changed)}) == 4


@pytest.mark.parametrize(
    "changes",
    [{"rate": 0}, {"rate": -1}, {"rate": "1"}, {"reference_loss": 0}, {"reference_loss": -0.1}, {"origin": "ab"},
     {"weighting": "loss"}],
    ids=str,
)  # fmt: skip
def test_what_makes_no_sense_is_refused(federation, changes) -> None:
    with pytest.raises(Malformed, match=f"plan: {next(iter(changes))}"):
        Plan.from_json(federation.plan.to_json() | changes)


def test_carried_contributions_are_in_order_once_and_within_k_max(federation, carried) -> None:
    fields = federation.plan.to_json() | {"origin": DIGEST, "k_max": 6}
    for wrong in (carried[::-1], [carried[0], carried[0]]):
        with pytest.raises(Malformed, match="sorted by site id, one a site"):
            Plan.from_json(fields | {"carried": wrong})
    with pytest.raises(Malformed, match="k_max admits fewer"):
        Plan.from_json(fields | {"carried": carried, "k_max": 5})
    del fields["origin"]
    with pytest.raises(Malformed, match="relative to one model"):
        Plan.from_json(fields | {"carried": carried})
