"""CKKS with the secret key: what sites hold and the coordinator must never import (import-linter forbids it)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn, Self

import numpy as np
import tenseal as ts
from numpy.typing import NDArray

from crypto.ckks_public import (
    SCALE,
    PublicContext,
    load_context,
    read_ciphertext,
    read_key_part,
    sum_key_parts,
)
from crypto.errors import Malformed, OpeningRefused
from crypto.lwe import check_secret_sum
from crypto.parameters import CKKS_DEGREE, CKKS_MODULI, CKKS_OPENING_NOISE, CKKS_ROUNDING
from crypto.sampling import fresh_key, normal


class SecretContext:
    """An epoch's secret key. Shows nothing, refuses to be pickled or copied."""

    __slots__ = ("_context",)

    def __init__(self, context: ts.Context) -> None:
        self._context = context

    @classmethod
    def generate(cls) -> Self:
        """A new key pair under the preset."""
        context = ts.context(ts.SCHEME_TYPE.CKKS, CKKS_DEGREE, coeff_mod_bit_sizes=list(CKKS_MODULI), n_threads=1)
        context.global_scale = SCALE
        return cls(context)

    @classmethod
    def load(cls, data: bytes) -> Self:
        """The secret key of `secret_bytes`.

        Raises:
            Malformed: the bytes hold none, or one of other parameters.
        """
        context = load_context(data)
        if not context.is_private():
            raise Malformed("this CKKS context has no secret key in it")
        return cls(context)

    def __repr__(self) -> str:
        return "SecretContext(key hidden)"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret key is not pickled or copied: seal it with crypto.epochs")

    def secret_bytes(self) -> bytes:
        """The secret key alone, to seal to members or to keep in a file that only this site can read. Never log it."""
        return bytes(
            self._context.serialize(
                save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
            )
        )

    def public_bytes(self) -> bytes:
        """The public context, for publishing. TenSEAL writes it another way each time: publish one, hash that one.

        Raises:
            ValueError: this key came out of a wrap, without its public half.
        """
        if not self._context.has_public_key():
            raise ValueError("only the dealer publishes the public context, once; others fetch what it published")
        return bytes(
            self._context.serialize(
                save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
            )
        )

    def check_pair(self, public: PublicContext) -> None:
        """Raise unless this key opens what `public` encrypts.

        Raises:
            OpeningRefused: it belongs to another public key.
        """
        probe = np.arange(-1024, 1024, dtype=np.int64) % 65 - 32
        if not np.array_equal(self.decrypt_sum([public.encrypt(probe)]), probe):
            raise OpeningRefused("this secret key does not belong to the epoch's public key")

    def check_key_part(self, data: bytes) -> None:
        """As `crypto.ckks_public.check_key_part`, for a holder of the key.

        Raises:
            MalformedKeyPart: with what is wrong.
        """
        read_key_part(self._context, data)

    def decrypt_sum(self, key_parts: Sequence[bytes]) -> NDArray[np.int64]:
        """The sum of the contributors' secrets, int64 [2048], from one key part each, added up here.

        Raises:
            MalformedKeyPart: one of them is not a key part.
            OpeningRefused: the sum does not decode to integers that so many secrets may add up to.
        """
        values = np.array(sum_key_parts(self._context, key_parts).decrypt(), np.float64)
        rounded = np.rint(values)
        if not np.isfinite(values).all() or np.abs(values - rounded).max() > CKKS_ROUNDING:
            raise OpeningRefused(
                "the key parts do not add up to integers: one was made under another key, or is no secret at all"
            )
        if np.abs(rounded).max() >= 2**53:
            raise OpeningRefused("the key parts add up to numbers that no secrets have: one was made under another key")
        secret_sum = rounded.astype(np.int64)
        check_secret_sum(secret_sum, len(key_parts))
        return secret_sum

    def open_slots(self, data: bytes, scale_bits: int) -> NDArray[np.float64]:
        """What one ciphertext of a body holds, float64 [2048], with `opening_noise` in it.

        Without that noise, published values would tell about the key (Li and Micciancio, EUROCRYPT 2021).

        Raises:
            Malformed: no ciphertext as `crypto.ckks_public.read_ciphertext` describes it.
        """
        values = np.array(read_ciphertext(self._context, data, scale_bits).decrypt(), np.float64)
        return values + opening_noise(values.size)


def opening_noise(count: int) -> NDArray[np.float64]:
    """Gaussian samples of deviation 2^-20 from the operating system's randomness, float64 [count]."""
    return normal(fresh_key(), 0, count) * CKKS_OPENING_NOISE
