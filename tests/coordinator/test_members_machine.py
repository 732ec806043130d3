"""When a round is adopted whose sum the members open themselves: situations and answers."""

from __future__ import annotations

import dataclasses
from uuid import UUID

import pytest

from coordinator.rounds.states import Derived, Opening, View
from coordinator.rounds.steps import Adopt, Fail, Wait, next_step
from crypto.plan import Member, Plan, Roster

START, VOTE, OPEN = 1000.0, 50, 90
DEADLINE = START + VOTE + OPEN
SITES = [UUID(int=number) for number in range(1, 6)]
A, B, C, D, E = SITES
ALL, DIGEST, OURS, THEIRS = frozenset(SITES), "ab" * 32, "11" * 32, "22" * 32


def member(number: int) -> Member:
    key = f"{number:08x}"
    return Member(
        site=UUID(int=number), name=f"hospital-{number}", index=number, signing_key=f"{number:064x}", hpke_key=key
    )


ROSTER = Roster(study=UUID(int=99), members=tuple(member(number) for number in range(1, 6)))
PLAN = Plan(
    study=ROSTER.study,
    round=1,
    attempt=1,
    kind="training",
    base_model=DIGEST,
    layout=DIGEST,
    recipe=DIGEST,
    roster=ROSTER.digest,
    epoch=DIGEST,
    scheme="lwe-ckks",
    release="members",
    weighting="samples",
    expected=tuple(SITES),
    k_max=64,
    n_max=100,
    bounds=(1.0,),
    threshold=None,
    minimum_contributors=3,
    collect_until=900,
    vote_seconds=VOTE,
    open_seconds=OPEN,
)
SHAMIR = PLAN.model_copy(update={"scheme": "lwe-shamir", "epoch": None, "threshold": 4})
OPENED = Opening(contributors=(A, B, C), shown=START, voted=frozenset({A, B, C}))


def derived(*sites: UUID, content: str = OURS, at: float = START + 4) -> tuple[Derived, ...]:
    return tuple(Derived(site, content, at) for site in sites)


def step(now: float = START + 5, plan: Plan = PLAN, stopped: bool = False, **state):
    return next_step(View(UUID(int=7), plan, ROSTER, stopped, dataclasses.replace(OPENED, **state)), now)


def failure(*arguments, **state) -> str:
    found = step(*arguments, **state)
    assert isinstance(found, Fail)
    return found.reason


def test_votes_come_first_as_always() -> None:
    early = {"voted": frozenset({A, B}), "derived": derived(A, B, C, D, E)}
    assert step(**early) == Wait(START + VOTE)
    assert failure(START + VOTE, **early).startswith("2 of at least 3 votes")


def test_no_opener_is_asked_and_no_answer_is_taken() -> None:
    assert step() == Wait(DEADLINE)
    assert step(answered=ALL) == Wait(DEADLINE)


def test_more_than_half_and_the_minimum_have_to_agree() -> None:
    assert step(START + 8, derived=derived(A, B)) == Wait(DEADLINE)
    assert step(START + 8, derived=derived(A, B, C)) == Adopt(OURS)
    demanding = PLAN.model_copy(update={"minimum_contributors": 4})
    assert step(START + 8, demanding, derived=derived(A, B, C)) == Wait(DEADLINE)
    assert step(START + 8, demanding, derived=derived(A, B, C, D)) == Adopt(OURS)


def test_the_slower_ones_have_as_long_again_as_the_others_needed() -> None:
    assert step(START + 5, derived=derived(A, B, C)) == Wait(START + 8)
    assert step(START + 5, derived=derived(*SITES)) == Adopt(OURS), "nobody to wait for"
    refused = {"refused": {D: "no", E: "no"}}
    assert step(START + 5, derived=derived(A, B, C), **refused) == Adopt(OURS)
    late = derived(A, B, C, at=START + 100)
    assert step(START + 101, derived=late) == Wait(DEADLINE), "but not beyond the deadline"
    assert step(DEADLINE, derived=late) == Adopt(OURS)


def test_what_came_in_before_the_deadline_counts_after_it() -> None:
    assert step(DEADLINE + 1000, derived=derived(A, B, C)) == Adopt(OURS)


def test_strangers_do_not_count() -> None:
    strangers = derived(UUID(int=70), UUID(int=71), UUID(int=72))
    assert step(derived=strangers) == Wait(DEADLINE)
    assert step(START + 8, derived=derived(A, B) + strangers) == Wait(DEADLINE)


def test_the_larger_part_decides() -> None:
    split = derived(A, content=THEIRS) + derived(B, C, D)
    assert step(START + 8, derived=split) == Adopt(OURS)
    assert step(START + 8, derived=derived(D, E, content=THEIRS) + derived(A, B)) == Wait(DEADLINE), "one is missing"


def test_no_agreement_can_be_reached_any_more() -> None:
    split = derived(A, B) + derived(C, D, content=THEIRS)
    assert failure(derived=split, refused={E: "canaries"}) == (
        "2 of at least 3 members derived the same model; another: hospital-3, hospital-4; "
        "missing: hospital-5 (canaries)"
    )


def test_too_few_outcomes_by_the_deadline_name_who_is_missing() -> None:
    assert step(DEADLINE - 1, derived=derived(A, B)) == Wait(DEADLINE)
    assert failure(DEADLINE, derived=derived(A, B)) == (
        "2 of at least 3 members derived the same model; missing: hospital-3, hospital-4, hospital-5"
    )


def test_stopping_the_study_fails_it() -> None:
    assert step(stopped=True, derived=derived(*SITES)) == Fail("the study was stopped")


# --- lwe-shamir: the sealed answers are the votes


def test_shares_are_never_combined_here() -> None:
    assert step(plan=SHAMIR, voted=frozenset(), answered=ALL) == Wait(DEADLINE)
    assert step(START + 8, SHAMIR, voted=frozenset(), answered=ALL, derived=derived(A, B, C)) == Adopt(OURS)


def test_too_many_refusals_leave_too_few_answers() -> None:
    refused = {"voted": frozenset(), "refused": {D: "shares do not open", E: "no"}}
    assert "0 of at least 4 answers were sealed" in failure(plan=SHAMIR, **refused)
    assert step(plan=SHAMIR, answered=frozenset({D}), **refused) == Wait(DEADLINE), (
        "its answer was in before it refused"
    )


@pytest.mark.parametrize("plan", [PLAN, SHAMIR])
def test_everybody_refused(plan: Plan) -> None:
    assert "missing: hospital-1 (no), " in failure(plan=plan, refused=dict.fromkeys(SITES, "no"))
