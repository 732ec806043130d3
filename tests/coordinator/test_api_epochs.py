"""Key epochs: who deals, what is refused, newcomers, leavers."""

from __future__ import annotations

import pytest

from coordinator import contexts
from coordinator.store import key_blobs, sites
from coordinator.store.blobs import study_key
from coordinator.store.epochs import DEAL_SECONDS, WRAP_SECONDS, WRAPS_KEPT
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
    world = new_world(recent_seen_seconds=DEAL_SECONDS / 4)
    world.create_study()
    world.join(4)
    ordered = sorted(world.sites, key=lambda site: site.id.bytes)
    world.clock.advance(DEAL_SECONDS / 2)
    assert epoch(world)["dealer"] is None
    for site in ordered[1:]:
        site.task()
    assert epoch(world)["dealer"] == str(ordered[1].id)


def test_a_dealer_that_is_here_and_deals_nothing_loses_its_turn(joined) -> None:
    ordered = sorted(joined.sites, key=lambda site: site.id.bytes)
    for turn in range(4):
        assert epoch(joined)["dealer"] == str(ordered[turn % 3].id)
        joined.clock.advance(DEAL_SECONDS)
        for site in joined.sites:
            site.task()
    dealt = joined.deal()
    assert dealt.record.message.dealer == ordered[1].id


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


@pytest.fixture
def newcomer(joined):
    """A fourth member, approved by all, after the key was dealt to three; the dealt epoch is at `joined.dealt`."""
    joined.dealt = joined.deal()
    newcomer = joined.new_site("newcomer")
    newcomer.ok("PUT", f"{joined.study}/membership")
    for site in joined.sites:
        approve(joined, site, *joined.sites, newcomer)
    return newcomer


def approve(world, site, *peers) -> None:
    stated = {str(peer.id): peer.identity.public.fingerprint for peer in peers if peer is not site}
    statement = Approval(study=world.study_id, site=site.id, peers=stated)
    assert site.send(f"{world.study}/approval", statement).status_code == 204


def pass_on(world, holder, newcomer):
    """A holder's wrap for a newcomer: the addition, the wrap, and the coordinator's answer."""
    roster = Roster.from_json(holder.ok("GET", f"{world.study}/roster").json())
    record, member = world.dealt.record.message, roster.member(newcomer.id)
    addition, wrap = epochs.extend(holder.identity, holder.id, record, holder.secret, member)
    holder.ok("PUT", f"{world.study}/keys/{sha256(wrap)}", content=wrap)
    answer = holder.call("POST", f"{world.study}/epoch/additions", json=addition.to_json())
    return addition, wrap, answer


def acknowledge(world, site):
    said = epochs.acknowledge(site.identity, site.id, world.dealt.record.message)
    return site.call("POST", f"{world.study}/epoch/additions", json=said.to_json())


def test_a_newcomer_gets_its_wrap_from_a_holder(joined, newcomer, refused) -> None:
    assert epoch(joined)["missing"] == [str(newcomer.id)]
    holder, path = joined.sites[1], f"{joined.study}/epoch/additions"
    roster = Roster.from_json(holder.ok("GET", f"{joined.study}/roster").json())
    record = joined.dealt.record.message
    addition, _ = epochs.extend(holder.identity, holder.id, record, holder.secret, roster.member(newcomer.id))
    refused(holder.call("POST", path, json=addition.to_json()), 409, "parts-missing")
    by_newcomer = newcomer.identity.sign(addition.message.model_copy(update={"holder": newcomer.id}))
    refused(newcomer.call("POST", path, json=by_newcomer.to_json()), 422, "message-refused")
    addition, wrap, answer = pass_on(joined, holder, newcomer)
    assert answer.status_code == 204
    assert holder.call("POST", path, json=addition.to_json()).status_code == 204, "again, as after a lost answer"
    found = epoch(joined)
    assert (found["missing"], found["additions"]) == ([], [addition.to_json()])
    fetched = newcomer.ok("GET", f"{joined.study}/keys/{sha256(wrap)}").content
    assert epochs.unwrap(newcomer.identity, newcomer.id, addition.message, fetched) is not None


def test_a_newcomer_is_planned_with_once_it_opened_a_wrap(joined, newcomer, refused) -> None:
    refused(acknowledge(joined, newcomer), 422, "message-refused")
    pass_on(joined, joined.sites[0], newcomer)
    newcomer.task()
    joined.operate("POST", f"{joined.study}/start")
    joined.conduct()
    first = joined.sites[0].task()
    assert str(newcomer.id) not in first["plan"]["expected"]
    for _ in range(2):
        assert acknowledge(joined, newcomer).status_code == 204
    approve(joined, newcomer, *joined.sites)
    joined.clock.advance(first["plan"]["collect_until"] - joined.clock.now())
    for site in [*joined.sites, newcomer]:
        site.task()
    joined.conduct()  # nobody contributed: the next attempt
    assert str(newcomer.id) in newcomer.task()["plan"]["expected"]
    rows = joined.operate("GET", "/v1/audit?after=0").json()
    assert [row["detail"]["recipient"] for row in rows if row["action"] == "epoch.key-opened"] == [str(newcomer.id)]


def test_a_wrap_that_was_not_opened_is_followed_by_those_of_others(joined, newcomer) -> None:
    """Each a while after the former, of distinct holders, and a handful at most."""
    for site in joined.sites:
        acknowledge(joined, site)
    given = len(epoch(joined)["additions"])
    for number, holder in enumerate(joined.sites, 1):
        assert epoch(joined)["missing"] == [str(newcomer.id)]
        pass_on(joined, holder, newcomer)
        pass_on(joined, holder, newcomer)  # a second one of the same holder is not kept
        assert len(epoch(joined)["additions"]) == given + number
        assert epoch(joined)["missing"] == []
        joined.clock.advance(WRAP_SECONDS + 1)
        newcomer.task()
    assert len(joined.sites) < WRAPS_KEPT
    acknowledge(joined, newcomer)
    assert epoch(joined)["missing"] == []
    pass_on(joined, joined.sites[0], newcomer)
    assert len(epoch(joined)["additions"]) == given + len(joined.sites) + 1, "none is kept once one was opened"


def test_no_second_wrap_is_made_for_a_member_that_is_away(new_world) -> None:
    world = new_world(recent_seen_seconds=WRAP_SECONDS / 2)
    world.create_study()
    world.join()
    world.deal()
    world.clock.advance(WRAP_SECONDS + 1)
    assert epoch(world)["missing"] == []


def test_no_more_than_a_handful_of_wraps_is_kept(new_world) -> None:
    world = new_world()
    world.create_study()
    world.join(WRAPS_KEPT + 1)
    world.dealt = world.deal()
    newcomer = world.new_site("newcomer")
    newcomer.ok("PUT", f"{world.study}/membership")
    for site in world.sites:
        approve(world, site, *world.sites, newcomer)
        assert pass_on(world, site, newcomer)[2].status_code == 204
    assert len(epoch(world)["additions"]) == WRAPS_KEPT
    world.clock.advance(WRAP_SECONDS + 1)
    newcomer.task()
    assert str(newcomer.id) not in epoch(world)["missing"]


def test_a_member_whose_dealt_wrap_does_not_open_is_passed_another(joined) -> None:
    joined.dealt = joined.deal()
    dealer = joined.site(str(joined.dealt.record.message.dealer))
    one, other = (site for site in joined.sites if site is not dealer)
    acknowledge(joined, one)
    joined.clock.advance(WRAP_SECONDS + 1)
    for site in joined.sites:
        site.task()
    assert epoch(joined)["missing"] == [str(other.id)], "it alone said nothing; the dealer needs not"
    pass_on(joined, one, other)
    assert acknowledge(joined, other).status_code == 204


def test_wraps_are_for_the_keys_that_were_approved(joined, newcomer, refused) -> None:
    holder = joined.sites[0]
    approve(joined, holder, *joined.sites)
    refused(pass_on(joined, holder, newcomer)[2], 422, "message-refused")
    approve(joined, holder, *joined.sites, newcomer)
    assert pass_on(joined, holder, newcomer)[2].status_code == 204


def test_the_attempt_under_way_keeps_the_context_that_it_was_planned_with(world) -> None:
    """A member leaves while the others train, for an hour perhaps, and they agree on a new key meanwhile."""
    world.begin(4)
    former = epoch(world)["record"]["message"]["context"]
    one, leaver = world.sites[0], world.sites[-1]
    one.seal()
    assert leaver.call("DELETE", f"{world.study}/membership").status_code == 204
    world.sites.remove(leaver)
    world.deal()
    assert (epoch(world)["state"], epoch(world)["number"]) == ("current", 2)
    assert one.call("GET", f"{world.study}/keys/{former}").status_code == 200
    contexts._load.cache_clear()  # as in a coordinator that was started again, or beside this one
    one.contribute()
    assert one.task()["contributed"]


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
    rows = joined.operate("GET", "/v1/audit?after=0").json()
    assert [(row["actor"], row["detail"]["reason"]) for row in rows if row["action"] == "epoch.retired"] == [
        (f"site:{joined.sites[0].id}", "a member left"),
        ("operator:test", "a member was suspended"),
    ]


def test_blobs_of_a_former_key_are_deleted_when_the_next_is_dealt(joined, refused) -> None:
    former = joined.deal()
    joined.sites[0].call("DELETE", f"{joined.study}/membership")
    joined.sites[0].ok("PUT", f"{joined.study}/membership")
    present = joined.deal()
    site, blobs = joined.sites[2], joined.services.blobs
    for old, new in zip(
        (former.public_context, *former.wraps.values()), (present.public_context, *present.wraps.values()), strict=True
    ):
        refused(site.call("GET", f"{joined.study}/keys/{sha256(old)}"), 404, "not-found")
        assert not blobs.exists(study_key(joined.study_id, sha256(old)))
        assert site.ok("GET", f"{joined.study}/keys/{sha256(new)}").content == new


def test_a_member_stores_a_limited_number_of_key_blobs(joined, refused) -> None:
    site, other = joined.sites[:2]
    most = key_blobs.DEALS * 4
    for number in range(most):
        site.ok("PUT", f"{joined.study}/keys/{sha256(bytes([number]))}", content=bytes([number]))
    site.ok("PUT", f"{joined.study}/keys/{sha256(b'%c' % 0)}", content=b"\0")  # is there, so it costs nothing
    over = bytes([most])
    document = refused(site.call("PUT", f"{joined.study}/keys/{sha256(over)}", content=over), 403, "key-limit")
    assert (document["blobs"], document["most_blobs"]) == (most, most)
    assert not joined.services.blobs.exists(study_key(joined.study_id, sha256(over)))
    other.ok("PUT", f"{joined.study}/keys/{sha256(over)}", content=over)


def test_a_member_stores_limited_bytes_of_keys(joined, refused) -> None:
    site, most = joined.sites[0], key_blobs.DEALS * 4 * key_blobs.BLOB_BYTES
    whole = bytes(most)
    site.ok("PUT", f"{joined.study}/keys/{sha256(whole)}", content=whole)
    document = refused(site.call("PUT", f"{joined.study}/keys/{sha256(b'x')}", content=b"x"), 403, "key-limit")
    assert document["bytes"] == document["most_bytes"] == most


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
