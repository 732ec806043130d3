"""Whom a plan carries of the sites that left and still count, and who opens such a sum."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from coordinator.rounds.carrying import Leaver, lasting
from coordinator.rounds.carrying import select as select_carried
from coordinator.rounds.planning import Candidate, KeyEpoch, NotYet, Settings, StudyView, plan_round
from coordinator.rounds.states import Asked, Opening, View
from coordinator.rounds.steps import AskOpener, Fail, Wait, next_step
from crypto.plan import Carried, Member, Plan, Roster

DIGEST = "ab" * 32
START = 1000.0
SITES = [UUID(int=number) for number in range(1, 6)]
ALL = frozenset(SITES)


def member(number: int) -> Member:
    return Member(
        site=UUID(int=number),
        name=f"hospital-{number}",
        index=number,
        signing_key=f"{number:064x}",
        hpke_key=f"{number:016x}",
    )


ROSTER = Roster(study=UUID(int=9), members=tuple(map(member, range(1, 4))))


def leaver(number: int, exposure: float = 0.5, holders: frozenset[UUID] = ALL, barred: str | None = None) -> Leaver:
    carried = Carried(manifest=f"{number:064x}", member=member(number), epoch=f"{number % 2:064x}")
    return Leaver(carried, fingerprint(number), exposure, holders, barred)


def fingerprint(number: int) -> str:
    return f"{number + 100:064x}"


# --- which of them


def test_those_who_may_are_carried_in_order_of_their_ids() -> None:
    selection = select_carried([leaver(5), leaver(4)], ROSTER, room=4, minimum=3, ever=5)
    assert [carried.member.site for carried in selection.carried] == [UUID(int=4), UUID(int=5)]
    assert selection.dropped == {}


@pytest.mark.parametrize(
    ("given", "room", "words"),
    [
        (leaver(4, barred="its site was suspended"), 4, "its site was suspended"),
        (leaver(4, exposure=3.75), 4, "an exposure of 3.75; with one more, beside 3 fresh contributions"),
        (leaver(4, holders=frozenset({UUID(int=5)})), 4, "no member that is here holds the key"),
        (leaver(4), 0, "k_max has no room"),
    ],
)
def test_the_others_are_dropped_in_words(given: Leaver, room: int, words: str) -> None:
    selection = select_carried([given], ROSTER, room, minimum=3, ever=5)
    assert selection.carried == ()
    assert words in selection.dropped[UUID(int=4)]


@pytest.mark.parametrize(("ever", "carried"), [(5, 2), (7, 2), (8, 0), (30, 0)])
def test_none_is_carried_where_half_of_all_are_gone(ever: int, carried: int) -> None:
    """Three are here, two would be carried: of eight that ever were members six count, and three are no majority."""
    selection = select_carried([leaver(4), leaver(5)], ROSTER, room=4, minimum=3, ever=ever)
    assert len(selection.carried) == carried
    assert len(selection.dropped) == 2 - carried
    assert all("half or fewer" in words for words in selection.dropped.values())


def test_some_member_has_to_hold_all_the_keys_at_once() -> None:
    one, other = leaver(4, holders=frozenset(SITES[:2])), leaver(5, holders=frozenset(SITES[1:3]))
    assert len(select_carried([one, other], ROSTER, 4, 3, 5).carried) == 2
    other = leaver(5, holders=frozenset(SITES[2:3]))
    selection = select_carried([one, other], ROSTER, 4, 3, 5)
    assert [carried.member.site for carried in selection.carried] == [UUID(int=4)]
    assert "no member that is here holds the key" in selection.dropped[UUID(int=5)]


def test_room_is_for_as_many_as_there_is() -> None:
    assert len(select_carried([leaver(4), leaver(5)], ROSTER, 1, 3, 5).carried) == 1


def test_those_who_last_are_neither_barred_nor_worn_out() -> None:
    everyone = [leaver(1), leaver(2, barred="x"), leaver(3, exposure=3.7), leaver(4, exposure=3.6)]
    assert [each.member.index for each in lasting(everyone, 3)] == [1, 4]


# --- plans


SETTINGS = Settings(
    scheme="lwe-ckks", release="open", weighting="samples", minimum_contributors=3, expected_sites=None, rounds=4,
    collect_seconds=60, vote_seconds=60, open_seconds=60, k_max=16, n_max=100, fraction=1.0, layout=DIGEST,
    recipe=DIGEST, origin="ef" * 32,
)  # fmt: skip


def candidate(number: int, knows: tuple[int, ...] = (4,)) -> Candidate:
    approved = {UUID(int=other): fingerprint(other) for other in (1, 2, 3, *knows)}
    return Candidate(member(number), fingerprint(number), float(number), START, approved)


def view(*candidates: Candidate, completed: int = 1, leavers: tuple[Leaver, ...] = (leaver(4),)) -> StudyView:
    return StudyView(
        id=ROSTER.study, settings=SETTINGS, completed=completed, model=DIGEST, bounds=(4.0, 64.0), last=None,
        candidates=candidates, epoch=KeyEpoch(DIGEST, frozenset(SITES[:3])), leavers=leavers,
    )  # fmt: skip


def planned(given: StudyView) -> Plan:
    result = plan_round(given, START, 120)
    assert not isinstance(result, NotYet), result.reason
    return result[0]


def test_a_plan_carries_on_the_terms_of_the_first() -> None:
    plan = planned(view(*map(candidate, (1, 2, 3))))
    assert (plan.carried, plan.origin, plan.k_max) == ((leaver(4).carried,), "ef" * 32, 16)
    assert len(plan.expected) == 3


def test_an_evaluation_carries_nothing() -> None:
    plan = planned(view(*map(candidate, (1, 2, 3)), completed=4))
    assert (plan.kind, plan.carried, plan.origin) == ("evaluation", (), "ef" * 32)


def test_who_has_not_approved_the_leaver_waits() -> None:
    result = plan_round(view(candidate(1), candidate(2), candidate(3, knows=())), START, 120)
    assert isinstance(result, NotYet)
    assert result.reason.endswith("2 of those approved each other, and the 1 that left and still count")
    barred = (leaver(4, barred="its site was suspended"),)
    assert planned(view(candidate(1), candidate(2), candidate(3, knows=()), leavers=barred)).carried == ()


# --- openers


PLAN = planned(view(*map(candidate, (1, 2, 3))))
A, B, C = SITES[:3]


def step_of(now: float = START, **changes: Any) -> Any:
    state = Opening(
        contributors=(A, B, C), shown=START, able=frozenset({B}), **({"voted": frozenset({A, B, C})} | changes)
    )
    return next_step(View(UUID(int=7), PLAN, ROSTER, False, state), now)


def test_only_who_holds_all_keys_is_asked() -> None:
    assert step_of() == AskOpener(B)
    refused = step_of(asked=(Asked(B, START),), refused={B: "asleep"})
    assert isinstance(refused, Fail)
    assert refused.reason == "nobody opened the sum; asked: hospital-2 (asleep)"


def test_who_holds_all_keys_may_vote_last() -> None:
    assert step_of(voted=frozenset({A, C})) == Wait(START + PLAN.vote_seconds)
    assert isinstance(step_of(START + 60, voted=frozenset({A, C})), Fail)
