"""A key pair is dealt, accepted and passed on; whatever is not the members' own doing is refused."""

from __future__ import annotations

import uuid

import pytest

from crypto import envelope
from crypto.canonical import sha256
from crypto.checks import check_addition, check_epoch
from crypto.ckks_secret import SecretContext
from crypto.epoch import EpochRecord, Wrap, WrapAddition
from crypto.epochs import WRAP_LABEL, accept, deal, extend, unwrap
from crypto.errors import InvalidSignature, Malformed, PrivateContext, WrongDigest, WrongRecipient
from crypto.identity import Identity
from crypto.plan import Member, Roster


@pytest.fixture(scope="module")
def newcomer() -> tuple[Identity, Member]:
    identity, site = Identity.generate(), uuid.UUID(int=40)
    keys = {"signing_key": identity.public.signing_key.hex(), "hpke_key": identity.public.hpke_key.hex()}
    return identity, Member(site=site, name="Newcomer", index=9, **keys)


def resigned(federation, **changes):
    """The epoch record with some fields changed, signed by its dealer again."""
    record = EpochRecord.from_json(federation.dealt.record.message.to_json() | changes)
    return federation.identities[record.dealer].sign(record)


def test_every_member_gets_the_key(federation):
    signed, context, wraps, secret = federation.dealt
    record, public = accept(signed, context, federation.roster)
    assert [wrap.recipient for wrap in record.wraps] == federation.sites == list(wraps)
    assert public.digest == record.context == sha256(context)
    for site, identity in federation.identities.items():
        unwrap(identity, site, record, wraps[site]).check_pair(public)
    secret.check_pair(public)


def test_each_epoch_has_a_key_of_its_own(federation):
    dealer = federation.sites[0]
    study = federation.roster.study
    other = deal(federation.identities[dealer], dealer, study, 2, federation.roster)
    _, public = accept(other.record, other.public_context, federation.roster)
    other.secret.check_pair(public)
    assert public.digest != federation.public.digest
    with pytest.raises(WrongDigest):  # a wrap of one epoch under the record of another
        unwrap(federation.identities[dealer], dealer, other.record.message, federation.dealt.wraps[dealer])


# --- accepting


def test_a_record_signed_by_another_than_its_dealer_is_refused(federation):
    forged = federation.identities[federation.sites[1]].sign(federation.dealt.record.message)
    with pytest.raises(InvalidSignature):
        accept(forged, federation.dealt.public_context, federation.roster)


def test_a_dealer_who_is_no_member_is_refused(federation, newcomer):
    identity, member = newcomer
    with_stranger = Roster(study=federation.roster.study, members=(*federation.roster.members, member))
    dealt = deal(identity, member.site, with_stranger.study, 1, with_stranger)
    accept(dealt.record, dealt.public_context, with_stranger)
    with pytest.raises(InvalidSignature, match="not on the roster"):
        accept(dealt.record, dealt.public_context, federation.roster)


def test_another_studys_record_is_refused(federation):
    other = str(uuid.UUID(int=78))
    with pytest.raises(Malformed, match="another study"):
        check_epoch(resigned(federation, study=other), federation.roster)
    for number in (76, 78):
        with pytest.raises(Malformed, match="another study"):
            deal(
                federation.identities[federation.sites[0]],
                federation.sites[0],
                uuid.UUID(int=number),
                1,
                federation.roster,
            )


def test_a_context_with_other_bytes_is_refused(federation):
    again = federation.dealt.secret.public_bytes()  # the same key, written another way
    for data in (b"", again + b"\x00", SecretContext.generate().public_bytes()):
        with pytest.raises(WrongDigest, match="public CKKS context"):
            accept(federation.dealt.record, data, federation.roster)


def test_a_private_context_is_refused_even_where_the_dealer_signed_it(federation):
    private = federation.dealt.secret.secret_bytes()
    with pytest.raises(PrivateContext):
        accept(resigned(federation, context=sha256(private)), private, federation.roster)


def test_other_parameters_are_no_record(federation):
    fields = federation.dealt.record.message.to_json()
    for change in ({"degree": 8192}, {"degree": 2048}, {"moduli": [50, 49]}, {"scale_bits": 31}, {"scale_bits": 29}):
        with pytest.raises(Malformed, match="not the protocol's CKKS parameters"):
            EpochRecord.from_json(fields | {"parameters": fields["parameters"] | change})


# --- unwrapping


def test_a_wrap_of_another_member_is_refused(federation):
    first, second = federation.sites[:2]
    record, wraps = federation.dealt.record.message, federation.dealt.wraps
    with pytest.raises(WrongDigest, match="wrapped CKKS key"):
        unwrap(federation.identities[first], first, record, wraps[second])
    with pytest.raises(WrongRecipient):  # the right bytes with the wrong keys
        unwrap(federation.identities[first], second, record, wraps[second])


def test_a_site_without_a_wrap_is_told_so(federation, newcomer):
    identity, member = newcomer
    for site in (member.site, uuid.UUID(int=0)):
        with pytest.raises(WrongRecipient, match="was given no key"):
            unwrap(identity, site, federation.dealt.record.message, b"")


def test_a_changed_wrap_is_refused(federation):
    site = federation.sites[2]
    changed = bytearray(federation.dealt.wraps[site])
    changed[2000] ^= 1
    with pytest.raises(WrongDigest):
        unwrap(federation.identities[site], site, federation.dealt.record.message, bytes(changed))


@pytest.mark.parametrize("content", [b"", b"no key", bytes(60_000)])
def test_a_wrap_without_a_key_in_it_is_refused(federation, content):
    dealer, site = federation.sites[:2]
    public = federation.identities[site].public
    record = federation.dealt.record.message
    sealed = envelope.seal(public, content, WRAP_LABEL, record.context, dealer, site)
    wraps = [Wrap(recipient=site, sha256=sha256(sealed)).to_json()]
    with pytest.raises(Malformed):
        unwrap(federation.identities[site], site, resigned(federation, wraps=wraps).message, sealed)


# --- a newcomer


@pytest.mark.parametrize(("holder", "recipient", "acknowledges"), [(4, 4, True), (4, 5, False), (5, 4, False)])
def test_an_addition_to_oneself_is_an_acknowledgement(holder, recipient, acknowledges):
    wrap = Wrap(recipient=uuid.UUID(int=recipient), sha256="12" * 32)
    addition = WrapAddition(epoch="12" * 32, holder=uuid.UUID(int=holder), wrap=wrap)
    assert addition.acknowledges is acknowledges


def test_a_newcomer_gets_the_key_from_any_holder(federation, newcomer):
    identity, member = newcomer
    record, holder = federation.dealt.record.message, federation.sites[3]
    held = unwrap(federation.identities[holder], holder, record, federation.dealt.wraps[holder])
    signed, sealed = extend(federation.identities[holder], holder, record, held, member)
    addition = check_addition(signed, record, federation.roster)
    unwrap(identity, member.site, addition, sealed).check_pair(federation.public)


def test_additions_by_strangers_and_to_other_epochs_are_refused(federation, newcomer):
    identity, member = newcomer
    record, holder = federation.dealt.record.message, federation.sites[3]
    signed, sealed = extend(federation.identities[holder], holder, record, federation.dealt.secret, member)
    with pytest.raises(WrongDigest, match="another epoch"):
        check_addition(signed, resigned(federation, epoch=2).message, federation.roster)
    with pytest.raises(InvalidSignature):
        check_addition(identity.sign(signed.message), record, federation.roster)
    own = WrapAddition(epoch=record.digest, holder=member.site, wrap=signed.message.wrap)
    with pytest.raises(InvalidSignature, match="not on the roster"):
        check_addition(identity.sign(own), record, federation.roster)
    claimed = WrapAddition(epoch=record.digest, holder=federation.sites[0], wrap=signed.message.wrap)
    with pytest.raises(WrongRecipient):  # sealed by one holder, claimed by another
        unwrap(identity, member.site, claimed, sealed)
