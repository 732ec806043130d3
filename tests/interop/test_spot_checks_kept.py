"""What a site keeps of its spot checks, and what it does where it comes late or something is withheld from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import TypeAdapter
from spot_checked import Enrol, Played, killed, lied_to, started
from tiny_federation import Server

from coordinator.store.blobs import parts_prefix
from crypto.outcome import SpotCheck
from participant.documents import PooledCounts, read
from participant.record_results import Head
from participant.steps.desk import Desk
from participant.steps.spot_checks import Uncheckable, check_base, examine, tend_spot_checks


@pytest.fixture
def small(server: Server, enrol: Enrol, tmp_path: Path) -> Iterator[Played]:
    """An honest round of one part."""
    with ExitStack() as stack:
        played = started(server, tmp_path, enrol)
        played.play(stack)
        yield played


# --- what the next plan may start from


def test_the_next_plan_starts_from_the_model_that_was_checked(small: Played) -> None:
    """Else a coordinator would show one model to be checked, and let sites train on another."""
    desk, plan = small.desks[0], small.plan
    tend_spot_checks(desk, small.last)
    model = small.row["model"]
    assert desk.site.record.head(plan.study) == Head(1, model)

    def after(number: int, base: str) -> bool:
        return check_base(desk, plan.model_copy(update={"round": number, "base_model": base}))

    assert after(2, model)
    assert not after(2, plan.base_model)
    assert not after(1, "ab" * 32)
    assert after(3, "ab" * 32), "a round may have passed without this site"
    hospital = small.hospitals[0]
    assert {event["code"] for event in hospital.events("refusal")} == {"base-model-differs"}
    assert [event["model"] for event in hospital.events("base-not-checked")] == ["ab" * 32]
    trusting = replace(desk.site, policy=desk.site.policy.model_copy(update={"trusted_models": ["ab" * 32]}))
    assert check_base(Desk(trusting, desk.study), plan.model_copy(update={"round": 2, "base_model": "ab" * 32}))
    assert after(2, plan.base_model), "which model is right, this site knows no more"


def test_a_round_that_failed_leaves_the_model_as_it_was(small: Played) -> None:
    desk = small.desks[0]
    tend_spot_checks(desk, small.last.model_copy(update={"state": "failed"}))
    assert desk.site.record.head(small.plan.study) == Head(1, small.plan.base_model)
    assert not small.hospitals[0].events("spot-check")


def test_an_attempt_that_failed_before_its_ballot_may_be_followed_by_one_without_this_site(small: Played) -> None:
    desk, plan = small.desks[0], small.plan.model_copy(update={"round": 2})
    desk.site.record.end_check(small.plan, None)
    desk.site.record.accept(plan)
    tend_spot_checks(desk, small.last.model_copy(update={"state": "failed", "round": 2}))
    assert desk.site.record.head(plan.study) == Head(1, plan.base_model)
    assert check_base(desk, plan.model_copy(update={"round": 3, "base_model": "ab" * 32}))
    assert not check_base(desk, plan.model_copy(update={"attempt": 2, "base_model": "ab" * 32}))


def test_a_doubt_outlasts_what_is_learnt_later(small: Played) -> None:
    record, plan = small.desks[0].site.record, small.plan
    record.end_check(plan, Head(1, "ab" * 32, "part 3: not the mean"))
    record.end_check(plan, Head(2, "cd" * 32))
    record.end_check(plan, None)
    assert record.head(plan.study) == Head(1, "ab" * 32, "part 3: not the mean")


# --- late, withheld


def test_a_site_that_was_away_checks_an_older_round(small: Played) -> None:
    desk = small.desks[0]
    later = small.last.model_copy(update={"round": 2, "state": "failed"})
    tend_spot_checks(desk, later)
    assert [check["result"] for check in small.row["spot_checks"]] == ["match"]


def test_nothing_is_checked_before_the_attempt_has_ended(small: Played) -> None:
    desk = small.desks[0]
    for last in (None, small.last.model_copy(update={"round": 0})):
        tend_spot_checks(desk, last, killed)
    assert len(desk.site.record.due_checks(desk.study.id)) == 1


def test_withheld_parts_are_noted(small: Played, caplog: pytest.LogCaptureFixture) -> None:
    small.blobs.delete_prefix(parts_prefix(small.round_id))
    desk = small.desks[0]
    tend_spot_checks(desk, small.last)
    (event,) = small.hospitals[0].events("spot-check")
    assert (event["result"], "deleted already" in event["words"]) == ("not checked", True)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "its model could not be checked: part 0" in warning
    assert small.row["spot_checks"] == []
    assert desk.site.record.due_checks(desk.study.id) == []
    assert desk.site.record.head(desk.study.id) is None


def test_a_round_that_is_not_listed_is_noted(small: Played) -> None:
    desk = lied_to(small.desks[0], rounds=lambda study: [])
    tend_spot_checks(desk, small.last.model_copy(update={"round": 2}))
    assert "does not list the round" in small.hospitals[0].events("spot-check")[0]["words"]


def test_a_report_that_is_not_taken_is_noted(small: Played) -> None:
    desk = small.desks[0]
    other = {"site": desk.site.me, "ballot": small.desks[1].site.record.ballot(small.plan), "model": small.row["model"]}
    earlier = SpotCheck.model_validate(other | {"part": 0, "result": "mismatch", "words": "another"})
    desk.site.client.spot_check(small.plan, desk.site.identity.sign(earlier))
    tend_spot_checks(desk, small.last)
    (event,) = small.hospitals[0].events("not-taken")
    assert event["code"] == "answer-differs"
    assert desk.site.record.head(desk.study.id) == Head(1, small.row["model"])


def test_an_unreadable_answer_counts_as_withheld(small: Played) -> None:
    liar = lied_to(small.desks[0], counts=lambda plan: read(TypeAdapter(PooledCounts), b"<html>a proxy</html>"))
    with pytest.raises(Uncheckable, match="not as documented"):
        examine(liar, small.plan, small.row["model"], 0)
