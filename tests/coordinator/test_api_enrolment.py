"""How sites get in, and who does not."""

from __future__ import annotations

import pytest


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
