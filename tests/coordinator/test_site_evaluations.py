"""Single sites' own figures at the coordinator: kept once, shown with the round, refused where they do not belong."""

from __future__ import annotations

import re

import pytest
from page_visits import Browser

from crypto.parameters import COUNT_LIMIT
from crypto.plan import Plan
from crypto.site_evaluation import SiteEvaluation

COUNTS = (10, 5000, 0, 0, 2, 3, 4, 1, 0, 0, 0, 0, 5, 5, 0, 0, 0, 0)


def evaluation(site, /, **changes) -> SiteEvaluation:
    plan = Plan.from_json(site.task()["plan"])
    said = {"plan": plan.digest, "site": site.id, "model": plan.base_model, "counts": COUNTS}
    return SiteEvaluation(**said | changes)


def shown(world) -> list[dict]:
    return world.sites[0].ok("GET", f"{world.study}/rounds").json()[0]["site_evaluations"]


def test_it_is_shown_with_the_round_and_audited(world) -> None:
    here = world.begin()
    one, other, _ = world.sites
    assert shown(world) == []
    assert other.send(f"{here}/site-evaluation", evaluation(other)).status_code == 204
    assert one.send(f"{here}/site-evaluation", evaluation(one)).status_code == 204
    found = shown(world)
    assert [each["site"] for each in found] == sorted([str(one.id), str(other.id)])
    assert found[0]["metrics"]["cases"] == 10
    assert found[0]["metrics"]["loss"] == pytest.approx(0.5)
    assert found[0]["metrics"]["auc"] == [1.0, None]
    audited = [row for row in world.operate("GET", "/v1/audit").json() if row["action"] == "site-evaluation.reported"]
    assert [(row["actor"], row["detail"]["cases"]) for row in audited] == [(f"site:{s.id}", 10) for s in (other, one)]


def test_the_page_shows_it_under_the_sites_name(world) -> None:
    here = world.begin()
    site = world.sites[1]
    assert site.send(f"{here}/site-evaluation", evaluation(site)).status_code == 204
    browser = Browser(world)
    browser.login(world.operator)
    page = browser.look(f"/studies/{world.study_id}/rounds/1/1")
    own = page[page.index("What sites said of themselves") :]
    cells = re.findall(r"<t[hd][^>]*>([^<]*)</t[hd]>", own)[4:]
    assert cells == [
        "hospital-b",
        "10",
        "1.000 (0.566 to 1.000)",
        "0.500",
    ]


def test_again_is_fine_and_another_one_is_not(world, refused) -> None:
    here = world.begin()
    site = world.sites[0]
    for _ in range(2):
        assert site.send(f"{here}/site-evaluation", evaluation(site)).status_code == 204
    other = evaluation(site, counts=(11, *COUNTS[1:]))
    refused(site.send(f"{here}/site-evaluation", other), 409, "answer-differs")
    assert [each["metrics"]["cases"] for each in shown(world)] == [10]


@pytest.mark.parametrize("changes", [{"plan": "ab" * 32}, {"model": "cd" * 32}], ids=str)
def test_another_plan_or_model_is_refused(world, refused, changes) -> None:
    here = world.begin()
    site = world.sites[0]
    refused(site.send(f"{here}/site-evaluation", evaluation(site, **changes)), 422, "message-refused")
    assert shown(world) == []


def test_nobody_speaks_for_another_site(world, refused) -> None:
    here = world.begin()
    one, other, _ = world.sites
    refused(one.send(f"{here}/site-evaluation", evaluation(one, site=other.id)), 422, "message-refused")
    forged = other.identity.sign(evaluation(one)).to_json()
    refused(one.call("PUT", f"{here}/site-evaluation", json=forged), 422, "signature-invalid")
    stranger = world.new_site("hospital-x")
    said = evaluation(one, site=stranger.id)
    refused(stranger.send(f"{here}/site-evaluation", said), 403, "not-a-member")
    assert shown(world) == []


def test_counts_of_another_layout_are_refused(world, refused) -> None:
    here = world.begin()
    site = world.sites[0]
    said = refused(site.send(f"{here}/site-evaluation", evaluation(site, counts=COUNTS[:-1])), 422, "malformed")
    assert "17 counts do not fit a layout of 18" in said["detail"]


@pytest.mark.parametrize("counts", [(), (-1,), (COUNT_LIMIT,)], ids=str)
def test_numbers_that_are_no_counts_are_refused(world, refused, counts) -> None:
    here = world.begin()
    site = world.sites[0]
    message = evaluation(site).model_dump(mode="json") | {"counts": list(counts)}
    body = {"message": message, "signature": "00" * 64}
    refused(site.call("PUT", f"{here}/site-evaluation", json=body), 422, "malformed")


def test_it_is_taken_after_the_round_too(world) -> None:
    here = world.begin()
    said = {site.id: evaluation(site) for site in world.sites}
    world.clock.advance(1e4)
    world.conduct()
    assert world.sites[0].ok("GET", f"{world.study}/rounds").json()[0]["state"] == "failed"
    for site in world.sites:
        assert site.send(f"{here}/site-evaluation", said[site.id]).status_code == 204
    assert len(shown(world)) == 3
