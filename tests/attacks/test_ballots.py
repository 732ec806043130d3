"""Attacks (a) to (c): ballots made so that what opens them would open one site's update."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
import tenseal as ts
from forging import keys_of, member_with, roster_with
from staged import Contribution, Federation, Seat

from crypto.checks import check_ballot
from crypto.errors import WrongDigest
from crypto.identity import Identity
from crypto.manifest import Manifest, Vote
from crypto.wire import Signed

if TYPE_CHECKING:
    from conftest import Stage


def victim_and_peers(federation: Federation) -> tuple[Seat, list[Seat]]:
    return federation.seats[0], federation.seats[1:]


# --- (a)


def test_a_ballot_with_one_contributor(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    victim, _ = victim_and_peers(federation)
    alone = federation.contribution(victim)
    ballot = federation.ballot_of([alone])
    assert federation.reads(victim, federation.would_open(ballot, [alone])), "the attack would pay"

    start = federation.mark()
    federation.show(ballot)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("malformed", "the ballot has 1 contributors; at least 3 are demanded", since=start)


# --- (b)


def test_b_forged_contributors_under_invented_ids(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    victim, _ = victim_and_peers(federation)
    forged = [federation.forge(uuid4(), Identity.generate()) for _ in range(2)]
    listed = [federation.contribution(victim), *forged]
    ballot = federation.ballot_of(listed)
    assert federation.reads(victim, federation.would_open(ballot, listed)), "the attack would pay"

    start = federation.mark()
    federation.show(ballot, forged)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("malformed", "not among those whose contribution the plan expects", since=start)


def test_b_forged_contributors_under_members_ids(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    victim, peers = victim_and_peers(federation)
    forged = [federation.forge(peer.id, Identity.generate()) for peer in peers]
    listed = [federation.contribution(victim), *forged]
    ballot = federation.ballot_of(listed)
    assert federation.reads(victim, federation.would_open(ballot, listed)), "the attack would pay"

    start = federation.mark()
    federation.show(ballot, forged)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("invalid-signature", "not by the site with the fingerprint", victim, since=start)


def test_b_another_roster_for_a_plan_accepted_before(stage: Stage, scheme: str) -> None:
    """The plan names its roster by a digest. Forged identities in the members' places would sign votes, too."""
    federation = stage(scheme, "collected")
    victim, peers = victim_and_peers(federation)
    thieves = {peer.id: Identity.generate() for peer in peers}
    honest = federation.roster
    forged = [federation.forge(site, thief) for site, thief in thieves.items()]
    ballot = federation.ballot_of([federation.contribution(victim), *forged])
    members = [member for member in honest.members if member.site in thieves]
    roster = roster_with(honest, *[member_with(member, **keys_of(thieves[member.site])) for member in members])

    with pytest.raises(WrongDigest, match="roster"):
        check_ballot(ballot, federation.plan, roster, victim.id, None, 3)

    start = federation.mark()
    federation.show(ballot, forged, roster=roster)
    votes = [thief.sign(Vote(ballot=ballot.digest, site=site)).to_json() for site, thief in thieves.items()]
    federation.hostile.answer(r"GET .*/votes$", votes)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("wrong-digest", "roster is not the one that the plan names", since=start)


def test_b_a_smaller_roster_for_a_plan_accepted_before(stage: Stage) -> None:
    """More than half of one is one: each site alone would open whatever ballot it is shown."""
    federation = stage("lwe-ckks", "collected")
    victim, peers = victim_and_peers(federation)
    few = [federation.contribution(seat) for seat in (victim, *peers[:2])]
    start = federation.mark()
    ballot = federation.ballot_of(few)
    roster = federation.roster
    federation.show(ballot, roster=roster.model_copy(update={"members": tuple(roster.members[:3])}))
    federation.hostile.answer(r"GET .*/votes$", [])
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("wrong-digest", "roster is not the one that the plan names", since=start)


# --- (c)


def test_c_one_manifest_in_all_places(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    victim, _ = victim_and_peers(federation)
    honest = federation.ballot
    alone = federation.contribution(victim).manifest.to_json()
    start = federation.mark()
    federation.show(honest)
    federation.hostile.answer(r"GET .*/ballot$", honest.to_json() | {"manifests": [alone] * 3})
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("malformed", "sorted by site id, each site once", since=start)


def test_c_one_manifest_under_other_names(stage: Stage, scheme: str) -> None:
    """Another site's manifest replaced by the victim's, with the name changed, and its signature kept."""
    federation = stage(scheme, "collected")
    victim, peers = victim_and_peers(federation)
    alone = federation.contribution(victim)
    renamed = [
        Contribution(
            Signed[Manifest](
                message=alone.manifest.message.model_copy(update={"site": peer.id}), signature=alone.manifest.signature
            ),
            alone.key_parts,
        )
        for peer in peers
    ]
    start = federation.mark()
    federation.show(federation.ballot_of([alone, *renamed]), renamed)
    federation.look()
    federation.assert_unanswered(start)
    federation.assert_refused("invalid-signature", "not by the site with the fingerprint", since=start)


def test_c_one_key_part_served_for_all(stage: Stage, scheme: str) -> None:
    """The ballot is honest and everybody's votes are in; only the bytes to open are the victim's, again and again."""
    federation = stage(scheme, "collected")
    victim, peers = victim_and_peers(federation)
    key_parts = federation.contribution(victim).key_parts
    start = federation.mark()
    federation.all_vote()
    repeated = [Contribution(federation.contribution(peer).manifest, key_parts) for peer in peers]
    federation.show(federation.ballot, repeated)
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused("wrong-digest", "does not have the SHA-256 it was announced with", since=start)


def test_c_scaled_key_parts(stage: Stage) -> None:
    """Ciphertexts can be calculated with: two peers' cancel each other, and the sum would be the victim's secret."""
    federation = stage("lwe-ckks", "collected", sites=3)
    victim, (second, third) = victim_and_peers(federation)
    context, blinding = federation.public_context().context, federation.forge(third.id, Identity.generate())
    negative = ts.ckks_vector_from(context, federation.contribution(second).key_parts[0]).neg()
    negative = negative.add(ts.ckks_vector_from(context, blinding.key_parts[0])).serialize()
    listed = [federation.contribution(seat) for seat in (victim, second)]
    scaled = Contribution(federation.contribution(third).manifest, (negative,))
    forged = federation.resigned(scaled, third.identity)  # with the signature that the attacker does not have
    ballot = federation.ballot_of([*listed, forged])
    assert federation.reads(victim, federation.would_open(ballot, [*listed, forged])), "the attack would pay"

    start = federation.mark()
    federation.all_vote()
    federation.show(federation.ballot, [scaled])
    federation.look()
    federation.assert_unopened(start)
    federation.assert_refused("wrong-digest", "does not have the SHA-256 it was announced with", since=start)
