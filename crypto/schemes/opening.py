"""Opening a ballot: the step of a scheme that takes the study's secret key. The coordinator never imports this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from crypto.canonical import check_digest
from crypto.ckks_secret import SecretContext
from crypto.errors import MalformedKeyPart, WrongDigest
from crypto.manifest import Ballot, Manifest, Opening
from crypto.plan import Plan
from crypto.schemes import scheme


def open_ballot(
    plan: Plan, ballot: Ballot, key_parts: Mapping[UUID, Sequence[bytes]], secret: SecretContext, me: UUID
) -> Opening:
    """The sum of the contributors' secrets, added up here from key parts that match the signed manifests.

    Before it calls this, the site has checked the ballot (`check_ballot`), seen the votes of more than half of the
    roster for it (`check_votes`, `votes_needed`), and noted on disk that it answers this ballot and no other.

    Args:
        key_parts: by site, as the coordinator served them.
        me: this site, for the answer.

    Raises:
        WrongDigest: the ballot is another plan's, or a key part is not the one its site signed.
        MalformedKeyPart: a key part is missing or no key part; its site is named.
        OpeningRefused: the key parts do not add up to secrets: one was made under another key.
    """
    scheme(plan.scheme)
    if ballot.plan != plan.digest:
        raise WrongDigest("the ballot to open is for another plan than the one accepted")
    signed = [_signed_part(entry.message, key_parts, secret) for entry in ballot.manifests]
    secret_sum = secret.decrypt_sum(signed)
    return Opening(ballot=ballot.digest, site=me, secret_sum=tuple(secret_sum.tolist()))


def _signed_part(manifest: Manifest, key_parts: Mapping[UUID, Sequence[bytes]], secret: SecretContext) -> bytes:
    parts = key_parts.get(manifest.site, ())
    if len(parts) != 1 or len(manifest.key_parts) != 1:
        raise MalformedKeyPart(f"site {manifest.site} has to have one key part, {len(parts)} came")
    check_digest(parts[0], manifest.key_parts[0], f"the key part of site {manifest.site}")
    try:
        secret.check_key_part(parts[0])
    except MalformedKeyPart as error:
        raise MalformedKeyPart(f"site {manifest.site}: {error}") from None
    return parts[0]
