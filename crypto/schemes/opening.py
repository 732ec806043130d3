"""Opening a ballot: the step of a scheme that takes the study's secret key. The coordinator never imports this."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto.canonical import check_digest
from crypto.checks import carried_as
from crypto.ckks_body import read_frames
from crypto.ckks_secret import SecretContext
from crypto.errors import Malformed, MalformedKeyPart, OpeningRefused, WrongDigest
from crypto.layout import Layout
from crypto.manifest import Ballot, Manifest, Opening
from crypto.plan import Plan
from crypto.schemes import scheme
from crypto.schemes.ckks import body_shape, check_slots
from crypto.slots import SlotFormat
from crypto.wire import Digest


def open_ballot(
    plan: Plan,
    ballot: Ballot,
    key_parts: Mapping[UUID, Sequence[bytes]],
    secret: SecretContext,
    me: UUID,
    former: Mapping[Digest, SecretContext] = MappingProxyType({}),
) -> Opening:
    """The sum of the contributors' secrets, added up here from key parts that match the signed manifests.

    Before it calls this, the site has checked the ballot (`check_ballot`), seen the votes of more than half of the
    roster for it (`check_votes`, `votes_needed`), and noted on disk that it answers this ballot and no other.

    Args:
        key_parts: by site, as the coordinator served them.
        secret: the key of the plan's epoch.
        me: this site, for the answer.
        former: keys of the epochs that carried contributions were sealed under. Sums under different keys are opened
            one by one, and only their total is answered.

    Raises:
        WrongDigest: the ballot is another plan's, or a key part is not the one its site signed.
        MalformedKeyPart: a key part is missing or no key part; its site is named.
        OpeningRefused: the key parts do not add up to secrets: one was made under another key; or a key is not here.
    """
    scheme(plan.scheme)
    if ballot.plan != plan.digest:
        raise WrongDigest("the ballot to open is for another plan than the one accepted")
    current = plan.epoch or ""
    keys = {**former, current: secret}
    groups: dict[Digest, list[bytes]] = {}
    for manifest in (entry.message for entry in ballot.manifests):
        carried = carried_as(manifest, plan)
        epoch = current if carried is None else carried.epoch
        if epoch not in keys:
            raise OpeningRefused(f"this site does not hold the key that the contribution of {manifest.site} is under")
        groups.setdefault(epoch, []).append(_signed_part(manifest, key_parts, keys[epoch]))
    secret_sum = sum(keys[epoch].decrypt_sum(parts) for epoch, parts in groups.items())
    return Opening(ballot=ballot.digest, site=me, secret_sum=tuple(np.asarray(secret_sum).tolist()))


def open_bodies(
    plan: Plan, layout: Layout, ballot: Ballot, totals: Iterable[bytes | memoryview], secret: SecretContext
) -> Iterator[bytes]:
    """Under `ckks`: the opened parts, little-endian float32, one for each summed part and in the memory of one.

    Each slot holds the contributors' sum and noise of deviation 2^-20, fresh from the operating system. A second
    opening of the same ballot would thin that noise out: the parts are kept until the round has ended, and the answer
    signed once, a `BodyOpening` of their SHA-256. What the site has to have checked before is as in `open_ballot`.

    Args:
        totals: the summed parts in order, as the coordinator served them. Whether they are the sum, no site can tell.

    Raises:
        WrongDigest: the ballot is another plan's.
        Malformed: a summed part is none, or their number is wrong.
        OpeningRefused: it opens to what the contributors cannot have added up to: one was made under another key.
    """
    if ballot.plan != plan.digest:
        raise WrongDigest("the ballot to open is for another plan than the one accepted")
    shape, scale_bits = body_shape(plan, layout), SlotFormat(plan.k_max).scale_bits
    count = 0
    for number, total in enumerate(totals):
        if number >= shape.parts:
            raise Malformed(f"more than {shape.parts} summed parts were served")
        slots = _opened(total, number, shape.part_polynomials(number), secret, scale_bits)
        check_slots(slots, len(ballot.manifests))
        yield slots.astype("<f4", copy=False).tobytes()
        count = number + 1
    if count != shape.parts:
        raise Malformed(f"{count} of {shape.parts} summed parts were served")


def _opened(
    total: bytes | memoryview, number: int, ciphertexts: int, secret: SecretContext, scale_bits: int
) -> NDArray[np.float32]:
    try:
        rows = [secret.open_slots(data, scale_bits) for data in read_frames(total, ciphertexts)]
    except Malformed as error:
        raise Malformed(f"summed part {number}: {error}") from None
    return np.concatenate(rows).astype(np.float32)


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
