"""Ballots, votes, openings, refusals."""

from __future__ import annotations

import pytest

from crypto.layout import Layout
from crypto.manifest import Opening, Refusal, Vote
from crypto.plan import Plan
from crypto.schemes import scheme


@pytest.fixture
def here(world) -> str:
    """The address of a round whose ballot is shown."""
    here = world.begin()
    for site in world.sites:
        site.contribute()
    world.conduct()
    return here


@pytest.fixture
def one(world, here):
    return world.sites[0]


@pytest.fixture
def ballot(one) -> str:
    return one.task()["ballot"]


def test_there_is_no_ballot_before_the_close(world, refused) -> None:
    here = world.begin()
    one = world.sites[0]
    refused(one.call("GET", f"{here}/ballot"), 404, "not-found")
    refused(one.send(f"{here}/vote", Vote(ballot="ab" * 32, site=one.id)), 404, "not-found")


def test_votes_are_shown_to_all(world, here, ballot) -> None:
    for number, site in enumerate(world.sites):
        assert site.vote().status_code == 204
        assert site.vote().status_code == 204, "again is fine"
        assert len(world.sites[0].ok("GET", f"{here}/votes").json()) == number + 1
    assert all(vote["message"]["ballot"] == ballot for vote in world.operate("GET", f"{here}/votes").json())


def test_votes_that_are_refused(world, one, here, ballot, refused) -> None:
    other = world.sites[1]
    refused(one.send(f"{here}/vote", Vote(ballot="ab" * 32, site=one.id)), 422, "message-refused")
    refused(one.send(f"{here}/vote", Vote(ballot=ballot, site=other.id)), 422, "message-refused")
    forged = other.identity.sign(Vote(ballot=ballot, site=one.id)).to_json()
    refused(one.call("PUT", f"{here}/vote", json=forged), 422, "signature-invalid")
    stranger = world.new_site("stranger")
    refused(stranger.send(f"{here}/vote", Vote(ballot=ballot, site=stranger.id)), 403, "not-a-member")
    assert one.ok("GET", f"{here}/votes").json() == []


def test_a_vote_is_not_an_opening(one, here, ballot, refused) -> None:
    refused(one.send(f"{here}/opening", Vote(ballot=ballot, site=one.id)), 422, "malformed")


def test_nobody_opens_before_more_than_half_voted(world, one, here, refused) -> None:
    one.vote()
    answer = one.opening()
    document = refused(one.send(f"{here}/opening", answer), 409, "votes-missing")
    assert (document["votes"], document["needed"]) == (1, 2)
    world.sites[1].vote()
    assert one.send(f"{here}/opening", answer).status_code == 204
    assert one.send(f"{here}/opening", answer).status_code == 204
    assert one.task()["opened"]


def test_another_answer_to_the_same_ballot(world, one, here, refused) -> None:
    for site in world.sites:
        site.vote()
    answer = one.opening()
    one.send(f"{here}/opening", answer)
    other = Opening(ballot=answer.ballot, site=one.id, secret_sum=(1,) * 2048)
    refused(one.send(f"{here}/opening", other), 409, "answer-differs")


def test_answers_after_the_end(world, one, here, ballot, refused) -> None:
    for site in world.sites[:2]:
        site.vote()
    answer = one.opening()
    one.send(f"{here}/opening", answer)
    world.conduct()
    assert world.operate("GET", f"{world.study}/rounds").json()[0]["state"] == "complete"
    late = world.sites[2]
    document = refused(late.send(f"{here}/vote", Vote(ballot=ballot, site=late.id)), 409, "conflict")
    assert "complete" in document["detail"]
    assert one.send(f"{here}/opening", answer).status_code == 204, "what is in is answered alike"


def test_refusals_are_shown_in_words(world, one, here, ballot, refused) -> None:
    refusal = Refusal(site=one.id, step="ballot", about=ballot, code="too-few", words="Our policy wants four.")
    for _ in range(2):
        assert one.send(f"{here}/refusal", refusal, "POST").status_code == 204
    (entry,) = world.operate("GET", f"{world.study}/rounds").json()
    assert entry["refusals"] == [
        {"site": str(one.id), "step": "ballot", "code": "too-few", "words": "Our policy wants four."}
    ]
    elsewhere = refusal.model_copy(update={"about": "ab" * 32})
    refused(one.send(f"{here}/refusal", elsewhere, "POST"), 422, "message-refused")
    as_plan = refusal.model_copy(update={"step": "plan"})
    refused(one.send(f"{here}/refusal", as_plan, "POST"), 422, "message-refused")


def test_words_of_a_refusal_move_no_cursor(world, one, here, ballot) -> None:
    """They are kept, printed on terminals and put into a text column, which on PostgreSQL has no room for a NUL."""
    refusal = Refusal(site=one.id, step="ballot", about=ballot, code="too-few", words="no\x00\x1b[2J\nthanks")
    assert one.send(f"{here}/refusal", refusal, "POST").status_code == 204
    (entry,) = world.operate("GET", f"{world.study}/rounds").json()
    assert entry["refusals"][0]["words"] == "no  [2J thanks"


def test_plan_and_roster_are_the_attempts_own(world, one, here) -> None:
    plan, roster = one.ok("GET", f"{here}/plan").json(), one.ok("GET", f"{here}/roster").json()
    assert plan["round"] == 1
    assert {member["site"] for member in roster["members"]} == {str(site.id) for site in world.sites}
    assert world.operate("GET", f"{here}/plan", world.auditor).json() == plan


def test_an_ended_attempt_keeps_no_opened_part(world, refused) -> None:
    here = world.begin(scheme="ckks")
    for site in world.sites:
        site.contribute()
    world.conduct()
    one, task, study = world.sites[0], world.sites[0].task(), world.operate("GET", world.study).json()
    (size, *_) = scheme("ckks").opened_sizes(Plan.from_json(task["plan"]), Layout.from_json(study["layout"]))
    assert one.put(f"{here}/opened/0", bytes(size)).status_code == 204
    assert one.put(f"{here}/opened/0", bytes(size)).status_code == 204, "again is fine"
    assert world.operate("POST", f"{world.study}/stop").status_code == 200
    world.conduct()
    refused(one.put(f"{here}/opened/0", bytes(size)), 409, "conflict")
    parts = world.services.settings.data_dir / "blobs" / "parts"
    assert not [path for path in parts.rglob("*") if path.is_file()], "nothing is swept a second time"
