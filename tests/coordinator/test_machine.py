"""The state machine and the planning, as tables of situations and answers."""

from __future__ import annotations

import dataclasses
from uuid import UUID

import pytest

from coordinator.rounds.planning import (
    Candidate,
    KeyEpoch,
    LastAttempt,
    NotYet,
    Settings,
    StudyView,
    mutually_approved,
    plan_round,
)
from coordinator.rounds.states import Aggregating, Asked, Collecting, Complete, Failed, Opening, View
from coordinator.rounds.steps import (
    Aggregate,
    AskOpener,
    Close,
    Fail,
    Reveal,
    ShowBallot,
    Sweep,
    Wait,
    next_step,
)
from crypto.plan import Member, Plan, Roster

START = 1000.0
COLLECT, VOTE, OPEN = 100, 50, 90
SITES = [UUID(int=number) for number in range(1, 6)]
A, B, C, D, E = SITES
ALL, DIGEST = frozenset(SITES), "ab" * 32


def member(number: int) -> Member:
    return Member(
        site=UUID(int=number),
        name=f"hospital-{number}",
        index=number,
        signing_key=f"{number:064x}",
        hpke_key=f"{number:08x}",
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
    release="open",
    weighting="samples",
    expected=tuple(SITES),
    k_max=64,
    n_max=100,
    bounds=(1.0,),
    threshold=None,
    minimum_contributors=3,
    collect_until=int(START) + COLLECT,
    vote_seconds=VOTE,
    open_seconds=OPEN,
)


def view(state, *, stopped: bool = False, plan: Plan = PLAN) -> View:
    return View(UUID(int=7), plan, ROSTER, stopped, state)


def opening(**changes) -> Opening:
    base = Opening(contributors=(A, B, C), shown=START, voted=frozenset({A, B, C}))
    return dataclasses.replace(base, **changes)


LATE = START + COLLECT

COLLECTING = [
    pytest.param(frozenset(), START, Wait(LATE), id="nobody yet"),
    pytest.param(ALL - {E}, LATE - 1, Wait(LATE), id="one missing, time left"),
    pytest.param(ALL, START, Close((A, B, C, D, E)), id="all are in"),
    pytest.param(frozenset({C, A, B}), LATE, Close((A, B, C)), id="enough at the deadline"),
    pytest.param(
        frozenset({A, C}),
        LATE,
        Fail(
            "2 of at least 3 contributions by the deadline; missing: "
            "hospital-2 (no such peer approved), hospital-4, hospital-5"
        ),
        id="too few at the deadline",
    ),
    pytest.param(frozenset({A, B, UUID(int=77)}), LATE, "2 of at least 3", id="a stranger does not count"),
]


@pytest.mark.parametrize(("arrived", "now", "expected"), COLLECTING)
def test_collecting(arrived, now, expected) -> None:
    step = next_step(view(Collecting(arrived, {B: "no such peer approved"})), now)
    if isinstance(expected, str):
        assert isinstance(step, Fail)
        assert expected in step.reason
    else:
        assert step == expected


def test_only_expected_sites_are_waited_for() -> None:
    plan = PLAN.model_copy(update={"expected": (A, B, C)})
    assert next_step(view(Collecting(frozenset({A, B, C})), plan=plan), START) == Close((A, B, C))


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (Aggregating((A, B, C), added=False), Aggregate()),
        (Aggregating((A, B, C), added=True), ShowBallot()),
        (Complete(DIGEST, swept=False), Sweep()),
        (Complete(DIGEST, swept=True), Wait(None)),
        (Failed("too few", swept=False), Sweep()),
        (Failed("too few", swept=True), Wait(None)),
    ],
)
def test_the_other_states(state, expected) -> None:
    assert next_step(view(state), START) == expected


@pytest.mark.parametrize("state", [Collecting(ALL), Aggregating((A, B, C), added=True), opening(answered={A})])
def test_stopping_the_study_fails_whatever_is_under_way(state) -> None:
    assert next_step(view(state, stopped=True), START) == Fail("the study was stopped")


def test_stopping_leaves_an_ended_attempt_alone() -> None:
    assert next_step(view(Complete(DIGEST, swept=True), stopped=True), START) == Wait(None)


def first_asked() -> UUID:
    step = next_step(view(opening()), START)
    assert isinstance(step, AskOpener)
    return step.site


FIRST = first_asked()
SECOND, THIRD = [site for site in (A, B, C) if site != FIRST]
ASKED = (Asked(FIRST, START),)
THIRD_OF_OPEN = OPEN / 3


def test_votes_are_waited_for_and_missing_ones_named() -> None:
    few = opening(voted=frozenset({A, B}), refused={D: "unknown contributor"})
    assert next_step(view(few), START + VOTE - 1) == Wait(START + VOTE)
    assert next_step(view(few), START + VOTE) == Fail(
        "2 of at least 3 votes for the ballot; missing: hospital-3, hospital-4 (unknown contributor), hospital-5"
    )


def test_votes_that_cannot_become_enough_are_not_waited_for() -> None:
    refused = opening(voted=frozenset({A}), refused=dict.fromkeys((C, D, E), "no"))
    assert isinstance(next_step(view(refused), START), Fail)


def test_an_answer_does_not_count_before_the_votes() -> None:
    early = opening(voted=frozenset({A, B}), answered=frozenset({A}))
    assert next_step(view(early), START) == Wait(START + VOTE)


def test_votes_of_strangers_do_not_count() -> None:
    strangers = frozenset({A, B, UUID(int=70), UUID(int=71)})
    assert next_step(view(opening(voted=strangers)), START) == Wait(START + VOTE)


def test_the_first_opener_changes_with_the_plan() -> None:
    chosen = {
        next_step(view(opening(), plan=PLAN.model_copy(update={"round": number})), START) for number in range(1, 40)
    }
    assert chosen == {AskOpener(A), AskOpener(B), AskOpener(C)}


def test_one_opener_has_a_third_of_the_time() -> None:
    asked = opening(asked=ASKED)
    assert next_step(view(asked), START + 1) == Wait(START + THIRD_OF_OPEN)
    assert next_step(view(asked), START + THIRD_OF_OPEN) in (AskOpener(SECOND), AskOpener(THIRD))


@pytest.mark.parametrize("no", [{"refused": {FIRST: "policy"}}, {"rejected": {FIRST: "3 canaries"}}])
def test_after_a_no_or_a_canary_another_is_asked_at_once(no) -> None:
    assert next_step(view(opening(asked=ASKED, **no)), START + 1) in (AskOpener(SECOND), AskOpener(THIRD))


def test_the_answer_of_the_one_asked_is_taken_first() -> None:
    asked = opening(asked=ASKED, answered=frozenset({SECOND, FIRST}))
    assert next_step(view(asked), START) == Reveal((FIRST,))
    assert next_step(view(opening(asked=ASKED, answered=frozenset({SECOND}))), START) == Reveal((SECOND,))


def test_an_answer_counts_even_late() -> None:
    late = opening(asked=ASKED, answered=frozenset({FIRST}))
    assert next_step(view(late), START + 10 * OPEN) == Reveal((FIRST,))


def test_nobody_answers() -> None:
    asked = opening(asked=(*ASKED, Asked(SECOND, START + 30), Asked(THIRD, START + 60)))
    assert next_step(view(asked), START + OPEN - 1) == Wait(START + OPEN)
    step = next_step(view(asked), START + OPEN)
    assert isinstance(step, Fail)
    assert step.reason.startswith("nobody opened the sum; asked: hospital-")


def test_a_rejected_opening_waits_for_members_that_may_still_vote() -> None:
    out = dict.fromkeys((A, B, C), "3 of 64 canaries did not open to zero")
    asked = opening(asked=tuple(Asked(site, START) for site in (A, B, C)), rejected=out)
    assert next_step(view(asked), START) == Wait(START + OPEN)
    everyone = dict.fromkeys(SITES, "3 of 64 canaries did not open to zero")
    all_asked = opening(voted=ALL, asked=tuple(Asked(site, START) for site in SITES), rejected=everyone)
    step = next_step(view(all_asked), START)
    assert isinstance(step, Fail)
    assert "hospital-1 (3 of 64 canaries did not open to zero)" in step.reason


def test_all_voters_refuse_to_open() -> None:
    refused = opening(voted=ALL, refused=dict.fromkeys(SITES, "asleep"))
    assert isinstance(next_step(view(refused), START), Fail)


# --- planning

SETTINGS = Settings(
    scheme="lwe-ckks",
    release="open",
    weighting="samples",
    minimum_contributors=3,
    expected_sites=None,
    rounds=2,
    collect_seconds=COLLECT,
    vote_seconds=VOTE,
    open_seconds=OPEN,
    k_max=16,
    n_max=100,
    fraction=1.0,
    layout=DIGEST,
    recipe=DIGEST,
)


def fingerprint(site: UUID) -> str:
    return f"{site.int:064x}"


def candidate(number: int, approved=SITES, joined: float | None = None, last_seen: float = START) -> Candidate:
    peers = {site: fingerprint(site) for site in approved}
    return Candidate(member(number), fingerprint(UUID(int=number)), joined or float(number), last_seen, peers)


def study(**changes) -> StudyView:
    base = StudyView(
        id=ROSTER.study,
        settings=SETTINGS,
        completed=0,
        model=DIGEST,
        bounds=(1.0, 64.0),
        last=None,
        candidates=tuple(candidate(number) for number in range(1, 6)),
        epoch=KeyEpoch(DIGEST, ALL),
    )
    return dataclasses.replace(base, **changes)


def planned(view: StudyView) -> tuple[Plan, Roster]:
    result = plan_round(view, START + 0.5, 120)
    assert not isinstance(result, NotYet), result.reason
    return result


def refused(view: StudyView) -> str:
    result = plan_round(view, START + 0.5, 120)
    assert isinstance(result, NotYet)
    return result.reason


def test_a_plan_says_what_the_study_says() -> None:
    plan, roster = planned(study())
    assert (plan.round, plan.attempt, plan.kind) == (1, 1, "training")
    assert plan.expected == tuple(SITES)
    assert plan.roster == roster.digest
    assert (plan.epoch, plan.threshold) == (DIGEST, None)
    assert plan.bounds == (1.0, 64.0)
    assert plan.collect_until == START + 1 + COLLECT


@pytest.mark.parametrize(
    ("last", "completed", "expected"),
    [
        (LastAttempt(1, 1, over=False), 0, (1, 2, "training")),
        (LastAttempt(1, 4, over=True), 0, (2, 1, "training")),
        (LastAttempt(1, 2, over=True), 1, (2, 1, "training")),
        (LastAttempt(2, 1, over=True), 2, (3, 1, "evaluation")),
        (LastAttempt(3, 1, over=False), 2, (3, 2, "evaluation")),
    ],
)
def test_numbers_follow_the_last_attempt(last, completed, expected) -> None:
    plan, _ = planned(study(last=last, completed=completed))
    assert (plan.round, plan.attempt, plan.kind) == expected


def test_silent_sites_are_left_out() -> None:
    candidates = (*(candidate(number) for number in range(1, 5)), candidate(5, last_seen=START - 121))
    _, roster = planned(study(candidates=candidates))
    assert [member.site for member in roster.members] == [A, B, C, D]


def test_sites_without_the_key_are_left_out() -> None:
    _, roster = planned(study(epoch=KeyEpoch(DIGEST, ALL - {B})))
    assert [member.site for member in roster.members] == [A, C, D, E]


def test_a_holder_that_left_means_a_new_epoch() -> None:
    candidates = tuple(candidate(number) for number in range(1, 5))
    assert "new key epoch" in refused(study(candidates=candidates))


def test_no_plan_without_a_key() -> None:
    assert refused(study(epoch=None)) == "no site has dealt a key yet"


def test_approval_is_mutual_and_a_newcomer_displaces_nobody() -> None:
    newcomer_unapproved = [candidate(1, [A, B, C]), candidate(2, [A, B, C]), candidate(3, [A, B, C]), candidate(4)]
    assert [each.member.index for each in mutually_approved(newcomer_unapproved)] == [1, 2, 3]
    late_first = [candidate(1, [A], joined=9.0), candidate(2, [B, C]), candidate(3, [B, C])]
    assert [each.member.index for each in mutually_approved(late_first)] == [2, 3]


def test_another_fingerprint_is_no_approval() -> None:
    other = dataclasses.replace(candidate(1), fingerprint="00" * 32)
    assert [each.member.index for each in mutually_approved([other, candidate(2)])] == [1]


def test_too_few_ready_sites_are_counted_in_words() -> None:
    candidates = (candidate(1), candidate(2), candidate(3, last_seen=0), candidate(4, [A]), candidate(5, last_seen=0))
    assert refused(study(candidates=candidates)) == (
        "2 of at least 3 sites are ready: 5 joined, 3 of them were heard of lately, 3 of those hold the key, "
        "2 of those approved each other"
    )


def test_the_first_round_waits_for_the_expected_number_of_sites_and_later_ones_do_not() -> None:
    settings = dataclasses.replace(SETTINGS, expected_sites=5)
    candidates = (*(candidate(number) for number in range(1, 5)), candidate(5, last_seen=0))
    assert refused(study(settings=settings, candidates=candidates)).startswith("4 of at least 5")
    planned(study(settings=settings, candidates=candidates, completed=1, last=LastAttempt(1, 1, over=True)))


def test_a_fraction_is_drawn_again_for_each_attempt_and_all_vote() -> None:
    settings = dataclasses.replace(SETTINGS, fraction=0.6)
    drawn = set()
    for attempt in range(1, 30):
        plan, roster = planned(study(settings=settings, last=LastAttempt(1, attempt, over=False)))
        assert len(plan.expected) == 3
        assert len(roster.members) == 5
        drawn.add(plan.expected)
    assert len(drawn) > 5


def test_a_fraction_never_draws_fewer_than_the_minimum() -> None:
    for fraction, number in ((0.1, 3), (0.61, 4), (1.0, 5)):
        plan, _ = planned(study(settings=dataclasses.replace(SETTINGS, fraction=fraction, minimum_contributors=3)))
        assert len(plan.expected) == number


def test_no_more_sites_than_k_max() -> None:
    settings = dataclasses.replace(SETTINGS, k_max=4)
    plan, roster = planned(study(settings=settings))
    assert len(roster.members) == len(plan.expected) == 4


def test_shamir_names_a_threshold_and_no_epoch() -> None:
    plan, _ = planned(study(settings=dataclasses.replace(SETTINGS, scheme="lwe-shamir"), epoch=None))
    assert (plan.threshold, plan.epoch) == (4, None)
