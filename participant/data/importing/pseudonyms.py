"""What stands for a patient, a study or a series in all that is stored: keyed hashes that only this site can make."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from pydicom.uid import UID

from participant.files import write_whole
from participant.settings import ConfigError, Home

_SALT_BYTES: Final = 32
_SHOWN: Final = 20  # hexadecimal digits: 80 bits, so that no two of a hospital's millions of images meet


class Pseudonyms:
    """Keyed hashes of this site's identifiers: always the same for one of them, and nothing without the salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def __repr__(self) -> str:
        return "Pseudonyms(salt hidden)"

    @classmethod
    def of_home(cls, home: Home) -> Pseudonyms:
        """With the salt in the home folder, which is drawn when there is none.

        Raises:
            ConfigError: the file holds something else.
        """
        if not home.import_salt.exists():
            write_whole(home.import_salt, secrets.token_hex(_SALT_BYTES).encode())
        try:
            salt = bytes.fromhex(home.import_salt.read_text("ascii").strip())
        except ValueError:
            salt = b""
        if len(salt) != _SALT_BYTES:
            words = f"{home.import_salt} is damaged. Restore it from a backup: without it the cases that were imported "
            raise ConfigError(words + "before are not known again. Or delete it, and import into another folder.")
        return cls(salt)

    def of(self, kind: str, value: str) -> str:
        """What stands for an identifier; "" stands for none, so that cases without one are not taken for each other's.

        Args:
            kind: what it identifies: patient, study, series, accession, instance, file or salt.
        """
        value = value.strip()
        return self._keyed(kind, value).hex()[:_SHOWN] if value else ""

    def uid(self, value: str) -> UID:
        """What stands for a DICOM UID (PS3.5 B.2)."""
        return UID(f"2.25.{int.from_bytes(self._keyed('uid', value)[:16], 'big')}")

    def _keyed(self, kind: str, value: str) -> bytes:
        return hmac.digest(self._salt, f"{kind}\0{value}".encode(), hashlib.sha256)
