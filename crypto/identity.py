"""Who a site is: an Ed25519 key to sign with and a hybrid HPKE key to receive with (protocol, section 5).

The HPKE key is ML-KEM-768 beside X25519, so what is sealed today stays sealed for a future quantum computer.
Signatures need only hold today. Peers approve both keys at once, as one fingerprint.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
import tempfile
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import NoReturn, Self, TypeVar, cast

from cryptography import exceptions
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.hpke import MLKEM768X25519PrivateKey, MLKEM768X25519PublicKey

from crypto.errors import InvalidSignature, Malformed
from crypto.plan import Member
from crypto.wire import Message, Signed
from crypto.words import words_of

M = TypeVar("M", bound=Message)

_MLKEM_BYTES = 1184
_KEPT = 2048  # identities that stay at hand: twice the largest roster
_FORMAT = "pleura/identity/v1"
_PARTS = {_FORMAT: ("signing", "mlkem", "x25519")}  # names of the keys in a file of that format


@dataclass(frozen=True, slots=True)
class PublicIdentity:
    """What others know of a site.

    Attributes:
        signing_key: Ed25519 public key, 32 bytes.
        hpke_key: ML-KEM-768 public key (1,184 bytes) followed by an X25519 public key (32 bytes).

    Raises:
        Malformed: the bytes are not such keys.
    """

    signing_key: bytes
    hpke_key: bytes

    def __post_init__(self) -> None:
        try:
            self.verifier()
            self.recipient()
        except ValueError as error:
            raise Malformed(f"these are not the public keys of a site: {error}") from None

    @property
    def fingerprint(self) -> str:
        """SHA-256 over both keys, hex: what peers approve."""
        return hashlib.sha256(self.signing_key + self.hpke_key).hexdigest()

    @property
    def words(self) -> str:
        """The start of the fingerprint as twelve words, to compare by telephone (see `crypto.words`)."""
        return words_of(bytes.fromhex(self.fingerprint))

    def verifier(self) -> Ed25519PublicKey:
        return Ed25519PublicKey.from_public_bytes(self.signing_key)

    def recipient(self) -> MLKEM768X25519PublicKey:
        return MLKEM768X25519PublicKey(
            MLKEM768PublicKey.from_public_bytes(self.hpke_key[:_MLKEM_BYTES]),
            X25519PublicKey.from_public_bytes(self.hpke_key[_MLKEM_BYTES:]),
        )

    @classmethod
    @lru_cache(_KEPT)
    def from_hex(cls, signing_key: str, hpke_key: str) -> Self:
        """The identity of two hex strings, as they travel. Members' keys are read once, not with every message.

        Raises:
            Malformed: not hex, or not such keys.
        """
        try:
            return cls(bytes.fromhex(signing_key), bytes.fromhex(hpke_key))
        except ValueError:
            raise Malformed("a site's public keys are written in hex") from None

    @classmethod
    def of_member(cls, member: Member) -> Self:
        """The identity of a roster's member.

        Raises:
            Malformed: the roster holds something else than keys for it.
        """
        return cls.from_hex(member.signing_key, member.hpke_key)


@dataclass(frozen=True, slots=True, eq=False)
class Identity:
    """A site's own keys. Shows only its fingerprint, refuses to be pickled or copied, is stored by `save` alone."""

    private_key: Ed25519PrivateKey = field(repr=False)
    _mlkem: MLKEM768PrivateKey = field(repr=False)
    _x25519: X25519PrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> Self:
        return cls(Ed25519PrivateKey.generate(), MLKEM768PrivateKey.generate(), X25519PrivateKey.generate())

    def __repr__(self) -> str:
        return f"Identity({self.public.fingerprint[:16]}..., private keys hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an identity is not pickled or copied: save it to its own file")

    @property
    def public(self) -> PublicIdentity:
        return PublicIdentity(
            self.private_key.public_key().public_bytes_raw(),
            self._mlkem.public_key().public_bytes_raw() + self._x25519.public_key().public_bytes_raw(),
        )

    def hpke(self) -> MLKEM768X25519PrivateKey:
        """The key that opens envelopes (see `crypto.envelope`)."""
        return MLKEM768X25519PrivateKey(self._mlkem, self._x25519)

    def sign(self, message: M) -> Signed[M]:
        signature = self.sign_bytes(message.signed_bytes()).hex()
        kind = cast("type[Signed[M]]", Signed.__class_getitem__(type(message)))
        return kind(message=message, signature=signature)

    def sign_bytes(self, data: bytes) -> bytes:
        """Ed25519 signature, 64 bytes. For a `Message` use `sign`, which keeps kinds apart."""
        return self.private_key.sign(data)

    def save(self, path: Path) -> None:
        """Write the keys to a new file that only its owner can read. A crash leaves the whole file or none.

        Raises:
            FileExistsError: there is a file already; an identity is never overwritten.
        """
        if path.exists():
            raise FileExistsError(
                f"{path} exists already and may hold keys that peers have approved. "
                "Move it away first if this site is to get a new identity."
            )
        content = {
            "format": _FORMAT,
            "signing": self.private_key.private_bytes_raw().hex(),
            "mlkem": self._mlkem.private_bytes_raw().hex(),
            "x25519": self._x25519.private_bytes_raw().hex(),
        }
        _write_private(path, json.dumps(content, indent=2).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        """The identity that `save` wrote.

        Raises:
            FileNotFoundError: there is no such file.
            PermissionError: others can read the file.
            Malformed: the file holds something else.
        """
        try:
            content = json.loads(_read_private(path))
            signing, mlkem, x25519 = (bytes.fromhex(content[part]) for part in _PARTS[content["format"]])
            return cls(
                Ed25519PrivateKey.from_private_bytes(signing),
                MLKEM768PrivateKey.from_seed_bytes(mlkem),
                X25519PrivateKey.from_private_bytes(x25519),
            )
        except (ValueError, KeyError, TypeError):
            # From None: a parser's own message may quote what it read.
            raise Malformed(
                f"{path} is not an identity file of this version. Restore it from your backup, "
                "or move it away and make a new identity, which peers then have to approve."
            ) from None


def verify(public: PublicIdentity, signed: Signed[M]) -> M:
    """The message, once its signature is found to be `public`'s.

    Raises:
        InvalidSignature: it is not.
    """
    verify_bytes(public, signed.message.signed_bytes(), bytes.fromhex(signed.signature))
    return signed.message


def verify_bytes(public: PublicIdentity, data: bytes, signature: bytes) -> None:
    """Raise unless `signature` is `public`'s Ed25519 signature of `data`.

    Raises:
        InvalidSignature: it is not.
    """
    try:
        public.verifier().verify(signature, data)
    except exceptions.InvalidSignature:
        raise InvalidSignature(
            f"this signature is not by the site with the fingerprint {public.fingerprint[:16]}..., "
            "or what it signed was changed"
        ) from None


def enrolment_bytes(invitation: str, name: str, public: PublicIdentity) -> bytes:
    """What a site signs to enrol: the invitation by its hash, so that the proof can be stored (docs/wire.md)."""
    invited = hashlib.sha256(invitation.encode()).digest()
    return b"\x00".join((b"pleura/enrolment/v1", invited, name.encode(), public.signing_key, public.hpke_key))


def _write_private(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600 whatever the umask
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
    if sys.platform == "win32":  # where a folder cannot be opened
        return
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_private(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077 and sys.platform != "win32":  # where the mode does not say who may read
                raise PermissionError(
                    f"{path} holds this site's private keys, and others on this machine can read it "
                    f"(mode {mode:04o}). Run: chmod 600 {path}"
                )
            return file.read()
    except FileNotFoundError:
        raise FileNotFoundError(f"there is no identity at {path}. Make one with: pleura-participant init") from None
