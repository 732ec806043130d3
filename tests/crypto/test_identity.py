"""Key pairs, their file, signatures, fingerprints and the words for them."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import uuid

import pytest

from crypto.errors import InvalidSignature, Malformed
from crypto.identity import Identity, PublicIdentity, enrolment_bytes, verify, verify_bytes
from crypto.manifest import Opening, Vote
from crypto.wire import Signed
from crypto.words import WORDS

ME, OTHER = Identity.generate(), Identity.generate()
VOTE = Vote(ballot="ab" * 32, site=uuid.UUID(int=9))


def test_sizes_and_fingerprint():
    public = ME.public
    assert (len(public.signing_key), len(public.hpke_key)) == (32, 1216)
    assert public.fingerprint == hashlib.sha256(public.signing_key + public.hpke_key).hexdigest()
    assert PublicIdentity.from_hex(public.signing_key.hex(), public.hpke_key.hex()) == public
    assert public != OTHER.public


def test_words_are_distinct_and_follow_the_fingerprint():
    assert len(set(WORDS)) == 256
    assert len({word[:3] for word in WORDS}) == 256
    assert all(word.isascii() and word.islower() and word.isalpha() for word in WORDS)
    words = ME.public.words.split("-")
    assert bytes(WORDS.index(word) for word in words) == bytes.fromhex(ME.public.fingerprint)[:12]


@pytest.mark.parametrize(
    ("signing_key", "hpke_key"), [("zz", "00"), ("00" * 31, "00" * 1216), ("00" * 32, "00" * 1215), ("00" * 32, "")]
)
def test_keys_of_the_wrong_form_are_refused(signing_key, hpke_key):
    with pytest.raises(Malformed, match="public keys"):
        PublicIdentity.from_hex(signing_key, hpke_key)


def test_a_member_carries_the_identity(federation):
    for member in federation.roster.members:
        assert PublicIdentity.of_member(member) == federation.identities[member.site].public


# --- signatures


def test_a_signed_message_verifies_and_survives_the_wire():
    signed = ME.sign(VOTE)
    assert verify(ME.public, signed) == VOTE
    assert verify(ME.public, Signed[Vote].decode(signed.encode())) == VOTE


def test_another_key_another_message_and_another_kind_do_not_verify():
    signed = ME.sign(VOTE)
    with pytest.raises(InvalidSignature, match="fingerprint"):
        verify(OTHER.public, signed)
    changed = Signed[Vote](message=Vote(ballot="ac" * 32, site=VOTE.site), signature=signed.signature)
    with pytest.raises(InvalidSignature):
        verify(ME.public, changed)

    class Ballotlike(Vote):
        kind_name = "opening"

    with pytest.raises(InvalidSignature):
        verify(ME.public, Signed[Ballotlike](message=Ballotlike(**VOTE.model_dump()), signature=signed.signature))
    assert Opening.kind_name == Ballotlike.kind_name


def test_enrolment_proof():
    data = enrolment_bytes("invitation", "Klinik Süd", ME.public)
    assert data.startswith(
        b"pleura/enrolment/v1\x00" + hashlib.sha256(b"invitation").digest() + b"\x00Klinik S\xc3\xbcd"
    )
    assert data.endswith(b"\x00" + ME.public.signing_key + b"\x00" + ME.public.hpke_key)
    verify_bytes(ME.public, data, ME.sign_bytes(data))
    with pytest.raises(InvalidSignature):
        verify_bytes(ME.public, enrolment_bytes("invitation", "Klinik Nord", ME.public), ME.sign_bytes(data))


# --- the file


def test_saved_and_loaded_again(tmp_path):
    path = tmp_path / "site" / "identity.json"
    ME.save(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in path.parent.iterdir()] == ["identity.json"]
    loaded = Identity.load(path)
    assert loaded.public == ME.public
    verify(ME.public, loaded.sign(VOTE))


def test_the_file_is_private_under_any_umask(tmp_path):
    former = os.umask(0)
    try:
        ME.save(tmp_path / "identity.json")
    finally:
        os.umask(former)
    assert (tmp_path / "identity.json").stat().st_mode & 0o777 == 0o600


def test_a_full_disk_leaves_no_key_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        ME.save(tmp_path / "identity.json")
    assert list(tmp_path.iterdir()) == []


def test_an_identity_is_never_overwritten(tmp_path):
    ME.save(tmp_path / "identity.json")
    with pytest.raises(FileExistsError, match="exists already"):
        OTHER.save(tmp_path / "identity.json")
    assert Identity.load(tmp_path / "identity.json").public == ME.public


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620])
def test_a_file_that_others_can_reach_is_refused(tmp_path, mode):
    path = tmp_path / "identity.json"
    ME.save(path)
    path.chmod(mode)
    with pytest.raises(PermissionError) as caught:
        Identity.load(path)
    assert f"chmod 600 {path}" in str(caught.value)
    assert f"{mode:04o}" in str(caught.value)


def test_a_missing_file_says_how_to_make_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="pleura-participant init"):
        Identity.load(tmp_path / "identity.json")


def damaged(content: str) -> list[str]:
    keys = json.loads(content)
    return [
        "",
        "[]",
        "7",
        content[:-20],
        json.dumps(keys | {"format": "pleura/identity/v9"}),
        json.dumps(keys | {"format": []}),
        json.dumps(keys | {"mlkem": keys["mlkem"][:-2]}),
        json.dumps(keys | {"signing": "not hex"}),
        json.dumps(keys | {"x25519": 5}),
        json.dumps({"format": keys["format"]}),
    ]


def test_a_damaged_file_is_refused_without_quoting_it(tmp_path):
    path = tmp_path / "identity.json"
    ME.save(path)
    for content in damaged(path.read_text()):
        path.write_text(content)
        with pytest.raises(Malformed, match="not an identity file") as caught:
            Identity.load(path)
        assert ME.private_key.private_bytes_raw().hex() not in str(caught.value)
        assert caught.value.__suppress_context__
