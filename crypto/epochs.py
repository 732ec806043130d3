"""CKKS epochs from the sites' side: deal a key pair, accept one, pass the key on (protocol, section 5).

A wrap is the secret context in an envelope. The dealer's wraps are bound to the public context's SHA-256 (the record,
which lists the wraps, cannot be in them); a later holder's wrap is bound to the record's digest.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from crypto import envelope
from crypto.canonical import check_digest, sha256
from crypto.checks import check_epoch
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.epoch import CkksParameters, EpochRecord, Wrap, WrapAddition
from crypto.errors import Malformed, WrongRecipient
from crypto.identity import Identity, PublicIdentity
from crypto.plan import Member, Roster
from crypto.wire import Signed

WRAP_LABEL = "pleura/wrap/v1"


class Dealt(NamedTuple):
    """A new epoch: what is published, and the key, which stays.

    Attributes:
        record: signed by the dealer.
        public_context: to publish as it is; the record has its SHA-256.
        wraps: for every member, the dealer included, the sealed key; the record has their SHA-256.
        secret: the key.
    """

    record: Signed[EpochRecord]
    public_context: bytes
    wraps: dict[UUID, bytes]
    secret: SecretContext


def deal(identity: Identity, me: UUID, study: UUID, number: int, roster: Roster) -> Dealt:
    """A new key pair for a study, wrapped for every member of the roster: the caller approved each of them.

    Raises:
        Malformed: the roster is another study's, or a member's keys are no keys.
    """
    if roster.study != study:
        raise Malformed("the roster belongs to another study than the one to deal a key for")
    secret = SecretContext.generate()
    public = secret.public_bytes()
    wraps = {member.site: _wrap(secret, member, sha256(public), me) for member in roster.members}
    record = EpochRecord(
        study=study,
        epoch=number,
        dealer=me,
        parameters=CkksParameters(),
        context=sha256(public),
        wraps=tuple(Wrap(recipient=site, sha256=sha256(sealed)) for site, sealed in wraps.items()),
    )
    return Dealt(identity.sign(record), public, wraps, secret)


def accept(signed: Signed[EpochRecord], public_context: bytes, roster: Roster) -> tuple[EpochRecord, PublicContext]:
    """The record and its public context, if a member of the roster signed the record and it names these bytes.

    The caller approves every member of the roster first, and compares the record's digest with the plan's.

    Raises:
        InvalidSignature: the record is not by the member it names as dealer.
        WrongDigest: other bytes than the record names.
        Malformed: the record is another study's, or the context not a public one of the preset.
    """
    record = check_epoch(signed, roster)
    check_digest(public_context, record.context, "the public CKKS context")
    return record, PublicContext.load(public_context)


def unwrap(identity: Identity, me: UUID, source: EpochRecord | WrapAddition, sealed: bytes) -> SecretContext:
    """The epoch's secret key, from this site's wrap. `SecretContext.check_pair` tells whether it is the right one.

    Args:
        source: what lists the wrap, its signature verified: the record, or an addition to it.

    Raises:
        WrongDigest: other bytes than the source lists.
        WrongRecipient: the source lists no wrap for this site, or it does not open.
        Malformed: there is no CKKS key in it.
    """
    wraps, sender, context = _listed(source)
    wrap = next((wrap for wrap in wraps if wrap.recipient == me), None)
    if wrap is None:
        raise WrongRecipient(f"site {me} was given no key of this epoch; a member that holds it has to add a wrap")
    check_digest(sealed, wrap.sha256, "the wrapped CKKS key")
    return SecretContext.load(envelope.open(identity, sealed, WRAP_LABEL, context, sender, me))


def extend(
    identity: Identity, me: UUID, record: EpochRecord, secret: SecretContext, newcomer: Member
) -> tuple[Signed[WrapAddition], bytes]:
    """The epoch's key for a newcomer whom this site approved: a signed addition to the record, and the wrap."""
    sealed = _wrap(secret, newcomer, record.digest, me)
    wrap = Wrap(recipient=newcomer.site, sha256=sha256(sealed))
    return identity.sign(WrapAddition(epoch=record.digest, holder=me, wrap=wrap)), sealed


def acknowledge(identity: Identity, me: UUID, record: EpochRecord) -> Signed[WrapAddition]:
    """This site's word that it holds the epoch's key: nobody needs to pass it on to it any more."""
    return identity.sign(WrapAddition(epoch=record.digest, holder=me, wrap=Wrap(recipient=me, sha256=record.context)))


def _wrap(secret: SecretContext, member: Member, context: str, sender: UUID) -> bytes:
    recipient = PublicIdentity.of_member(member)
    return envelope.seal(recipient, secret.secret_bytes(), WRAP_LABEL, context, sender, member.site)


def _listed(source: EpochRecord | WrapAddition) -> tuple[tuple[Wrap, ...], UUID, str]:
    """The wraps that a record or an addition lists, who sealed them, and what they are bound to."""
    if isinstance(source, EpochRecord):
        return source.wraps, source.dealer, source.context
    return (source.wrap,), source.holder, source.epoch
