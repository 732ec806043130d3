"""CKKS with the public key only: encrypt slots, check ciphertexts, add them. Safe to import anywhere.

TenSEAL is the library below. A ciphertext here is one TenSEAL `CKKSVector` of 2,048 slots: a key part of `lwe-ckks` is
one of integers, a body part of `ckks` is a row of them (`crypto.ckks_body`). TenSEAL starts threads for every context,
so that one context is kept for each key and process.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import cache
from tempfile import NamedTemporaryFile
from typing import Any, Final, Self
from weakref import WeakValueDictionary

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

from crypto.canonical import sha256
from crypto.errors import Malformed, MalformedKeyPart, PrivateContext
from crypto.parameters import CKKS_DEGREE, CKKS_MODULI, CKKS_SCALE_BITS, CKKS_SLOTS

SCALE: Final = 2.0**CKKS_SCALE_BITS
CONTEXT_LIMIT: Final = 1 << 22  # bytes; a public context has some 118,000
KEY_PART_LIMIT: Final = 1 << 17  # bytes; a key part has some 59,000

# A protobuf message CKKSVectorProto with one chunk of 2,048 slots, one ciphertext and, after _SCALE, the scale.
_HEAD = b"\x0a\x02" + bytes((CKKS_SLOTS & 0x7F | 0x80, CKKS_SLOTS >> 7)) + b"\x12"
_SCALE = b"\x19"

# A TenSEALContextProto: parameters, public half, private half; the halves with a key, or the public one without.
_PUBLIC_FIELDS, _PRIVATE_FIELDS = [1, 2], [1, 2, 3]
_PARAMETERS_LIMIT: Final = 1 << 10  # bytes; those of the preset take 65
_NO_CONTEXT: Final = "these bytes are not a CKKS context that TenSEAL reads"
_OTHER_PARAMETERS: Final = (
    f"a CKKS context of this protocol has degree {CKKS_DEGREE}, moduli of {CKKS_MODULI} bits and the scale "
    f"2^{CKKS_SCALE_BITS}; this one has others"
)

_loaded: WeakValueDictionary[str, ts.Context] = WeakValueDictionary()


class PublicContext:
    """An epoch's public key with the preset's parameters."""

    __slots__ = ("context", "digest")

    def __init__(self, context: ts.Context, digest: str) -> None:
        self.context = context
        self.digest = digest

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The context of published bytes; `digest` is their SHA-256.

        Raises:
            PrivateContext: there is a secret key in it.
            Malformed: not a TenSEAL context, or one of other parameters, or with more keys than the public one.
        """
        context = load_context(data)
        if context.is_private():
            raise PrivateContext(
                "this CKKS context carries the study's secret key and was offered as public. Nothing was kept of it; "
                "the key is no longer secret, so the study needs a new epoch"
            )
        if _public_keys(context) != (True, False, False):
            raise Malformed("a public CKKS context carries the public key and no other")
        return cls(context, sha256(data))

    def __repr__(self) -> str:
        return f"PublicContext({self.digest[:16]}...)"

    def encrypt(self, values: Sequence[int] | NDArray[np.int64]) -> bytes:
        """A key part: one fresh ciphertext of 2,048 integers.

        Raises:
            ValueError: another number of values.
        """
        numbers = np.asarray(values, np.float64)
        if numbers.shape != (CKKS_SLOTS,):
            raise ValueError(f"a key part has {CKKS_SLOTS} values, not {numbers.shape}")
        return self.encrypt_slots(numbers, CKKS_SCALE_BITS)

    def encrypt_slots(self, slots: NDArray[np.floating[Any]], scale_bits: int) -> bytes:
        """A fresh ciphertext of 2,048 numbers at the scale 2^scale_bits.

        Raises:
            ValueError: another number of values.
        """
        if slots.shape != (CKKS_SLOTS,):
            raise ValueError(f"a ciphertext has {CKKS_SLOTS} slots, not {slots.shape}")
        return bytes(ts.ckks_vector(self.context, slots.tolist(), scale=2.0**scale_bits).serialize())


def _public_keys(context: ts.Context) -> tuple[bool, bool, bool]:
    try:
        return context.has_public_key(), context.has_galois_keys(), context.has_relin_keys()
    except ValueError:  # what TenSEAL says of a context for symmetric encryption
        return False, False, False


def check_key_part(context: PublicContext, data: bytes) -> None:
    """Raise unless `data` is one ciphertext of 2,048 slots at the top level and the exact scale.

    It cannot tell whether what is inside is a secret of the right size, nor under which key it was made.

    Raises:
        MalformedKeyPart: with what is wrong.
    """
    read_key_part(context.context, data)


def add(context: PublicContext, key_parts: Sequence[bytes]) -> bytes:
    """The sum of at least one key part, as one ciphertext.

    Raises:
        MalformedKeyPart: one of them is not a key part.
    """
    return bytes(sum_key_parts(context.context, key_parts).serialize())


def sum_key_parts(context: ts.Context, key_parts: Sequence[bytes]) -> ts.CKKSVector:
    """The sum of at least one key part, ready to be decrypted where the secret key is.

    Raises:
        MalformedKeyPart: one of them is not a key part; its place is named.
    """
    if not key_parts:
        raise MalformedKeyPart("there is no key part to add")
    total: ts.CKKSVector | None = None
    for place, data in enumerate(key_parts):
        try:
            part = read_key_part(context, data)
            total = part if total is None else total.add_(part)
        except (MalformedKeyPart, RuntimeError) as error:  # SEAL refuses a sum that lies open
            raise MalformedKeyPart(f"key part {place + 1} of {len(key_parts)}: {error}") from None
    return total


def read_key_part(context: ts.Context, data: bytes) -> ts.CKKSVector:
    """The vector of a key part, checked as `check_key_part` says."""
    if len(data) > KEY_PART_LIMIT:
        raise MalformedKeyPart(f"a key part has at most {KEY_PART_LIMIT} bytes, this one {len(data)}")
    try:
        return read_ciphertext(context, data, CKKS_SCALE_BITS)
    except Malformed as error:
        raise MalformedKeyPart(f"a key part is one ciphertext; {error}") from None


def read_ciphertext(context: ts.Context, data: bytes, scale_bits: int) -> ts.CKKSVector:
    """One fresh or summed ciphertext of 2,048 slots at the top level and the exact scale.

    Raises:
        Malformed: anything else, or one that lies open.
    """
    _check_frame(data, scale_bits)
    try:
        vector = ts.ckks_vector_from(context, data)
        (ciphertext,) = vector.ciphertext()
    except (RuntimeError, ValueError) as error:  # what TenSEAL's exceptions arrive as
        raise Malformed(f"TenSEAL does not read these bytes under this context ({error})") from None
    top = context.seal_context().data.first_parms_id()
    if ciphertext.size() != 2 or ciphertext.parms_id() != top or not ciphertext.is_ntt_form():
        raise Malformed("these bytes are no fresh ciphertext of two polynomials at the top level")
    if ciphertext.scale != 2.0**scale_bits:
        raise Malformed(f"its scale has to be 2^{scale_bits}, and is {ciphertext.scale:g}")
    if ciphertext.is_transparent():
        raise Malformed("this one is not encrypted: it lies open")
    return vector


def _check_frame(data: bytes, scale_bits: int) -> None:
    """TenSEAL believes the slot counts it is told and reads beyond its memory where they are wrong: look first."""
    tail = _SCALE + struct.pack("<d", 2.0**scale_bits)
    ciphertext = len(data) - len(_HEAD) - 3 - len(tail)
    length = bytes((ciphertext & 0x7F | 0x80, ciphertext >> 7 & 0x7F | 0x80, ciphertext >> 14 & 0x7F))
    if not 1 << 14 <= ciphertext < 1 << 21 or not data.startswith(_HEAD + length) or not data.endswith(tail):
        raise Malformed(
            f"these {len(data)} bytes are not {CKKS_SLOTS} slots at scale 2^{scale_bits} as TenSEAL writes them, "
            "or were cut short"
        )


def load_context(data: bytes) -> ts.Context:
    """A TenSEAL context with the preset's parameters, private or public. The same bytes give the same object.

    Raises:
        Malformed: anything else.
    """
    if len(data) > CONTEXT_LIMIT:
        raise Malformed(f"a CKKS context has at most {CONTEXT_LIMIT} bytes, this one {len(data)}")
    key = sha256(data)
    context = _loaded.get(key)
    if context is None:
        context = _parse_context(bytes(data))
        _loaded[key] = context
    return context


def _parse_context(data: bytes) -> ts.Context:
    _check_context_frame(data)
    try:
        context = ts.context_from(data, n_threads=1)
        scale, parameters = context.global_scale, context.seal_context().data.key_parms_id()
    except (RuntimeError, ValueError):  # without its message: the bytes may hold a secret key
        raise Malformed(_NO_CONTEXT) from None
    if parameters != preset_id() or scale != SCALE:
        raise Malformed(_OTHER_PARAMETERS)
    return context


def _check_context_frame(data: bytes) -> None:
    """SEAL works out all of a context's tables before it can be asked what they are for, and 152 bytes can ask for a
    gigabyte: so look first. Evaluation keys, which no context of ours has, are not read either.

    Raises:
        Malformed: other fields than a public and a private half, or another degree.
    """
    fields = _fields(data)
    numbers = [number for number, _ in fields]
    if numbers not in (_PUBLIC_FIELDS, _PRIVATE_FIELDS) or len(fields[0][1]) > _PARAMETERS_LIMIT:
        raise Malformed(_NO_CONTEXT)
    halves = [[number for number, _ in _fields(half)] for _, half in fields[1:]]
    if halves[0] not in ([1, 2, 3], [2, 3]) or halves[1:] not in ([], [[1]]):
        raise Malformed("a CKKS context of this protocol holds a public or a secret key and no other")
    parameters = ts._ts_cpp.ckks_parameters(CKKS_DEGREE, list(CKKS_MODULI))
    with NamedTemporaryFile() as file:  # SEAL's own reader of parameters alone takes a path
        file.write(fields[0][1])
        file.flush()
        try:
            parameters.load(file.name)
        except (RuntimeError, ValueError):
            raise Malformed(_NO_CONTEXT) from None
    if parameters.poly_modulus_degree() != CKKS_DEGREE:
        raise Malformed(_OTHER_PARAMETERS)


def _fields(data: bytes) -> list[tuple[int, bytes]]:
    """The fields of a protobuf message in order, by number; of numbers, only that they are there.

    Raises:
        Malformed: it is none.
    """
    fields, place = [], 0
    while place < len(data):
        tag, place = _varint(data, place)
        if tag & 7 == 2:
            length, place = _varint(data, place)
        else:
            length = {0: _varint(data, place)[1] - place, 1: 8}.get(tag & 7, len(data))
        if place + length > len(data):
            raise Malformed(_NO_CONTEXT)
        fields.append((tag >> 3, data[place : place + length]))
        place += length
    return fields


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A protobuf number of up to 28 bits, and where it ends."""
    number = 0
    for shift, byte in enumerate(data[place : place + 4]):
        number |= (byte & 0x7F) << 7 * shift
        if byte < 0x80:
            return number, place + shift + 1
    raise Malformed(_NO_CONTEXT)


@cache
def preset_id() -> Any:
    """SEAL's hash of the preset's scheme, degree and primes, against which contexts are compared."""
    library = ts._ts_cpp
    return library.context(library.ckks_parameters(CKKS_DEGREE, list(CKKS_MODULI))).key_parms_id()
