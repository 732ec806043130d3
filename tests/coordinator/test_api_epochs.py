"""Key epochs: who deals, what is refused, newcomers, leavers."""

from __future__ import annotations

import pytest

from coordinator.store import sites
from crypto import epochs
from crypto.canonical import sha256
from crypto.ckks_secret import SecretContext
from crypto.epoch import Approval
from crypto.plan import Roster


@pytest.fixture
def joined(world):
    world.create_study()
    world.join()
    return world


def epoch(world) -> dict:
    return world.operate("GET", f"{world.study}/epoch").json()


def test_nobody_deals_before_enough_members_approved_each_other(world) -> None:
    world.create_study()
    world.join(2)
    assert epoch(world) == {
        "state": "none",
        "number": 1,
        "dealer": None,
        "record": None,
        "additions": [],
        "missing": [],
    }


def test_the_lowest_id_seen_lately_deals(joined) -> None:
    ordered = sorted(joined.sites, key=lambda site: site.id.bytes)
    assert epoch(joined)["dealer"] == str(ordered[0].id)


def test_when_the_dealer_vanishes_another_is_asked(new_world) -> None:
    world = new_world(recent_seen_seconds=120)
    world.create_study()
    world.join(4)
    ordered = sorted(world.sites, key=lambda site: site.id.bytes)
    world.clock.advance(121)
    assert epoch(world)["dealer"] is None
    for site in ordered[1:]:
        site.task()
    assert epoch(world)["dealer"] == str(ordered[1].id)


def test_a_member_that_was_not_approved_does_not_deal(joined, refused) -> None:
    lowest = min(joined.sites, key=lambda site: site.id.bytes)
    newcomer = joined.new_site("newcomer")
    newcomer.ok("PUT", f"{joined.study}/membership")
    assert epoch(joined)["dealer"] == str(lowest.id)
    roster = Roster.from_json(newcomer.ok("GET", f"{joined.study}/roster").json())
    dealt = epochs.deal(newcomer.identity, newcomer.id, joined.study_id, 1, roster)
    for blob in (dealt.public_context, *dealt.wraps.values()):
        newcomer.ok("PUT", f"{joined.study}/keys/{sha256(blob)}", content=blob)
    refused(newcomer.call("PUT", f"{joined.study}/epoch", json=dealt.record.to_json()), 409, "conflict")


def test_a_dealt_epoch_is_current(joined) -> None:
    dealt = joined.deal()
    found = epoch(joined)
    assert (found["state"], found["number"], found["dealer"], found["missing"]) == ("current", 1, None, [])
    assert found["record"] == dealt.record.to_json()
    fetched = joined.sites[2].ok("GET", f"{joined.study}/keys/{sha256(dealt.public_context)}").content
    assert fetched == dealt.public_context


def test_a_private_context_never_touches_the_disk(joined, refused) -> None:
    site, private = joined.sites[0], SecretContext.generate().secret_bytes()
    document = refused(
        site.call("PUT", f"{joined.study}/keys/{sha256(private)}", content=private), 422, "private-context"
    )
    assert "secret key" in document["detail"]
    refused(site.call("GET", f"{joined.study}/keys/{sha256(private)}"), 404, "not-found")
    stored = [path.read_bytes() for path in joined.services.settings.data_dir.rglob("*") if path.is_file()]
    assert not any(private[:200] in data or private[-200:] in data for data in stored)


def test_a_record_over_something_else_than_a_context(joined, refused) -> None:
    """A wrap named as the context: it is no public context, so the record is refused."""
    site = joined.site(epoch(joined)["dealer"])
    roster = Roster.from_json(site.ok("GET", f"{joined.study}/roster").json())
    dealt = epochs.deal(site.identity, site.id, joined.study_id, 1, roster)
    for blob in dealt.wraps.values():
        site.ok("PUT", f"{joined.study}/keys/{sha256(blob)}", content=blob)
    record = dealt.record.message.model_copy(update={"context": dealt.record.message.wraps[0].sha256})
    refused(site.send(f"{joined.study}/epoch", record), 422, "malformed")


def test_records_that_are_refused(joined, refused) -> None:
    site = joined.site(epoch(joined)["dealer"])
    other = next(each for each in joined.sites if each is not site)
    path = f"{joined.study}/epoch"
    roster = Roster.from_json(site.ok("GET", f"{joined.study}/roster").json())
    dealt = epochs.deal(site.identity, site.id, joined.study_id, 1, roster)
    document = refused(site.call("PUT", path, json=dealt.record.to_json()), 409, "parts-missing")
    assert len(document["missing"]) == 4
    for blob in (dealt.public_context, *dealt.wraps.values()):
        site.ok("PUT", f"{joined.study}/keys/{sha256(blob)}", content=blob)
    refused(other.call("PUT", path, json=dealt.record.to_json()), 422, "signature-invalid")
    refused(other.send(path, dealt.record.message), 422, "message-refused")
    refused(site.send(path, dealt.record.message.model_copy(update={"epoch": 2})), 409, "epoch-exists")
    refused(site.send(path, dealt.record.message.model_copy(update={"study": other.id})), 422, "message-refused")
    for _ in range(2):
        assert site.call("PUT", path, json=dealt.record.to_json()).status_code == 204
    again = epochs.deal(site.identity, site.id, joined.study_id, 1, roster)
    for blob in (again.public_context, *again.wraps.values()):
        site.ok("PUT", f"{joined.study}/keys/{sha256(blob)}", content=blob)
    refused(site.call("PUT", path, json=again.record.to_json()), 409, "epoch-exists")


def test_a_newcomer_gets_its_wrap_from_a_holder(joined, refused) -> None:
    dealt = joined.deal()
    newcomer = joined.new_site("newcomer")
    newcomer.ok("PUT", f"{joined.study}/membership")
    assert epoch(joined)["missing"] == [str(newcomer.id)]
    holder = joined.sites[1]
    roster = Roster.from_json(holder.ok("GET", f"{joined.study}/roster").json())
    member = roster.member(newcomer.id)
    path = f"{joined.study}/epoch/additions"
    addition, wrap = epochs.extend(holder.identity, holder.id, dealt.record.message, holder.secret, member)
    refused(holder.call("POST", path, json=addition.to_json()), 409, "parts-missing")
    holder.ok("PUT", f"{joined.study}/keys/{sha256(wrap)}", content=wrap)
    by_newcomer = newcomer.identity.sign(addition.message.model_copy(update={"holder": newcomer.id}))
    refused(newcomer.call("POST", path, json=by_newcomer.to_json()), 422, "message-refused")
    for _ in range(2):
        assert holder.call("POST", path, json=addition.to_json()).status_code == 204
    found = epoch(joined)
    assert (found["missing"], found["additions"]) == ([], [addition.to_json()])
    fetched = newcomer.ok("GET", f"{joined.study}/keys/{sha256(wrap)}").content
    assert epochs.unwrap(newcomer.identity, newcomer.id, addition.message, fetched) is not None


def test_who_leaves_or_is_suspended_ends_the_epoch(joined) -> None:
    joined.deal()
    assert joined.sites[0].call("DELETE", f"{joined.study}/membership").status_code == 204
    assert (epoch(joined)["state"], epoch(joined)["number"]) == ("none", 2)
    joined.sites[0].ok("PUT", f"{joined.study}/membership")
    joined.deal()
    assert epoch(joined)["state"] == "current"
    now, name = joined.clock.now(), joined.sites[1].name
    joined.services.store.run("suspend", lambda s: sites.set_suspended(s, name, True, "operator:test", now))
    assert (epoch(joined)["state"], epoch(joined)["number"]) == ("none", 3)


def test_keys_are_for_members(joined, refused) -> None:
    stranger = joined.new_site("stranger")
    blob = b"wrapped"
    refused(stranger.call("PUT", f"{joined.study}/keys/{sha256(blob)}", content=blob), 403, "not-a-member")
    refused(stranger.call("GET", f"{joined.study}/keys/{sha256(blob)}"), 403, "not-a-member")
    one = joined.sites[0]
    refused(one.call("PUT", f"{joined.study}/keys/{'ab' * 32}", content=blob), 400, "digest-mismatch")
    refused(one.call("PUT", f"{joined.study}/keys/xyz", content=blob), 422, "request-invalid")


def test_approvals_are_ones_own(joined, refused) -> None:
    one, other = joined.sites[:2]
    path = f"{joined.study}/approval"
    about_other = Approval(study=joined.study_id, site=other.id, peers={})
    refused(one.send(path, about_other), 422, "message-refused")
    elsewhere = Approval(study=one.id, site=one.id, peers={})
    refused(one.send(path, elsewhere), 422, "message-refused")
    forged = other.identity.sign(Approval(study=joined.study_id, site=one.id, peers={}))
    refused(one.call("PUT", path, json=forged.to_json()), 422, "signature-invalid")
    stranger = joined.new_site("stranger")
    mine = Approval(study=joined.study_id, site=stranger.id, peers={})
    refused(stranger.send(path, mine), 403, "not-a-member")


def test_an_approval_of_other_keys_counts_for_nothing(joined) -> None:
    one = joined.sites[0]
    peers = {str(site.id): "ab" * 32 for site in joined.sites[1:]}
    one.send(f"{joined.study}/approval", Approval(study=joined.study_id, site=one.id, peers=peers))
    assert epoch(joined)["dealer"] is None
