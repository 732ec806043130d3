"""What may be changed from a page, and by whom: an operator's own forms, nobody else's."""

from __future__ import annotations

import re

import pytest
from page_visits import Browser
from sqlalchemy import select

from coordinator.store import studies
from coordinator.store.tables import Audit, Invitation, Operator, Site
from coordinator.web.visits import Form, Visit

NOBODY = "0" * 32
FORMS = [
    "/studies",
    "/studies/{study}/start",
    "/studies/{study}/pause",
    "/studies/{study}/resume",
    "/studies/{study}/stop",
    "/studies/{study}/change",
    "/studies/{study}/clone",
    "/studies/{study}/rollback",
    "/sites/{site}/suspend",
    "/sites/{site}/readmit",
    "/sites/{site}/reinvite",
    "/settings/invitations",
    "/settings/invitations/{hash}/withdraw",
    "/settings/operators",
    "/settings/operators/anna/revoke",
]


@pytest.fixture
def browser(world) -> Browser:
    browser = Browser(world)
    browser.login(world.operator)
    return browser


def log(world) -> list[tuple[str, str]]:
    rows = world.services.store.read("audit", lambda s: s.scalars(select(Audit).order_by(Audit.seq)).all())
    return [(row.actor, row.action) for row in rows]


def state(world) -> str:
    return world.services.store.read("study", lambda s: studies.get(s, world.study_id)).state


def everywhere(world) -> list[str]:
    """Every form's address."""
    world.create_study()
    world.join(1)
    invitation = world.services.store.read("i", lambda s: s.scalars(select(Invitation)).first()).hash
    return [each.format(study=world.study_id, site=world.sites[0].id, hash=invitation) for each in FORMS]


def test_an_auditor_sees_no_form_and_changes_nothing(world) -> None:
    addresses = everywhere(world)
    browser = Browser(world)
    browser.login(world.auditor)
    shown = ["/", f"/studies/{world.study_id}", f"/studies/{world.study_id}/stop", "/sites", "/models", "/settings"]
    for path in shown:
        page = browser.look(path)
        assert re.findall(r'<form method="post" action="([^"]*)"', page) == ["/logout"], path
        assert "form_token" not in page
    assert browser.call("GET", "/studies/new").status_code == 403
    before = log(world)
    operator = world.services.store.read("zoe", lambda s: s.get_one(Operator, "zoe"))
    token = Visit(operator, 0, browser.cookie.partition("=")[2]).form_token  # as if a form had been shown
    for path in addresses:
        answer = browser.call("POST", path, data={"form_token": token})
        assert (answer.status_code, "may look and change nothing" in answer.text) == (403, True), path
    assert browser.call("POST", "/models", content=world.model, headers={"X-Form-Token": token}).status_code == 403
    assert log(world) == before


@pytest.mark.parametrize("token", ["", NOBODY])
def test_a_form_without_the_logins_token_is_refused(world, browser, token: str) -> None:
    addresses = everywhere(world)
    before = log(world)
    for path in addresses:
        assert browser.call("POST", path, data={"form_token": token}).status_code == 403, path
    assert browser.call("POST", "/models", content=world.model, headers={"X-Form-Token": token}).status_code == 403
    assert log(world) == before


def test_nor_with_the_token_of_another_login(world, browser) -> None:
    world.create_study()
    other = Browser(world)
    other.login(world.operator)
    path = f"/studies/{world.study_id}/start"
    assert browser.call("POST", path, data={"form_token": other.form_token}).status_code == 403
    assert state(world) == "draft"


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}, {"Origin": "https://elsewhere.example"}],
)
def test_nor_from_a_page_of_another_site(world, browser, headers: dict) -> None:
    world.create_study()
    data = {"form_token": browser.form_token}
    path = f"/studies/{world.study_id}/start"
    assert browser.call("POST", path, headers=headers, data=data).status_code == 403
    assert browser.call("POST", "/login", headers=headers, data={"token": world.operator}).status_code == 403
    assert browser.call("POST", "/logout", headers=headers).status_code == 403
    assert state(world) == "draft"
    ours = {"Sec-Fetch-Site": "same-origin", "Origin": "http://coordinator"}
    assert browser.call("POST", path, headers=ours, data=data).status_code == 303
    assert state(world) == "running"


def test_a_study_is_created_and_moved_and_the_log_says_by_whom(world, browser) -> None:
    world.create_study(name="first")
    model = world.operate("GET", world.study).json()["model"]
    answer = browser.send("/studies", name="lungs", model=model, scheme="lwe-shamir", rounds="7", expected_sites="")
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"]
    page = browser.look(path)
    assert "lungs" in page
    assert "up to a third of the members" in page
    for action in ("start", "pause", "resume", "stop"):
        assert f"{path}/{action}" in browser.look(path), f"the page offers it: {action}"
        assert browser.send(f"{path}/{action}").status_code == 303
    moved = [entry for entry in log(world) if entry[1].startswith("study.")][-5:]
    assert moved == [("operator:anna", f"study.{each}") for each in ("created", "start", "pause", "resume", "stop")]
    assert browser.send(f"{path}/resume").status_code == 409
    assert "lungs&#39; is stopped" in browser.send(f"{path}/resume").text


def test_what_is_wrong_with_a_study_is_said_beside_what_was_typed(world, browser) -> None:
    world.create_study(name="taken")
    model = world.operate("GET", world.study).json()["model"]
    for fields, words in (
        ({"name": "taken", "model": model}, "There is a study"),
        ({"name": "a", "model": model, "rounds": "0"}, "Rounds: Input should be greater"),
        ({"name": "a", "model": model, "scheme": "ckks", "release": "members"}, "is not offered with the scheme"),
        ({"name": "a", "model": "ab" * 32}, "There is no model"),
    ):
        answer = browser.send("/studies", **fields)
        assert answer.status_code == 422
        assert words in answer.text
        assert f'name="name" required maxlength="80" value="{fields["name"]}"' in answer.text


def test_a_model_is_uploaded_and_offered(world, browser, make_model) -> None:
    headers = {"X-Form-Token": browser.form_token}
    answer = browser.call("POST", "/models", content=make_model(), headers=headers)
    assert answer.status_code == 201
    digest = answer.json()["model"]
    assert f'<option value="{digest}" selected>' in browser.look(f"/studies/new?model={digest}")
    spoilt = browser.call("POST", "/models", content=b"no model", headers=headers)
    assert (spoilt.status_code, spoilt.json()["code"]) == (422, "model-refused")


def test_a_model_larger_than_messages_may_be(new_world, make_model) -> None:
    world = new_world(max_message_bytes=500)
    browser = Browser(world)
    browser.login(world.operator)
    assert len(make_model()) > 500
    answer = browser.call("POST", "/models", content=make_model(), headers={"X-Form-Token": browser.form_token})
    assert answer.status_code == 201


def test_an_invitation_is_shown_once_admits_a_site_and_can_be_withdrawn(world, browser) -> None:
    page = browser.send("/settings/invitations", note="hospital <x>", hours="5").text
    invitation = re.search(r"pleura-invitation-[\w-]+", page)[0]
    settings = browser.look("/settings")
    assert "hospital &lt;x&gt;" in settings
    assert invitation not in settings
    (withdraw,) = re.findall(r'action="(/settings/invitations/[0-9a-f]{64}/withdraw)"', settings)
    site = world.stranger("hospital-a")
    assert world.call("POST", "/v1/enrolments", json=site.enrolment(invitation)).status_code == 201
    assert browser.send(withdraw).status_code == 409, "it is used"
    browser.send("/settings/invitations", note="other", hours="5")
    (withdraw,) = re.findall(r'action="(/settings/invitations/[0-9a-f]{64}/withdraw)"', browser.look("/settings"))
    assert browser.send(withdraw).status_code == 303
    assert "other" not in browser.look("/settings")
    assert log(world)[-1] == ("operator:anna", "invitation.withdrawn")
    assert browser.send("/settings/invitations", note="", hours="0").status_code == 422


def test_an_auditor_is_added_for_a_while_and_revoked(world, browser) -> None:
    page = browser.send("/settings/operators", name="otto", role="auditor", days="2").text
    token = re.search(r"pleura-operator-[\w-]+", page)[0]
    other = Browser(world)
    assert other.login(token).status_code == 303
    assert browser.send("/settings/operators", name="otto", role="auditor").status_code == 422
    assert "otto" in browser.look("/settings/operators/otto/revoke")
    assert browser.send("/settings/operators/otto/revoke").status_code == 303
    assert other.call("GET", "/").status_code == 303
    expires = world.services.store.read("o", lambda s: s.get_one(Operator, "otto")).expires
    assert expires == world.clock.now() + 2 * 86400
    browser.send("/settings/operators", name="hanna", role="auditor")
    expires = world.services.store.read("o", lambda s: s.get_one(Operator, "hanna")).expires
    assert expires == world.clock.now() + 365 * 86400, "as everywhere else"


def test_a_site_is_suspended_readmitted_and_invited_again(world, browser) -> None:
    world.create_study()
    world.join(1)
    (site,) = world.sites
    at_once = f"/sites/{site.id}"
    assert "Suspend hospital-a?" in browser.look(f"{at_once}/suspend")
    browser.send(f"{at_once}/suspend")
    assert world.services.store.read("site", lambda s: s.get_one(Site, site.id)).state == "suspended"
    assert site.call("GET", world.study).status_code == 403
    browser.send(f"{at_once}/readmit")
    assert site.call("GET", world.study).status_code == 200
    page = browser.send(f"{at_once}/reinvite").text
    assert re.search(r"pleura-invitation-[\w-]+", page)
    assert [entry[1] for entry in log(world)[-3:]] == ["site.suspended", "site.active", "site.reinvited"]


def test_secrets_are_not_in_reprs(world, browser) -> None:
    operator = world.services.store.read("o", lambda s: s.get_one(Operator, "anna"))
    assert "secret" not in repr(Form(Visit(operator, 1, "secret"), {"token": "secret"}))


def test_a_study_is_changed_cloned_and_compared(world, browser) -> None:
    world.create_study(name="lungs")
    path = f"/studies/{world.study_id}"
    assert 'name="rounds" type="number" min="1" step="1" value="2"' in browser.look(f"{path}/change")
    assert browser.send(f"{path}/change", fraction="0.5", rounds="9").status_code == 303
    row = world.services.store.read("study", lambda s: studies.get(s, world.study_id))
    assert (row.fraction, row.rounds) == (0.5, 9)
    refused = browser.send(f"{path}/change", fraction="2")
    assert (refused.status_code, "Fraction: Input should be less" in refused.text) == (422, True)
    assert browser.send(f"{path}/clone", name="lungs").status_code == 422, "the name is taken"
    copy = browser.send(f"{path}/clone", name="lungs again", fraction="0.8").headers["location"]
    assert "lungs again" in browser.look(copy)
    page = browser.look(f"/studies/compare?study={world.study_id}&study={copy.rpartition('/')[2]}")
    assert re.search(r'<th scope="row">fraction</th><td>0.5</td><td>0.8</td>', page)
    assert "What differs" not in browser.look("/studies/compare")
    assert [entry[1] for entry in log(world)[-2:]] == ["study.changed", "study.created"]


def test_a_rollback_without_such_a_round_is_refused(world, browser) -> None:
    world.create_study()
    answer = browser.send(f"/studies/{world.study_id}/rollback", round="1")
    assert (answer.status_code, "no training round 1 that is complete" in answer.text) == (422, True)
    assert state(world) == "draft"
