"""A site left, and its last contribution counts on: plans, ballots and key parts that make more of it than they may."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from shutil import copytree, move
from typing import Any
from uuid import UUID

import pytest
import running
import tiny_federation as tiny
from forging import keys_of
from staged import Contribution, Federation, Seat

from crypto import exposure
from crypto.identity import Identity
from crypto.manifest import Ballot, Vote
from crypto.plan import Carried, Plan
from participant.settings import Home


@dataclass
class Departed:
    """Three members are left. The plan of round 3 is out, carries the fourth's contribution to round 2, and no agent
    has seen it."""

    federation: Federation
    leaver: UUID
    identity: Identity

    def contribution(self, number: int, site: UUID | None = None) -> Contribution:
        """What the leaver, or another site, delivered for a round."""
        wanted = self.leaver if site is None else site
        found = self.federation.delivered(number)
        return next(each for each in found if each.manifest.message.site == wanted)

    @property
    def listed(self) -> dict[str, Any]:
        """The leaver's entry in the plan."""
        return self.federation.plan.carried[0].to_json()

    def plan_with(self, carried: list[dict[str, Any]] | None = None, **changes: Any) -> Plan:
        """The plan out, altered; in the one spelling that plans have."""
        made = self.federation.plan.to_json() | changes | ({} if carried is None else {"carried": carried})
        silent = {"carried": [], "origin": None}
        return Plan.from_json({key: value for key, value in made.items() if key not in silent or value != silent[key]})

    def offered(self, plan: Plan) -> int:
        """Give everybody another plan than the one out; returns where that begins in the traffic."""
        start = self.federation.mark()
        self.federation.offer(plan)
        self.federation.hostile.swallow(rf"PUT .*/rounds/{plan.round}/{plan.attempt}/(parts|key-parts|manifest)")
        self.federation.look()
        return start

    def collected(self) -> list[Contribution]:
        """The fresh contributions to round 3, and the carried one."""
        self.federation.until_ballot()
        return [*self.federation.delivered(3), self.contribution(2)]


@pytest.fixture(scope="session")
def snapshot(tmp_path_factory: pytest.TempPathFactory) -> running.Snapshot:
    folder = tmp_path_factory.mktemp("carrying")
    founded = running.found(folder, "lwe-ckks", 4, recipe=tiny.recipe(carry=True, rounds=9))
    with running.federation(folder, None, founded) as federation:
        federation.until_complete(1)
        federation.until_ballot()
        act(federation, "pause")
        federation.until_complete(2)
        site = federation.seats[3].loop.desk.site
        site.record.leave(federation.study)
        site.client.leave(federation.study)
        act(federation, "resume")
        federation.go_on(lambda: federation.rows()[-1]["round"] == 3, "the plan of round 3")
        log = tuple(federation.hostile.log)
    move(folder / "site-4", folder / "gone")
    return replace(founded, log=log)


@pytest.fixture
def departed(snapshot: running.Snapshot, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Iterator[Departed]:
    copytree(snapshot.folder, tmp_path / "stage")
    with ExitStack() as stack:
        federation = stack.enter_context(running.federation(tmp_path / "stage", caplog, snapshot))
        (carried,) = federation.plan.carried
        identity = Identity.load(Home(tmp_path / "stage" / "gone").identity)
        yield Departed(federation, carried.member.site, identity)


def act(federation: Federation, what: str) -> None:
    federation.server.http.post(f"/v1/studies/{federation.study}/{what}").raise_for_status()


# --- the stage itself


def test_control_the_honest_round_completes(departed: Departed) -> None:
    federation = departed.federation
    federation.until_complete(3)
    row = next(row for row in federation.rows() if row["round"] == 3)
    assert row["carried"] == [str(departed.leaver)]
    assert len(row["contributors"]) == 4
    assert [seat.ledgered("refusal") for seat in federation.seats] == [[]] * 3


# --- plans


def test_carried_for_a_member_that_nobody_approved(departed: Departed) -> None:
    thief = Identity.generate()
    member = departed.listed["member"] | keys_of(thief)
    forged = departed.federation.forge(departed.leaver, thief)
    carried = departed.listed | {"member": member, "manifest": forged.manifest.message.digest}
    start = departed.offered(departed.plan_with([carried]))
    departed.federation.assert_nothing_sealed(start, number=3)
    departed.federation.assert_refused("peer-not-approved", "site-4 is carried and was not approved", since=start)


def test_carried_for_a_site_that_nobody_knows(departed: Departed) -> None:
    thief, site = Identity.generate(), UUID(int=7)
    member = departed.listed["member"] | keys_of(thief) | {"site": str(site), "name": "site-7", "index": 7}
    forged = departed.federation.forge(site, thief)
    entry = {"member": member, "manifest": forged.manifest.message.digest, "epoch": departed.listed["epoch"]}
    start = departed.offered(departed.plan_with([entry, departed.listed]))
    departed.federation.assert_nothing_sealed(start, number=3)
    departed.federation.assert_refused("peer-not-approved", "site-7 is carried and was not approved", since=start)


def test_carried_for_a_member_still_on_the_roster(departed: Departed) -> None:
    """It would count twice, and its contribution of the round before would open beside few others."""
    federation = departed.federation
    victim = federation.seats[0]
    member = federation.roster.member(victim.id)
    assert member is not None
    manifest = departed.contribution(2, victim.id).manifest.message.digest
    entry = Carried(manifest=manifest, member=member, epoch=departed.listed["epoch"]).to_json()
    entries = sorted([entry, departed.listed], key=lambda each: UUID(each["member"]["site"]).bytes)
    start = departed.offered(departed.plan_with(entries))
    federation.assert_nothing_sealed(start, number=3)
    federation.assert_refused("malformed", "carries a contribution of site-1, which is on its roster", since=start)


def test_an_older_manifest_of_the_leaver(departed: Departed) -> None:
    """It is well signed, under the same key, and everybody saw it on a ballot; and everybody saw a later one."""
    older = departed.contribution(1).manifest.message.digest
    start = departed.offered(departed.plan_with([departed.listed | {"manifest": older}]))
    departed.federation.assert_nothing_sealed(start, number=3)
    words = "carries another contribution of site-4 than its last one, of round 2, attempt 1"
    departed.federation.assert_refused("carried-older", words, since=start)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"origin": "ab" * 32}, "relative to another model than the study's first one"),
        ({"k_max": 32}, "another origin, k_max, n_max or other bounds"),
        ({"n_max": 50}, "another origin, k_max, n_max or other bounds"),
        ({"bounds": [2.0, 4.0, 64.0]}, "another origin, k_max, n_max or other bounds"),
        ({"carried": [], "origin": None}, "differ on whether sites that left still count"),
    ],
)
def test_another_origin_or_other_lanes(departed: Departed, changes: dict[str, Any], words: str) -> None:
    start = departed.offered(departed.plan_with(**changes))
    departed.federation.assert_nothing_sealed(start, number=3)
    departed.federation.assert_refused("origin-changed", words, since=start)


def test_more_sums_than_the_limit_allows(departed: Departed, monkeypatch: pytest.MonkeyPatch) -> None:
    """At a third a sum, its own included: an honest coordinator stops after three, and a hostile one is stopped."""
    monkeypatch.setattr(exposure, "CARRY_LIMIT", 1.0)
    federation, listed = departed.federation, departed.listed
    federation.until_complete(4)
    federation.go_on(lambda: federation.rows()[-1]["round"] == 5, "the plan of round 5")
    assert federation.plan.carried == (), "the honest one"
    start = departed.offered(departed.plan_with([listed], k_max=64, origin=federation.plan.origin))
    federation.assert_nothing_sealed(start, number=5)
    federation.assert_refused("carried-too-often", "in sums of an exposure of 1. One more, beside no more", since=start)


# --- ballots


def refused_ballot(departed: Departed, ballot: Ballot, plan: Plan | None = None, **expected: str) -> None:
    federation = departed.federation
    start = federation.mark()
    federation.show(ballot, (), plan=plan)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused(expected["code"], expected["words"], since=start)


def test_a_carried_manifest_that_the_plan_does_not_list(departed: Departed) -> None:
    federation = departed.federation
    plan = departed.plan_with([])
    departed.offered(plan)
    fresh = [each for each in federation.delivered(3) if each.manifest.message.plan == plan.digest]
    assert len(fresh) == 3
    ballot = federation.ballot_of([*fresh, departed.contribution(2)], plan)
    refused_ballot(departed, ballot, plan, code="wrong-digest", words="for another plan than this attempt's")


def test_a_members_manifest_of_an_older_plan(departed: Departed) -> None:
    """Its contribution of the round before, in place of the one it made now."""
    federation = departed.federation
    victim = federation.seats[0].id
    others = [each for each in departed.collected() if each.manifest.message.site != victim]
    ballot = federation.ballot_of([*others, departed.contribution(2, victim)])
    refused_ballot(departed, ballot, code="wrong-digest", words="for another plan than this attempt's")


def test_a_ballot_without_what_its_plan_carries(departed: Departed) -> None:
    fresh = departed.collected()[:3]
    ballot = departed.federation.ballot_of(fresh)
    refused_ballot(departed, ballot, code="malformed", words="lists 0 of the 1 contributions that its plan carries")


def test_a_carried_contribution_hides_nobody(departed: Departed) -> None:
    """Two fresh ones and the carried one are three: too few, as whoever knows the carried one is left with two."""
    collected = departed.collected()
    ballot = departed.federation.ballot_of(collected[1:])
    words = "2 contributors, and 1 carried; at least 3 are demanded"
    refused_ballot(departed, ballot, code="malformed", words=words)


# --- key parts


def test_another_key_part_for_the_carried_one(departed: Departed) -> None:
    """The leaver's own of another round: the sum would open, of other secrets than the bodies have."""
    federation = departed.federation
    carried = departed.collected()[3]
    federation.all_vote()
    start = federation.mark()
    federation.show(federation.ballot, [replace(carried, key_parts=departed.contribution(1).key_parts)])
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused("wrong-digest", "does not have the SHA-256 it was announced with", since=start)


@pytest.mark.parametrize("which", ["the plan's own key", "a key that nobody has"])
def test_a_carried_contribution_under_another_key(departed: Departed, which: str) -> None:
    federation = departed.federation
    epoch = federation.plan.epoch if which == "the plan's own key" else "cd" * 32
    plan = departed.plan_with([departed.listed | {"epoch": epoch}])
    departed.offered(plan)
    fresh = [each for each in federation.delivered(3) if each.manifest.message.plan == plan.digest]
    listed = [*fresh, departed.contribution(2)]
    ballot = federation.ballot_of(listed, plan)
    start = federation.mark()
    federation.show(ballot, listed, plan=plan)
    federation.hostile.answer(r"GET .*/votes$", votes_for(federation.seats, ballot))
    federation.look()
    federation.assert_unopened(start)
    words = {
        "the plan's own key": "made under another key",
        "a key that nobody has": f"does not hold the key that the contribution of {departed.leaver} is under",
    }
    federation.assert_refused("opening-refused", words[which], since=start)


def votes_for(seats: list[Seat], ballot: Ballot) -> list[dict[str, Any]]:
    return [seat.identity.sign(Vote(ballot=ballot.digest, site=seat.id)).to_json() for seat in seats]
