"""What is checked before a share is opened."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
from strangers import DIGESTS

from crypto.canonical import sha256
from crypto.errors import Malformed, MalformedKeyPart, WrongDigest, WrongRecipient
from crypto.manifest import Ballot
from crypto.parameters import N
from crypto.schemes import Recipients, scheme, shares


@pytest.fixture
def sharing(federation):
    return federation.with_plan(scheme="lwe-shamir", epoch=None, threshold=3)


def answered(sharing, ballot=None, me=None, parts=4):
    """The answer to a ballot of the first site alone, whose secret is zero."""
    first, second = sharing.sites[:2]
    sealed = shares.seal_shares(sharing.plan, Recipients(sharing.roster, first), np.zeros(N, np.int64))
    manifest = sharing.manifest(first, key_parts=tuple(map(sha256, (*sealed, *sealed)))[:parts])
    signed = sharing.identities[first].sign(manifest)
    shown = Ballot(plan=ballot or sharing.plan.digest, manifests=(signed,))
    mine = {first: sealed[1]}
    return shares.open_shares(sharing.plan, sharing.roster, shown, mine, sharing.identities[second], me or second)


def test_a_share_is_answered(sharing):
    answer = answered(sharing)
    assert (answer.site, len(answer.share_sum)) == (sharing.sites[1], N)


@pytest.mark.parametrize("digest", DIGESTS)
def test_shares_are_not_answered_for_another_plan_or_roster(sharing, digest):
    with pytest.raises(WrongDigest, match="another plan"):
        answered(sharing, ballot=digest)
    with pytest.raises(WrongDigest, match="names by its digest"):
        shares.check_sharing(sharing.with_plan(roster=digest).plan, sharing.roster)


def test_a_stranger_answers_nothing(sharing):
    for stranger in (uuid.UUID(int=0), uuid.UUID(int=50)):
        with pytest.raises(WrongRecipient, match="not on this plan's roster"):
            answered(sharing, me=stranger)


def test_a_manifest_has_a_share_for_each_member(sharing):
    for parts in (3, 5):
        with pytest.raises(Malformed, match=f"lists {parts} shares"):
            answered(sharing, parts=parts)


def test_a_sealed_share_has_one_size():
    shares.check_sealed_share(bytes(shares.SEALED_SHARE_BYTES))
    for size in (0, shares.SEALED_SHARE_BYTES - 1, shares.SEALED_SHARE_BYTES + 1):
        with pytest.raises(MalformedKeyPart, match=f"this one {size}"):
            shares.check_sealed_share(bytes(size))


def test_as_many_answers_open_as_the_plan_says(federation, sharing):
    assert scheme("lwe-shamir").openings_needed(sharing.plan) == 3
    assert scheme("lwe-shamir").openings_needed(federation.plan) == 0
