"""`lwe-shamir` at the coordinator: shares go to whom they are sealed to, a threshold opens, a wrong answer is named."""

from __future__ import annotations

import pytest

from crypto.manifest import Opening, ShareOpening, ShareRefusal

SITES, THRESHOLD = 7, 5


@pytest.fixture
def collecting(world) -> str:
    return world.begin(sites=SITES, scheme="lwe-shamir", expected_sites=SITES)


@pytest.fixture
def here(world, collecting) -> str:
    """The address of a round whose ballot is shown."""
    for site in world.sites:
        site.contribute()
    world.conduct()
    return collecting


def state(world) -> dict:
    return world.sites[0].ok("GET", f"{world.study}/rounds").json()[-1]


def first(world) -> dict:
    return world.sites[0].ok("GET", f"{world.study}/rounds").json()[0]


def wrong(opening: ShareOpening) -> ShareOpening:
    return opening.model_copy(update={"share_sum": (opening.share_sum[0] ^ 1, *opening.share_sum[1:])})


def members(world, here: str) -> list:
    """Sites in the roster's order."""
    return [world.site(member["site"]) for member in world.operate("GET", f"{here}/roster").json()["members"]]


def test_as_many_shares_as_members_and_each_of_the_right_size(world, collecting, refused) -> None:
    site = world.sites[0]
    _, keys, _ = site.seal()
    assert len(keys) == SITES
    refused(site.put(f"{collecting}/key-parts/{SITES}", keys[0]), 422, "part-size")
    refused(site.put(f"{collecting}/key-parts/0", keys[0] + b"x"), 422, "part-size")
    refused(site.put(f"{collecting}/key-parts/0", keys[0][:-1]), 422, "malformed-key-part")


def test_a_share_is_served_to_the_one_it_is_sealed_to(world, here, refused) -> None:
    one, other, *_ = members(world, here)
    assert one.call("GET", f"{here}/key-parts/{other.id}/0").status_code == 200
    refused(other.call("GET", f"{here}/key-parts/{one.id}/0"), 404, "not-found")
    assert other.call("GET", f"{here}/key-parts/{one.id}/1").status_code == 200


def test_all_members_are_asked_at_once_and_nobody_votes(world, here) -> None:
    task = world.sites[0].task()
    assert sorted(task["openers"]) == sorted(str(site.id) for site in world.sites)
    assert not task["opened"]


def test_a_threshold_of_answers_opens(world, here) -> None:
    for number, site in enumerate(world.sites[:THRESHOLD], 1):
        assert site.send(f"{here}/opening", site.share_sum()).status_code == 204
        world.conduct()
        assert (first(world)["state"] == "complete") is (number == THRESHOLD)
    answers = world.sites[0].ok("GET", f"{here}/openings").json()
    assert len(answers) == THRESHOLD


def test_a_wrong_answer_is_named_and_the_round_still_opens(world, here) -> None:
    liar, *honest = world.sites
    liar.send(f"{here}/opening", wrong(liar.share_sum()))
    for site in honest[: THRESHOLD - 1]:
        site.send(f"{here}/opening", site.share_sum())
    world.conduct()
    assert first(world)["state"] == "opening", "five answers give something, which the sums tell to be wrong"
    for site in honest[THRESHOLD - 1 :]:
        site.send(f"{here}/opening", site.share_sum())
        world.conduct()
    row = first(world)
    assert row["state"] == "complete"
    named = {each["site"]: each["rejection"] for each in row["openings"] if each["rejection"]}
    assert list(named) == [str(liar.id)]
    assert "not the answer that the others determine" in named[str(liar.id)]
    audit = world.operate("GET", "/v1/audit").json()
    assert "round.wrong-answer" in {entry["action"] for entry in audit}


def test_wrong_answers_without_enough_right_ones_fail_with_words(world, here) -> None:
    for site in world.sites[:2]:
        site.send(f"{here}/opening", wrong(site.share_sum()))
    for site in world.sites[2:6]:
        site.send(f"{here}/opening", site.share_sum())
    world.conduct()
    assert first(world)["state"] == "opening"
    world.clock.advance(1e4)
    world.conduct()
    row = first(world)
    assert row["state"] == "failed"
    assert "missing: hospital-" in row["reason"]
    assert "do not open the sum" in row["reason"]


def test_too_few_answers_by_the_deadline(world, here) -> None:
    for site in world.sites[: THRESHOLD - 1]:
        site.send(f"{here}/opening", site.share_sum())
    world.clock.advance(1e4)
    world.conduct()
    row = first(world)
    assert row["state"] == "failed"
    assert f"{THRESHOLD - 1} of at least {THRESHOLD} answers" in row["reason"]


def test_refused_shares_name_their_sender_and_end_the_round_once_it_cannot_open(world, here) -> None:
    culprit = world.sites[0]
    for site in world.sites[1:4]:
        ballot = site.task()["ballot"]
        refusal = ShareRefusal(ballot=ballot, site=site.id, senders=(culprit.id,))
        assert site.send(f"{here}/share-refusal", refusal, "POST").status_code == 204
        assert site.send(f"{here}/share-refusal", refusal, "POST").status_code == 204, "again is fine"
    world.conduct()
    row = first(world)
    assert row["state"] == "failed"
    assert "shares sealed to it do not open, those of hospital-a" in row["reason"]


def test_an_answer_of_another_scheme(world, here, refused) -> None:
    site = world.sites[0]
    ballot = site.task()["ballot"]
    opening = Opening(ballot=ballot, site=site.id, secret_sum=(0,) * 2048)
    refused(site.send(f"{here}/opening", opening), 422, "message-refused")
