"""Spot checks at the coordinator: how long parts are kept, who may fetch which, and what becomes of a report."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from uuid import UUID

import pytest
from page_visits import Browser

from coordinator.rounds.states import Complete, Failed, View
from coordinator.rounds.steps import Sweep, Wait, next_step
from crypto.manifest import Ballot
from crypto.outcome import SpotCheck
from crypto.plan import Member, Plan, Roster

MEMBERS, OPEN = 4, 300
SITES = [UUID(int=number) for number in range(1, MEMBERS + 1)]
DIGEST = "ab" * 32
ENDED = 1000.0


# --- how long parts are kept


def view(state, **changes) -> View:
    keys = [{"signing_key": f"{site.int:064x}", "hpke_key": f"{site.int:08x}"} for site in SITES]
    members = (
        Member(site=site, name=f"h{site.int}", index=site.int, **own) for site, own in zip(SITES, keys, strict=True)
    )
    roster = Roster(study=UUID(int=99), members=tuple(members))
    values = {
        "study": roster.study, "round": 1, "attempt": 1, "kind": "training", "base_model": DIGEST, "layout": DIGEST,
        "recipe": DIGEST, "roster": roster.digest, "epoch": None, "scheme": "lwe-shamir", "release": "open",
        "weighting": "samples", "expected": tuple(SITES), "k_max": 4, "n_max": 100, "bounds": (1.0,), "threshold": 3,
        "minimum_contributors": 3, "collect_until": 1, "vote_seconds": 50, "open_seconds": OPEN,
    }  # fmt: skip
    return View(UUID(int=7), Plan(**values | changes), roster, stopped=False, state=state)


def complete(*checked: UUID, swept: bool = False) -> Complete:
    return Complete(DIGEST, swept, ENDED, frozenset(checked))


@pytest.mark.parametrize("checked", [(), SITES[:1], SITES[:3], [*SITES[:3], UUID(int=77)]], ids=len)
def test_parts_stay_until_all_members_reported_or_the_time_is_over(checked) -> None:
    waiting = view(complete(*checked))
    assert next_step(waiting, ENDED) == Wait(ENDED + OPEN)
    assert next_step(waiting, ENDED + OPEN - 0.1) == Wait(ENDED + OPEN)
    assert next_step(waiting, ENDED + OPEN) == Sweep()


def test_parts_go_as_soon_as_all_have_reported() -> None:
    assert next_step(view(complete(*SITES)), ENDED) == Sweep()
    assert next_step(view(complete(*SITES, UUID(int=77))), ENDED) == Sweep()


@pytest.mark.parametrize("now", [ENDED, ENDED + OPEN])
def test_swept_is_swept(now) -> None:
    assert next_step(view(complete(swept=True)), now) == Wait(None)


@pytest.mark.parametrize(
    "changes", [{"release": "members"}, {"scheme": "lwe-ckks", "epoch": DIGEST, "threshold": None}], ids=str
)
def test_where_nobody_may_see_parts_they_go_at_once(changes) -> None:
    assert next_step(view(complete(), **changes), ENDED) == Sweep()


def test_failed_attempts_are_swept_at_once() -> None:
    assert next_step(view(Failed("too few", swept=False)), ENDED) == Sweep()


def test_stopping_the_study_keeps_what_may_be_checked() -> None:
    stopped = dataclasses.replace(view(complete()), stopped=True)
    assert next_step(stopped, ENDED) == Wait(ENDED + OPEN)


# --- the calls


@pytest.fixture
def here(world) -> str:
    """The address of a first round whose ballot is shown."""
    address = world.begin(sites=MEMBERS, scheme="lwe-shamir", expected_sites=MEMBERS)
    for site in world.sites:
        site.contribute()
    world.conduct()
    return address


@pytest.fixture
def done(world, here) -> str:
    """The same, complete; the second round is collecting."""
    for site in world.sites:
        site.send(f"{here}/opening", site.share_sum())
    world.conduct()
    return here


def row(world, number: int = 0) -> dict:
    return world.sites[0].ok("GET", f"{world.study}/rounds").json()[number]


def check(world, here: str, reporter, **changes) -> SpotCheck:
    ballot = Ballot.from_json(world.operate("GET", f"{here}/ballot").json())
    said = {"ballot": ballot.digest, "site": reporter.id, "model": row(world)["model"] or DIGEST, "part": 0}
    return SpotCheck(**said | {"result": "match", "words": "part 0 is so"} | changes)


def bodies(world) -> list[Path]:
    """Body parts that are left; in the second round none has come in yet."""
    return list(world.services.settings.blobs.rglob("body-*"))


def test_members_fetch_what_each_contributor_signed_for(world, done) -> None:
    for reader in world.sites:
        for contributor in world.sites:
            parts, _, _ = contributor.seal()
            answer = reader.ok("GET", f"{done}/parts/{contributor.id}/0")
            assert answer.content == parts[0]
            assert answer.headers["content-type"] == "application/octet-stream"


def test_no_part_before_the_round_is_complete(world, here, refused) -> None:
    one, other, *_ = world.sites
    said = refused(one.call("GET", f"{here}/parts/{other.id}/0"), 404, "not-found")
    assert "this attempt is opening" in said["detail"]
    refused(one.call("GET", f"{here}/counts"), 404, "not-found")


def test_no_part_of_a_failed_attempt(world, here, refused) -> None:
    world.clock.advance(1e4)
    world.conduct()
    one, other, *_ = world.sites
    assert row(world)["state"] == "failed"
    assert "is failed" in refused(one.call("GET", f"{here}/parts/{other.id}/0"), 404, "not-found")["detail"]
    assert bodies(world) == []


def test_no_part_for_who_is_not_on_the_roster(world, done, refused) -> None:
    stranger = world.new_site("hospital-x")
    refused(stranger.call("GET", f"{done}/parts/{world.sites[0].id}/0"), 403, "not-a-member")
    stranger.ok("PUT", f"{world.study}/membership")
    refused(stranger.call("GET", f"{done}/parts/{world.sites[0].id}/0"), 403, "not-a-member")
    refused(world.operate("GET", f"{done}/parts/{world.sites[0].id}/0"), 403, "role-missing")


def test_no_part_that_nobody_sent(world, done, refused) -> None:
    site = world.sites[0]
    refused(site.call("GET", f"{done}/parts/{site.id}/1"), 404, "not-found")
    refused(site.call("GET", f"{done}/parts/{UUID(int=5)}/0"), 404, "not-found")


def test_no_body_leaves_under_another_scheme(world, refused) -> None:
    here = world.begin(expected_sites=3)
    for site in world.sites:
        site.contribute()
    world.conduct()
    one, other, _ = world.sites
    for site in (one, other):
        site.vote()
    world.conduct()
    said = refused(one.call("GET", f"{here}/parts/{other.id}/0"), 404, "not-found")
    assert "no site may see a body part" in said["detail"]
    opener = world.site(one.task()["openers"][0])
    opener.send(f"{here}/opening", opener.opening())
    world.conduct()
    assert row(world)["state"] == "complete"
    refused(one.call("GET", f"{here}/parts/{other.id}/0"), 404, "not-found")
    assert row(world)["spot_checks"] == []
    refused(one.send(f"{here}/spot-check", check(world, here, one)), 409, "conflict")


def test_the_next_round_does_not_wait_and_the_parts_of_the_last_stay(world, done) -> None:
    assert [entry["state"] for entry in world.sites[0].ok("GET", f"{world.study}/rounds").json()] == [
        "complete",
        "collecting",
    ]
    assert len(bodies(world)) == MEMBERS


def test_all_reports_end_it(world, done, refused) -> None:
    for number, site in enumerate(world.sites, 1):
        assert len(bodies(world)) == MEMBERS
        assert site.send(f"{done}/spot-check", check(world, done, site)).status_code == 204
        world.conduct()
        assert [entry["site"] for entry in row(world)["spot_checks"]] == sorted(
            (str(each.id) for each in world.sites[:number]), key=lambda site: UUID(site).bytes
        )
    assert bodies(world) == []
    said = refused(site.call("GET", f"{done}/parts/{site.id}/0"), 404, "not-found")
    assert "deleted already" in said["detail"]


def test_time_ends_it_and_late_reports_still_count(world, done, refused) -> None:
    one, other, *_ = world.sites
    one.send(f"{done}/spot-check", check(world, done, one))
    world.conduct()
    world.clock.advance(OPEN - 1)
    world.conduct()
    assert len(bodies(world)) == MEMBERS
    world.clock.advance(2)
    world.conduct()
    assert bodies(world) == []
    refused(one.call("GET", f"{done}/parts/{other.id}/0"), 404, "not-found")
    assert other.send(f"{done}/spot-check", check(world, done, other)).status_code == 204


def test_a_part_that_is_gone_from_the_disk_is_not_found(world, done, refused) -> None:
    one, other, *_ = world.sites
    (part,) = [part for part in bodies(world) if part.parent.name == str(other.id)]
    part.unlink()
    refused(one.call("GET", f"{done}/parts/{other.id}/0"), 404, "not-found")


def test_pooled_counts_are_there_for_members_and_operators(world, done, refused) -> None:
    for answer in (world.sites[0].ok("GET", f"{done}/counts"), world.operate("GET", f"{done}/counts")):
        counts = answer.json()
        assert (counts["samples"], counts["capped_samples"], counts["clipped"]) == (40, 40, [0, 0])
        assert counts["recipe"]["cases"] == 4 * 10
        assert counts["recipe"]["scores"][0] == [[0, 0, 8, 12], [16, 4, 0, 0]]
    refused(world.new_site("hospital-x").call("GET", f"{done}/counts"), 403, "not-a-member")


def test_a_report_is_kept_audited_and_shown(world, done) -> None:
    one, other, *_ = world.sites
    one.send(f"{done}/spot-check", check(world, done, one))
    found = {"result": "mismatch", "part": 7, "words": "part 7: 3 of its 5 values are <b>not</b> the mean"}
    assert other.send(f"{done}/spot-check", check(world, done, other, **found)).status_code == 204
    shown = {entry["site"]: entry for entry in row(world)["spot_checks"]}
    assert shown[str(one.id)] == {"site": str(one.id), "part": 0, "result": "match", "words": "part 0 is so"}
    assert shown[str(other.id)] == {"site": str(other.id), **found}
    log = {entry["actor"]: entry for entry in world.operate("GET", "/v1/audit").json() if "spot" in entry["action"]}
    assert log[f"site:{other.id}"]["action"] == "spot-check.reported"
    assert log[f"site:{other.id}"]["detail"]["result"] == "mismatch"
    assert log[f"site:{other.id}"]["detail"]["round"] == 1
    browser = Browser(world)
    browser.login(world.operator)
    study = f"/studies/{world.study_id}"
    assert "1 of its spot checks does not match" in browser.look(study)
    text = browser.look(f"{study}/rounds/1/1")
    assert "part 0: part 0 is so" in text
    assert "part 7: part 7: 3 of its 5 values are &lt;b&gt;not&lt;/b&gt; the mean" in text


def test_a_report_again_and_another_one(world, done, refused) -> None:
    site = world.sites[0]
    for _ in range(2):
        assert site.send(f"{done}/spot-check", check(world, done, site)).status_code == 204
    other = check(world, done, site, result="mismatch")
    refused(site.send(f"{done}/spot-check", other), 409, "answer-differs")
    assert row(world)["spot_checks"][0]["result"] == "match"


def test_reports_that_are_refused(world, done, refused) -> None:
    site, other, *_ = world.sites
    here = f"{done}/spot-check"
    for changes in ({"ballot": DIGEST}, {"model": DIGEST}, {"site": other.id}):
        refused(site.send(here, check(world, done, site, **changes)), 422, "message-refused")
    signed = other.identity.sign(check(world, done, site)).to_json()
    refused(site.call("PUT", here, json=signed), 422, "signature-invalid")
    stranger = world.new_site("hospital-x")
    refused(stranger.send(here, check(world, done, stranger)), 403, "not-a-member")
    refused(site.call("PUT", here, json={"message": {}, "signature": "00" * 64}), 422, "malformed")
    assert row(world)["spot_checks"] == []


def test_nothing_is_reported_before_the_end(world, here, refused) -> None:
    site = world.sites[0]
    refused(site.send(f"{here}/spot-check", check(world, here, site)), 409, "conflict")
