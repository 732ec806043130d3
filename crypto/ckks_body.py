"""A body part under the scheme `ckks`: some ciphertexts, each behind its length as a little-endian u32.

Contributions and their sums have one form, so that a site opens what it is served as it would have been uploaded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

from crypto.ckks_public import PublicContext, read_ciphertext
from crypto.errors import Malformed
from crypto.parameters import CKKS_BODY_LIMIT, CKKS_SLOTS

_LENGTH: Final = 4  # bytes


def body_limit(count: int) -> int:
    """Most bytes of a part of `count` ciphertexts."""
    return count * (_LENGTH + CKKS_BODY_LIMIT)


def encrypt_part(public: PublicContext, slots: NDArray[np.float32], scale_bits: int) -> bytes:
    """A part of whole ciphertexts, from slots of a multiple of 2,048."""
    return write_frames(public.encrypt_slots(row, scale_bits) for row in slots.reshape(-1, CKKS_SLOTS))


def check_part(public: PublicContext, data: bytes | memoryview, count: int, scale_bits: int) -> None:
    """Raise unless `data` is a part of just `count` ciphertexts that can be added.

    Raises:
        Malformed: with what is wrong, and where.
    """
    for _ in _read(public.context, data, count, scale_bits):
        pass


class BodyAdder:
    """Adds the same part of several contributions up. Memory is two parts, for any number of them."""

    def __init__(self, public: PublicContext, count: int, scale_bits: int) -> None:
        self._context, self._count, self._scale_bits = public.context, count, scale_bits
        self._sums: list[ts.CKKSVector] = []

    def add(self, part: bytes | memoryview) -> None:
        """Add one more.

        Raises:
            Malformed: as `check_part`; or it cancels the encryption of what was added before.
        """
        vectors = list(_read(self._context, part, self._count, self._scale_bits))
        if not self._sums:
            self._sums = vectors
            return
        try:
            for total, vector in zip(self._sums, vectors, strict=True):
                total.add_(vector)
        except RuntimeError as error:  # SEAL refuses a sum that lies open
            raise Malformed(f"these ciphertexts cannot be added ({error})") from None

    def total(self) -> bytes:
        """The sum, as a part.

        Raises:
            ValueError: nothing was added.
        """
        if not self._sums:
            raise ValueError("no part was added, so there is no sum")
        return write_frames(bytes(vector.serialize()) for vector in self._sums)


def write_frames(ciphertexts: Iterable[bytes]) -> bytes:
    """The bytes of a part."""
    return b"".join(piece for data in ciphertexts for piece in (len(data).to_bytes(_LENGTH, "little"), data))


def read_frames(data: bytes | memoryview, count: int) -> Iterator[bytes]:
    """The ciphertexts of a part of `count`, not yet looked into.

    Raises:
        Malformed: more or fewer, or one larger than any ciphertext.
    """
    view, place = memoryview(data), 0
    for number in range(count):
        length = int.from_bytes(view[place : place + _LENGTH], "little")
        start, place = place + _LENGTH, place + _LENGTH + length
        if length > CKKS_BODY_LIMIT or place > len(view):
            raise Malformed(
                f"ciphertext {number} of {count} says it has {length} bytes, of {max(len(view) - start, 0)} that are "
                f"left and at most {CKKS_BODY_LIMIT}"
            )
        yield bytes(view[start:place])
    if place != len(view):
        raise Malformed(f"{len(view) - place} bytes follow the last of {count} ciphertexts")


def _read(context: ts.Context, data: bytes | memoryview, count: int, scale_bits: int) -> Iterator[ts.CKKSVector]:
    for number, ciphertext in enumerate(read_frames(data, count)):
        try:
            yield read_ciphertext(context, ciphertext, scale_bits)
        except Malformed as error:
            raise Malformed(f"ciphertext {number} of {count}: {error}") from None
