"""Attacks (k) and (l): what a member that colludes signs for, to have a share opened or to block the opening."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pytest
from forging import signed
from staged import Contribution, Federation, Seat

from crypto import envelope
from crypto.manifest import Vote
from crypto.parameters import CKKS_SCALE_BITS, CKKS_SLOTS
from crypto.schemes.shares import SHARE_LABEL
from crypto.shamir import SHARE_BYTES

if TYPE_CHECKING:
    from conftest import Stage

Spoil = Callable[[Federation, Seat, list[bytes]], list[bytes]]


# --- (k)


def test_k_sealed_shares_copied_into_another_manifest(stage: Stage) -> None:
    """The copier's signature is genuine. The shares are sealed in the victim's name, and open in no other."""
    federation = stage("lwe-shamir", "collected")
    victim, copier, honest = federation.seats[0], federation.seats[3], federation.seats[:3]
    original = federation.contribution(victim)
    manifest = original.manifest.message.model_copy(update={"site": copier.id})
    copied = Contribution(copier.identity.sign(manifest), original.key_parts)
    listed = [*[federation.contribution(seat) for seat in honest], copied]
    start = federation.mark()
    federation.show(federation.ballot_of(listed), listed)
    federation.look(*honest)
    federation.assert_unanswered(start)
    words = f"site-4: the shares that these sites sealed to site .* do not open, .*: {copier.id}"
    federation.assert_refused("shares-refused", words, *honest, since=start)


def test_k_one_copied_share_among_good_ones(stage: Stage) -> None:
    """Only the share for one site is copied: that site refuses, and the others' answers do not contain it."""
    federation = stage("lwe-shamir", "collected")
    victim, copier, target = federation.seats[0], federation.seats[3], federation.seats[1]
    place = [member.site for member in federation.roster.members].index(target.id)
    key_parts = list(federation.contribution(copier).key_parts)
    key_parts[place] = federation.contribution(victim).key_parts[place]
    copied = federation.resigned(
        Contribution(federation.contribution(copier).manifest, tuple(key_parts)), copier.identity
    )
    listed = [*[federation.contribution(seat) for seat in federation.seats[:3]], copied]
    start = federation.mark()
    federation.show(federation.ballot_of(listed), listed)
    federation.look(target)
    federation.assert_unanswered(start, target)
    federation.assert_refused("shares-refused", f"do not open, .*: {copier.id}", target, since=start)


# --- (l)


def contribute_spoilt(federation: Federation, seat: Seat, spoil: Spoil) -> None:
    """A member that colludes delivers a contribution whose key parts it spoilt, and remembers it as its own."""
    plan, site = federation.plan, seat.loop.desk.site
    parts, key_parts = federation.seal(seat)
    key_parts = spoil(federation, seat, key_parts)
    site.record.accept(plan)
    manifest = federation.manifest_of(seat, parts, key_parts)
    site.record.sign_manifest(plan, manifest)
    for kind, blobs in (("parts", parts), ("key-parts", key_parts)):
        for number, data in enumerate(blobs):
            site.client.put_part(plan, kind, number, data)
    site.client.put_manifest(plan, manifest)


def no_share(federation: Federation, seat: Seat, *recipients: Seat) -> dict[int, bytes]:
    """Envelopes that open for their recipients and hold no share: 2,048 numbers that are no residues."""
    sites = [member.site for member in federation.roster.members]
    empty, plan = b"\xff" * SHARE_BYTES, federation.plan.digest
    return {
        sites.index(to.id): envelope.seal(to.identity.public, empty, SHARE_LABEL, plan, seat.id, to.id)
        for to in recipients
    }


def spoilt_for(federation: Federation, colluder: Seat, *recipients: Seat) -> Spoil:
    def spoil(_: Federation, seat: Seat, key_parts: list[bytes]) -> list[bytes]:
        bad = no_share(federation, seat, *recipients)
        return [bad.get(place, data) for place, data in enumerate(key_parts)]

    return spoil


def test_l_a_share_that_is_none_for_one_site(stage: Stage) -> None:
    """It names the sender; the others answer, and the round opens without it."""
    federation = stage("lwe-shamir", "planned")
    colluder, target = federation.seats[3], federation.seats[0]
    contribute_spoilt(federation, colluder, spoilt_for(federation, colluder, target))
    federation.until_ballot()
    start = federation.mark()
    federation.until_complete()
    federation.assert_unanswered(start, target)
    federation.assert_refused("shares-refused", f"do not open, or hold no share: {colluder.id}", target, since=start)
    assert "shares sealed to it do not open, those of site-4" in str(federation.rows()[0]["refusals"])


def test_l_shares_that_are_none_for_all(stage: Stage) -> None:
    federation = stage("lwe-shamir", "planned")
    colluder, honest = federation.seats[3], federation.seats[:3]
    contribute_spoilt(federation, colluder, spoilt_for(federation, colluder, *honest))
    federation.until_ballot()
    start = federation.mark()
    federation.go_on(lambda: federation.rows()[0]["state"] == "failed", "the round's end")
    federation.assert_unanswered(start, *honest)
    federation.assert_refused("shares-refused", f"do not open, or hold no share: {colluder.id}", *honest, since=start)
    assert "those of site-4" in federation.rows()[0]["reason"]
    federation.until_complete(2)


def half_numbers(federation: Federation, seat: Seat, key_parts: list[bytes]) -> list[bytes]:
    """A ciphertext of the right form, of something that is no secret."""
    context = federation.public_context()
    return [context.encrypt_slots(np.full(CKKS_SLOTS, 0.5), CKKS_SCALE_BITS)]


def test_l_a_key_part_of_no_secret(stage: Stage) -> None:
    """Whose it is cannot be seen in the sum. The round is lost, nothing was opened, and the next one goes on."""
    federation = stage("lwe-ckks", "planned")
    contribute_spoilt(federation, federation.seats[3], half_numbers)
    federation.until_ballot()
    start = federation.mark()
    federation.go_on(lambda: federation.rows()[0]["state"] == "failed", "the round's end")
    federation.assert_unopened(start)
    federation.assert_refused("opening-refused", "do not add up to integers", since=start)
    federation.until_complete(2)


@pytest.mark.parametrize("data", [b"no ciphertext", b""], ids=["other bytes", "none"])
def test_l_a_key_part_that_is_none(stage: Stage, data: bytes) -> None:
    """Signed for by its site, and let through by a coordinator that did not look at it."""
    federation = stage("lwe-ckks", "collected")
    colluder, honest = federation.seats[3], federation.seats[:3]
    spoilt = Contribution(federation.contribution(colluder).manifest, (data,))
    listed = [*[federation.contribution(seat) for seat in honest], federation.resigned(spoilt, colluder.identity)]
    start = federation.mark()
    federation.show(federation.ballot_of(listed), listed)
    federation.hostile.answer(r"GET .*/votes$", [])
    federation.look(*honest)
    votes = [signed(Vote, each).to_json() for each in federation.hostile.sent(r"PUT .*/vote$", since=start)]
    federation.hostile.answer(r"GET .*/votes$", votes)
    federation.look(*honest)
    federation.assert_unopened(start)
    federation.assert_refused("malformed-key-part", f"site {colluder.id}: .*key part", *honest, since=start)

    federation.hostile.behave()
    federation.clock.ahead = 2.0 * federation.plan.vote_seconds
    federation.go_on(lambda: federation.rows()[0]["state"] == "failed", "the round's end")
    federation.until_complete(2)
