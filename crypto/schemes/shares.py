"""Key parts of `lwe-shamir`: a site shares its secret among the roster, and adds up the shares sealed to it.

Each share is in an envelope bound to the plan, its sender and its recipient, so it opens in this attempt, as this
sender's, and nowhere else. No key outlives the attempt: there is nothing that one site could open another's share with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto import envelope
from crypto.canonical import check_digest
from crypto.errors import Malformed, MalformedKeyPart, SharesRefused, WrongDigest, WrongRecipient
from crypto.identity import Identity, PublicIdentity
from crypto.manifest import Ballot, Manifest, ShareOpening
from crypto.plan import Plan, Roster
from crypto.schemes.base import Recipients
from crypto.shamir import (
    SHARE_BYTES,
    Share,
    add_shares,
    check_indices,
    minimum_threshold,
    read_share,
    split,
    write_share,
)

SHARE_LABEL: Final = "pleura/share/v1"
SEALED_SHARE_BYTES: Final = SHARE_BYTES + envelope.OVERHEAD


def check_sharing(plan: Plan, roster: Roster) -> int:
    """The plan's threshold, if shares may be dealt and answered under it.

    Raises:
        WrongDigest: another roster than the plan names.
        Malformed: no threshold, one so low that two ballots could be opened with few answering both, one that the
            roster never reaches; or an index at which a share would be the secret itself.
    """
    if roster.digest != plan.roster:
        raise WrongDigest("this roster is not the one that the plan names by its digest")
    members, threshold = len(roster.members), plan.threshold or 0
    if not minimum_threshold(members) <= threshold <= members:
        raise Malformed(
            f"with {members} members, shares are dealt so that {minimum_threshold(members)} to {members} of them open; "
            f"the plan ({plan.scheme}) says {threshold or 'nothing'}"
        )
    check_indices(member.index for member in roster.members)
    return threshold


def seal_shares(plan: Plan, to: Recipients, secret: NDArray[np.int64]) -> tuple[bytes, ...]:
    """The key parts of a contribution: one sealed share of the secret, int64 [2048], for each member, in roster order.

    Raises:
        WrongDigest, Malformed: as `check_sharing`, or a member's keys are no keys.
    """
    threshold = check_sharing(plan, to.roster)
    members = to.roster.members
    shares = split(secret, threshold, [member.index for member in members])
    return tuple(
        envelope.seal(
            PublicIdentity.of_member(member),
            write_share(shares[member.index]),
            SHARE_LABEL,
            plan.digest,
            to.sender,
            member.site,
        )
        for member in members
    )


def check_sealed_share(sealed: bytes) -> None:
    """Raise unless the bytes can be a sealed share, as far as anyone but its recipient can tell.

    Raises:
        MalformedKeyPart: another length.
    """
    if len(sealed) != SEALED_SHARE_BYTES:
        raise MalformedKeyPart(f"a sealed share has {SEALED_SHARE_BYTES} bytes, this one {len(sealed)}")


def open_shares(
    plan: Plan, roster: Roster, ballot: Ballot, sealed: Mapping[UUID, bytes], identity: Identity, me: UUID
) -> ShareOpening:
    """This site's answer to a ballot: the shares that its contributors sealed to this site, opened and added up here.

    The answer is the vote. Before it calls this, the site has checked the ballot (`check_ballot`), and noted on disk
    that it answers this ballot and no other.

    Args:
        sealed: by contributor, the key part with this site's place in the roster, as the coordinator served it.

    Raises:
        WrongDigest: the ballot is another plan's, or a share is not the one its site signed for: the coordinator's
            doing, or damaged on its way, so nobody else is blamed.
        WrongRecipient: this site is not on the roster, so no share was made for it.
        Malformed: as `check_sharing`; or the coordinator serves no share of a contributor.
        SharesRefused: naming every contributor whose share does not open: to be signed as a `ShareRefusal`.
    """
    check_sharing(plan, roster)
    if ballot.plan != plan.digest:
        raise WrongDigest("the ballot to open is for another plan than the one accepted")
    place = _place(roster, me)
    manifests = [entry.message for entry in ballot.manifests]
    checked = {manifest.site: _signed_share(manifest, place, len(roster.members), sealed) for manifest in manifests}
    shares, refused = [], []
    for sender, data in checked.items():
        try:
            shares.append(_open_share(plan, data, identity, sender, me))
        except (WrongRecipient, Malformed):
            refused.append(sender)
    if refused:
        names = ", ".join(map(str, refused))
        raise SharesRefused(
            f"the shares that these sites sealed to site {me} do not open, or hold no share: {names}. "
            "They are the bytes that those sites signed for",
            tuple(refused),
        )
    return ShareOpening(ballot=ballot.digest, site=me, share_sum=tuple(add_shares(shares).tolist()))


def _place(roster: Roster, me: UUID) -> int:
    for place, member in enumerate(roster.members):
        if member.site == me:
            return place
    raise WrongRecipient(
        f"site {me} is not on this plan's roster: no share was made for it. It answers from the next plan on"
    )


def _signed_share(manifest: Manifest, place: int, members: int, sealed: Mapping[UUID, bytes]) -> bytes:
    if len(manifest.key_parts) != members:
        raise Malformed(
            f"the manifest of site {manifest.site} lists {len(manifest.key_parts)} shares, the roster {members} members"
        )
    if manifest.site not in sealed:
        raise Malformed(f"the share that site {manifest.site} sealed to this site was not served")
    check_digest(sealed[manifest.site], manifest.key_parts[place], f"the share sealed by site {manifest.site}")
    return sealed[manifest.site]


def _open_share(plan: Plan, data: bytes, identity: Identity, sender: UUID, me: UUID) -> Share:
    return read_share(envelope.open(identity, data, SHARE_LABEL, plan.digest, sender, me))
