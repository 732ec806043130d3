"""The keyring: private files, loaded once, never shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crypto.ckks_secret import SecretContext
from participant.keys import Keyring

EPOCH = "e" * 64


def test_a_kept_key_survives_and_opens_what_its_public_half_seals(tmp_path: Path) -> None:
    secret = SecretContext.generate()
    Keyring(tmp_path / "keys").keep(EPOCH, secret, secret.public_bytes())
    again = Keyring(tmp_path / "keys")
    assert again.holds(EPOCH)
    assert again.secret(EPOCH) is again.secret(EPOCH)
    values = np.arange(2048, dtype=np.int64) % 65 - 32
    assert (again.secret(EPOCH).decrypt_sum([again.public(EPOCH).encrypt(values)]) == values).all()


def test_only_the_owner_reads_keys(tmp_path: Path) -> None:
    secret = SecretContext.generate()
    ring = Keyring(tmp_path / "keys")
    ring.keep(EPOCH, secret, secret.public_bytes())
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert all(file.stat().st_mode & 0o077 == 0 for file in (tmp_path / "keys").iterdir())
    assert "hidden" in repr(ring)


def test_a_key_that_was_not_given(tmp_path: Path) -> None:
    ring = Keyring(tmp_path / "keys")
    assert not ring.holds(EPOCH)
    with pytest.raises(FileNotFoundError):
        ring.secret(EPOCH)
