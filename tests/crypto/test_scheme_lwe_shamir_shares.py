"""Shares under `lwe-shamir` that do not open: who is named, and who is not."""

from __future__ import annotations

import uuid

import pytest
import shamir_round
from shamir_round import IDENTITIES, SITES, STRANGER, Round

from crypto import checks, envelope
from crypto.errors import Malformed, SharesRefused, WrongDigest, WrongRecipient
from crypto.manifest import ShareRefusal
from crypto.schemes.shares import SHARE_LABEL
from crypto.shamir import P

updates, played = shamir_round.updates, shamir_round.played


def test_a_share_copied_into_another_manifest_names_the_copier(played):
    """A member that passes off another's sealed shares as its own, to have them added twice."""
    owner, copier = SITES[0], SITES[2]
    for recipient, data in zip(SITES, played.key_parts[owner], strict=True):
        played.replace_share(copier, recipient, data)
    for site in SITES:
        with pytest.raises(SharesRefused, match=f"do not open, or hold no share: {copier}") as caught:
            played.answer(site)
        assert caught.value.senders == (copier,)


def test_a_share_of_another_attempt_does_not_open(federation, played, updates):
    later = Round(federation, updates[:3], [40, 250, 80], attempt=2)
    later.replace_share(SITES[0], SITES[4], played.key_parts[SITES[0]][4])
    with pytest.raises(SharesRefused) as caught:
        later.answer(SITES[4])
    assert caught.value.senders == (SITES[0],)
    later.answer(SITES[5])


def test_shares_sealed_to_the_wrong_members_name_their_sender(played):
    first, second, *rest = played.key_parts[SITES[1]]
    for recipient, data in zip(SITES, (second, first, *rest), strict=True):
        played.replace_share(SITES[1], recipient, data)
    for site in SITES[:2]:
        with pytest.raises(SharesRefused) as caught:
            played.answer(site)
        assert caught.value.senders == (SITES[1],)
    played.answer(SITES[2])


@pytest.mark.parametrize(
    "content", [b"", bytes(8191), bytes(8193), b"\xff" * 8192, bytes(8188) + P.to_bytes(4, "little")], ids=len
)
def test_an_envelope_without_a_share_names_its_sender(played, content):
    sender, site = SITES[2], SITES[6]
    public = IDENTITIES[site].public
    played.replace_share(sender, site, envelope.seal(public, content, SHARE_LABEL, played.plan.digest, sender, site))
    with pytest.raises(SharesRefused) as caught:
        played.answer(site)
    assert caught.value.senders == (sender,)


def test_every_sender_is_named_at_once(played):
    for sender, data in ((SITES[0], b""), (SITES[2], b"junk" * 2000)):
        played.replace_share(sender, SITES[6], data)
    with pytest.raises(SharesRefused) as caught:
        played.answer(SITES[6])
    assert caught.value.senders == (SITES[0], SITES[2])
    refusal = ShareRefusal(ballot=played.ballot.digest, site=SITES[6], senders=caught.value.senders)
    signed = IDENTITIES[SITES[6]].sign(refusal)
    assert type(signed).decode(signed.encode()) == signed


def test_the_others_open_what_one_cannot(played, updates):
    played.replace_share(SITES[0], SITES[6], b"junk" * 2000)
    combined = played.combine(played.answers(SITES[:6]))
    assert combined.wrong == ()
    assert played.reveal(combined.values).counts.samples == 370


def test_what_the_coordinator_serves_is_what_was_signed(played):
    """Its own doing, or damage on the way: no contributor is blamed."""
    site = SITES[3]
    served = played.served(site)
    for wrong in (served[SITES[1]], served[SITES[0]][:-1], b""):
        with pytest.raises(WrongDigest, match=f"share sealed by site {SITES[0]}"):
            played.answer(site, sealed=served | {SITES[0]: wrong})
    del served[SITES[0]]
    with pytest.raises(Malformed, match=f"{SITES[0]} sealed to this site was not served") as caught:
        played.answer(site, sealed=served)
    assert not isinstance(caught.value, SharesRefused)


def test_shares_beyond_the_ballot_are_not_added(played):
    answer = played.answer(SITES[0])
    more = played.served(SITES[0]) | {SITES[5]: b"junk"}
    assert played.answer(SITES[0], sealed=more) == answer


def test_a_site_that_joined_later_holds_no_shares(played):
    with pytest.raises(WrongRecipient, match="from the next plan on"):
        played.answer(SITES[0], me=uuid.UUID(int=50), identity=STRANGER)


def test_another_identity_opens_nothing(played):
    with pytest.raises(SharesRefused):
        played.answer(SITES[0], identity=STRANGER)


def test_another_plans_ballot_is_not_answered(played, federation, updates):
    later = Round(federation, updates[:3], [40, 250, 80], attempt=2)
    with pytest.raises(WrongDigest, match="another plan"):
        played.answer(SITES[0], ballot=later.ballot)


def test_a_manifest_with_another_number_of_shares_is_not_answered(played):
    parts, key_parts = played.manifests[SITES[0]]
    played.manifests[SITES[0]] = parts, key_parts[:-1]
    with pytest.raises(Malformed, match="6 shares, the roster 7"):
        played.answer(SITES[6])
    with pytest.raises(Malformed, match="6 key parts"):
        checks.check_ballot(played.ballot, played.plan, played.roster, SITES[6], None, 3)
