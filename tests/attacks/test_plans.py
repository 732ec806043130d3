"""Attack (m), and plans that would protect less than a site agreed to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from crypto.errors import Malformed
from participant.agent import StudyLoop
from participant.policy import Policy

if TYPE_CHECKING:
    from conftest import Stage


# --- (m)


def test_m_a_second_plan_for_an_attempt_already_sealed(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "planned")
    plan, roster = federation.plan, federation.roster
    federation.look()
    assert len(federation.delivered(1)) == 4
    start = federation.mark()
    federation.offer(*federation.altered(plan, roster, n_max=plan.n_max // 2))
    federation.look()
    federation.look()
    federation.assert_nothing_sealed(start)
    federation.assert_refused("plan-differs", "another plan was accepted for round 1, attempt 1 before", since=start)


def test_m_the_same_plan_again_brings_the_same_bytes(stage: Stage, scheme: str) -> None:
    """A coordinator that claims to have lost a contribution gets it again, and no second one under fresh secrets."""
    federation = stage(scheme, "planned")
    federation.look()
    first = federation.delivered(1)
    federation.offer(federation.plan)
    federation.hostile.answer(r"GET .*/rounds/1/1/parts$", {"parts": {}, "key_parts": {}, "manifest": False})
    for seat in federation.seats:
        StudyLoop(seat.loop.desk, inline=True).look()  # as after a restart: what was delivered is not in its memory
    again = federation.delivered(1)[4:]
    assert len(again) == 4
    assert again == first


# --- less protection than agreed

FEW = ({"minimum_contributors": 2}, "minimum-too-low", "policy.toml demands `minimum_contributors` = 3")
WEAKER = [
    pytest.param("lwe-ckks", *FEW, id="minimum-ckks"),
    pytest.param("lwe-shamir", *FEW, id="minimum-shamir"),
    pytest.param("lwe-shamir", {"threshold": 2}, "malformed", "3 to 4 of them open; .* says 2", id="two-open"),
    pytest.param("lwe-shamir", {"threshold": 1}, "malformed", "3 to 4 of them open; .* says 1", id="one-opens"),
]


@pytest.mark.parametrize(("name", "changes", "code", "words"), WEAKER)
def test_weaker_numbers_in_a_plan(stage: Stage, name: str, changes: dict[str, Any], code: str, words: str) -> None:
    federation = stage(name, "planned")
    start = federation.mark()
    federation.offer(*federation.altered(federation.plan, **changes))
    federation.look()
    federation.assert_nothing_sealed(start)
    federation.assert_refused(code, words, since=start)


def test_weaker_scheme_in_a_plan(stage: Stage) -> None:
    """Another study may be under `ckks` here, but this one was not joined so: there an opener cannot check the sum."""
    anything = Policy(peers="auto", schemes=["lwe-ckks", "lwe-shamir", "ckks"])
    federation = stage("lwe-ckks", "planned", policy=anything)
    start = federation.mark()
    federation.offer(*federation.altered(federation.plan, scheme="ckks"))
    federation.look()
    federation.assert_nothing_sealed(start)
    federation.assert_refused("terms-changed", "the plan is for ckks, .*; this site joined for lwe-ckks", since=start)


def test_weaker_room_than_a_plan_needs(stage: Stage, scheme: str) -> None:
    """K_max sets the lanes' room: a sum of more than that would wrap around. Such a plan is not even read."""
    federation = stage(scheme, "planned")
    start = federation.mark()
    plan = federation.plan.to_json() | {"k_max": 3}
    federation.hostile.change(r"GET .*/task$", lambda task: task | {"plan": plan})
    for seat in federation.seats:
        with pytest.raises(Malformed, match="k_max admits fewer sites than the plan expects"):
            seat.loop.look()
    federation.assert_nothing_sealed(start)
