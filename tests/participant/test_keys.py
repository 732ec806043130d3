"""The keyring: private files, loaded once, never shown."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pytest

from crypto.ckks_secret import SecretContext
from participant.keys import Keyring

EPOCH, NEXT = "e" * 64, "f" * 64
STUDY, OTHER = UUID(int=1), UUID(int=2)


def test_a_kept_key_survives_and_opens_what_its_public_half_seals(tmp_path: Path) -> None:
    secret = SecretContext.generate()
    Keyring(tmp_path / "keys").keep(STUDY, EPOCH, secret, secret.public_bytes())
    again = Keyring(tmp_path / "keys")
    assert again.holds(STUDY, EPOCH)
    assert again.secret(STUDY, EPOCH) is again.secret(STUDY, EPOCH)
    values = np.arange(2048, dtype=np.int64) % 65 - 32
    assert (again.secret(STUDY, EPOCH).decrypt_sum([again.public(STUDY, EPOCH).encrypt(values)]) == values).all()


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    secret = SecretContext.generate()
    ring = Keyring(tmp_path / "keys")
    ring.keep(STUDY, EPOCH, secret, secret.public_bytes())
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "keys").rglob("*"))
    assert "hidden" in repr(ring)


def test_a_key_that_was_not_given(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys")
    assert not ring.holds(STUDY, EPOCH)
    with pytest.raises(FileNotFoundError):
        ring.secret(STUDY, EPOCH)


def test_keys_that_are_not_needed_are_deleted(tmp_path: Path) -> None:
    ring, secret = Keyring(tmp_path / "keys"), SecretContext.generate()
    for study, epoch in ((STUDY, EPOCH), (STUDY, NEXT), (OTHER, "a" * 64)):
        ring.keep(study, epoch, secret, secret.public_bytes())
    ring.secret(STUDY, EPOCH), ring.public(STUDY, EPOCH)
    half_written = tmp_path / "keys" / str(STUDY) / f".{'b' * 64}.secret.4711"
    half_written.write_bytes(b"torn by a crash")
    assert ring.drop(STUDY, {NEXT}) == ["b" * 64, EPOCH]
    assert not ring.holds(STUDY, EPOCH)
    with pytest.raises(FileNotFoundError):
        ring.secret(STUDY, EPOCH)
    with pytest.raises(FileNotFoundError):
        ring.public(STUDY, EPOCH)
    assert ring.holds(STUDY, NEXT)
    assert ring.holds(OTHER, "a" * 64), "another study's"
    assert not ring.holds(STUDY, "a" * 64)
    assert ring.drop(STUDY, {NEXT}) == []
    assert ring.drop(STUDY) == [NEXT]
    assert list((tmp_path / "keys" / str(STUDY)).iterdir()) == []
    assert ring.drop(UUID(int=3)) == []
