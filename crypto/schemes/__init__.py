"""Aggregation schemes by name, for everyone. Who holds a secret key opens with `crypto.schemes.opening`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from crypto.schemes.base import Recipients, Revealed, Scheme, Sealed, SecretSum
from crypto.schemes.lwe_ckks import LweCkks
from crypto.schemes.lwe_shamir import LweShamir

__all__ = ["SCHEMES", "Recipients", "Revealed", "Scheme", "Sealed", "SecretSum", "scheme"]

SCHEMES: Final = MappingProxyType[str, Scheme]({"lwe-ckks": LweCkks(), "lwe-shamir": LweShamir()})


def scheme(name: str) -> Scheme:
    """The scheme of that name.

    Raises:
        ValueError: this version does not have it; those it has are named.
    """
    if name not in SCHEMES:
        raise ValueError(f"this version of Pleura has no scheme {name!r}. It has: {', '.join(SCHEMES)}")
    return SCHEMES[name]
