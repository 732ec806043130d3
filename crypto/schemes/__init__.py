"""Aggregation schemes by name, for everyone. Who holds a secret key opens with `crypto.schemes.opening`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from crypto.schemes.base import Adder, Recipients, Revealed, Scheme, Sealed, SecretSum
from crypto.schemes.ckks import Ckks
from crypto.schemes.lwe_ckks import LweCkks
from crypto.schemes.lwe_shamir import LweShamir

__all__ = [
    "SCHEMES",
    "Adder",
    "Recipients",
    "Revealed",
    "Scheme",
    "Sealed",
    "SecretSum",
    "check_release",
    "scheme",
]

SCHEMES: Final = MappingProxyType[str, Scheme]({"lwe-ckks": LweCkks(), "lwe-shamir": LweShamir(), "ckks": Ckks()})


def scheme(name: str) -> Scheme:
    """The scheme of that name.

    Raises:
        ValueError: this version does not have it; those it has are named.
    """
    if name not in SCHEMES:
        raise ValueError(f"this version of Pleura has no scheme {name!r}. It has: {', '.join(SCHEMES)}")
    return SCHEMES[name]


def check_release(name: str, release: str) -> None:
    """Raise unless a study under that scheme may release its models so ("open" or "members").

    Raises:
        ValueError: it may not, or there is no such scheme.
    """
    if scheme(name) is SCHEMES["ckks"] and release == "members":
        raise ValueError(
            "release 'members' is not offered with the scheme 'ckks': its opener hands the opened sum itself to the "
            "coordinator, which could always read the model. Choose 'lwe-ckks' or 'lwe-shamir', or release 'open'"
        )
