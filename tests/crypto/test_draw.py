"""Which members contribute follows from the roster and the attempt: a coordinator cannot pick them."""

from __future__ import annotations

import hashlib
from itertools import combinations

import pytest

from crypto import checks
from crypto.errors import Malformed
from crypto.plan import asked, draw


def test_the_draw_is_the_order_of_hashes(federation) -> None:
    roster = federation.roster
    seed = b"pleura/draw/v1\0" + roster.study.bytes + (3).to_bytes(8, "big") + (2).to_bytes(8, "big")
    order = sorted(federation.sites, key=lambda site: hashlib.sha256(seed + site.bytes).hexdigest())
    for size in range(1, 5):
        assert set(draw(roster, 3, 2, size)) == set(order[:size])


def test_all_members_are_drawn_where_all_are_asked(federation) -> None:
    assert draw(federation.roster, 1, 1, 4) == tuple(federation.sites)


def test_attempts_draw_differently(federation) -> None:
    assert len({draw(federation.roster, number, 1, 2) for number in range(1, 60)}) == 6


def test_a_plan_that_picks_is_refused(federation) -> None:
    plan, roster = federation.plan, federation.roster
    right = draw(roster, plan.round, plan.attempt, 3)
    for chosen in combinations(federation.sites, 3):
        picked = federation.with_plan(expected=[str(site) for site in chosen]).plan
        if chosen == right:
            checks.check_roster(picked, roster)
        else:
            with pytest.raises(Malformed, match="its draw"):
                checks.check_roster(picked, roster)


def test_a_fraction_is_of_the_members_and_rounded_up() -> None:
    """In floating point 0.55 x 20 is a little more than 11: no site is asked for that."""
    assert [asked(0.55, 20, 3), asked(0.4, 5, 2), asked(0.41, 5, 2), asked(0.1, 5, 3), asked(1.0, 7, 3)] == [
        11,
        2,
        3,
        3,
        7,
    ]
