"""How sites get in, and who does not."""

from __future__ import annotations

import pytest

from coordinator.store import invitations, sites
from crypto.identity import Identity


@pytest.fixture
def stranger(world):
    """A site that is not enrolled yet."""
    return world.stranger("hospital-x")


def enrol(world, body):
    return world.call("POST", "/v1/enrolments", json=body)


def test_enrolment(world, stranger) -> None:
    answer = enrol(world, stranger.enrolment(world.invitation(note="radiology")))
    assert answer.status_code == 201
    assert answer.json()["coordinator"] == world.call("GET", "/v1/status").json()["coordinator"]
    (site,) = world.operate("GET", "/v1/sites", world.auditor).json()
    public = stranger.identity.public
    assert (site["id"], site["name"]) == (answer.json()["site"], "hospital-x")
    assert (site["fingerprint"], site["words"]) == (public.fingerprint, public.words)


def test_the_same_enrolment_again_is_answered_alike(world, stranger) -> None:
    """The first answer may have been lost on its way."""
    body = stranger.enrolment(world.invitation())
    assert enrol(world, body).json() == enrol(world, body).json()
    assert len(world.operate("GET", "/v1/sites").json()) == 1


def test_a_used_invitation(world, stranger, refused) -> None:
    invitation = world.invitation()
    enrol(world, stranger.enrolment(invitation))
    other = world.stranger("hospital-y")
    refused(enrol(world, other.enrolment(invitation)), 403, "invitation-used")
    refused(enrol(world, stranger.enrolment(invitation, name="renamed")), 403, "invitation-used")


def test_a_wrong_invitation(world, stranger, refused) -> None:
    refused(enrol(world, stranger.enrolment("pleura-invitation-guess")), 403, "invitation-invalid")


def test_an_expired_invitation(world, stranger, refused) -> None:
    invitation = world.invitation(hours=1)
    world.clock.advance(3600)
    refused(enrol(world, stranger.enrolment(invitation)), 403, "invitation-expired")


def test_two_sites_with_one_name(world, stranger, refused) -> None:
    enrol(world, stranger.enrolment(world.invitation()))
    invitation = world.invitation()
    other = world.stranger("hospital-x")
    document = refused(enrol(world, other.enrolment(invitation)), 409, "name-taken")
    assert "hospital-x" in document["detail"]
    assert enrol(world, other.enrolment(invitation, name="hospital-y")).status_code == 201, "the invitation is good"


def test_one_site_under_two_names(world, stranger, refused) -> None:
    enrol(world, stranger.enrolment(world.invitation()))
    refused(enrol(world, stranger.enrolment(world.invitation(), name="hospital-y")), 409, "name-taken")


@pytest.mark.parametrize("changed", ["name", "signing_key", "hpke_key", "proof"])
def test_the_proof_covers_everything(world, stranger, refused, changed: str) -> None:
    invitation = world.invitation()
    other = world.stranger("hospital-y").enrolment(invitation)
    body = stranger.enrolment(invitation) | {changed: other[changed]}
    refused(enrol(world, body), 403, "invitation-invalid")
    assert enrol(world, stranger.enrolment(invitation)).status_code == 201, "nothing was used up"


def test_a_proof_for_another_invitation(world, stranger, refused) -> None:
    body = stranger.enrolment(world.invitation()) | {"invitation": world.invitation()}
    refused(enrol(world, body), 403, "invitation-invalid")


def test_keys_that_are_no_keys(world, stranger, refused) -> None:
    body = stranger.enrolment(world.invitation()) | {"hpke_key": "ff" * 1216}
    refused(enrol(world, body), 422, "malformed")


def test_guessing_is_slowed_down(new_world, refused) -> None:
    world = new_world(enrolments_per_minute=3)
    body = world.stranger("x").enrolment("guess")
    for _ in range(3):
        refused(enrol(world, body), 403, "invitation-invalid")
    answer = enrol(world, body)
    assert refused(answer, 429, "rate-limited")["retry_after"] == 21
    assert answer.headers["retry-after"] == "21"
    world.clock.advance(21)
    refused(enrol(world, body), 403, "invitation-invalid")
    refused(enrol(world, body), 429, "rate-limited")


def test_every_step_is_in_the_audit_log(world, stranger) -> None:
    invitation = world.invitation(note="ward 3")
    site = enrol(world, stranger.enrolment(invitation)).json()["site"]
    rows = world.operate("GET", "/v1/audit?after=2", world.auditor).json()
    assert [(row["actor"], row["action"]) for row in rows] == [
        ("operator:anna", "invitation.made"),
        (f"site:{site}", "site.enrolled"),
    ]
    assert invitation not in str(rows)


# --- new keys for an enrolled site


@pytest.fixture
def federation(world):
    """Three members with a dealt key."""
    world.create_study()
    world.join()
    world.deal()
    return world


def reinvite(world, site, **changes) -> str:
    """An invitation for the site to enrol again; its keys are others from here on."""
    now, hours = world.clock.now(), changes.get("hours", 72)
    made = world.services.store.run(
        "reinvite", lambda s: invitations.renew(s, sites.by_reference(s, site.name), hours, "operator:test", now)
    )
    site.former, site.identity = site.identity, Identity.generate()
    return made[0]


def test_a_site_enrols_again_with_new_keys(federation, refused) -> None:
    site = federation.sites[0]
    before = site.token()
    invitation = reinvite(federation, site)
    body = site.enrolment(invitation)
    answer = enrol(federation, body)
    assert answer.json() == {"site": str(site.id), "coordinator": answer.json()["coordinator"], "again": True}
    assert enrol(federation, body).json() == answer.json(), "the first answer may have been lost"
    (row,) = [each for each in federation.operate("GET", "/v1/sites").json() if each["id"] == str(site.id)]
    assert row["words"] == site.identity.public.words
    assert str(site.id) in {member["site"] for member in site.ok("GET", f"{federation.study}/roster").json()["members"]}

    for token in (before, site.token(site.former)):
        answer = federation.call("GET", "/v1/studies", headers={"Authorization": f"Bearer {token}"})
        assert "enrolled again" in refused(answer, 401, "token-invalid")["detail"]
    epoch = federation.operate("GET", f"{federation.study}/epoch").json()
    assert (epoch["state"], epoch["number"], epoch["dealer"]) == ("none", 2, None), "nobody has approved the new keys"
    actions = [(row["actor"], row["action"]) for row in federation.operate("GET", "/v1/audit?after=0").json()[-3:]]
    assert actions == [
        ("operator:test", "site.reinvited"),
        (f"site:{site.id}", "site.enrolled-again"),
        (f"site:{site.id}", "epoch.retired"),
    ]


def test_a_first_enrolment_is_not_again(world, stranger) -> None:
    assert enrol(world, stranger.enrolment(world.invitation())).json()["again"] is False


def test_an_invitation_to_enrol_again_is_for_one_site_and_new_keys(federation, refused) -> None:
    site, other = federation.sites[:2]
    invitation = reinvite(federation, site)
    document = refused(enrol(federation, site.enrolment(invitation, name="renamed")), 403, "invitation-invalid")
    assert site.name in document["detail"]
    new, site.identity = site.identity, site.former
    refused(enrol(federation, site.enrolment(invitation)), 409, "name-taken")
    site.identity = other.identity
    refused(enrol(federation, site.enrolment(invitation)), 409, "name-taken")
    site.identity = new
    assert enrol(federation, site.enrolment(invitation)).status_code == 201, "the invitation was still good"
    site.identity = Identity.generate()
    refused(enrol(federation, site.enrolment(invitation)), 403, "invitation-used")


def test_the_latest_invitation_to_enrol_again_counts(federation, refused) -> None:
    site = federation.sites[0]
    first = reinvite(federation, site)
    second = reinvite(federation, site, hours=1)
    refused(enrol(federation, site.enrolment(first)), 403, "invitation-invalid")
    federation.clock.advance(3600)
    refused(enrol(federation, site.enrolment(second)), 403, "invitation-expired")


def test_a_suspended_site_comes_back_by_an_invitation_made_since(federation, refused) -> None:
    site, now = federation.sites[0], federation.clock.now()
    early = reinvite(federation, site)
    federation.services.store.run("suspend", lambda s: sites.set_suspended(s, site.name, True, "operator:test", now))
    refused(enrol(federation, site.enrolment(early)), 403, "invitation-invalid")
    assert enrol(federation, site.enrolment(reinvite(federation, site))).status_code == 201
    assert site.call("GET", "/v1/studies").status_code == 200
