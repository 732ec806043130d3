"""What can go wrong in the numbers, as types that callers may tell apart.

    CryptoError
    ├── Malformed              bytes or values that no honest party would have sent
    │   ├── MalformedKeyPart   a CKKS ciphertext of the wrong shape, level or scale
    │   │   └── SharesRefused  sealed Shamir shares that do not open, or hold none; names their senders
    │   ├── PrivateContext     a CKKS context that carries a secret key was offered as public
    │   └── CorruptCiphertext  an envelope that was changed on its way
    ├── WrongRecipient         an envelope that is intact as far as one can tell, but sealed to another key or purpose
    ├── InvalidSignature       signed bytes that do not verify under the expected identity
    ├── WrongDigest            bytes that do not have the digest they were announced with
    ├── OutOfRange             a number the lanes cannot carry (count too large, bound not positive, too many sites)
    └── OpeningRefused         a sum that does not decode to a sum of secrets: noise, or a missing or foreign key
        ├── TooFewShares       fewer Shamir shares than the threshold
        ├── SharesDisagree     Shamir shares with more wrong ones among them than can be told from the right
        ├── CanaryMismatch     a canary lane opened to something other than zero
        └── NegativeCount      a count digit opened below zero

Every message says what happened and is safe to show and to log: none contains key material.
"""

from __future__ import annotations

from uuid import UUID


class CryptoError(Exception):
    """Base of all errors raised by this package."""


class Malformed(CryptoError):
    """Bytes or values that no honest party would have sent."""


class MalformedKeyPart(Malformed):
    """A key part that is not one fresh ciphertext of 2,048 slots at the exact scale."""


class SharesRefused(MalformedKeyPart):
    """Sealed shares that are just what their senders signed for, and do not open, or hold no share.

    Attributes:
        senders: sorted by id, for a `ShareRefusal`.
    """

    def __init__(self, words: str, senders: tuple[UUID, ...] = ()) -> None:
        super().__init__(words)
        self.senders = senders


class PrivateContext(Malformed):
    """A CKKS context with a secret key in it was offered where a public one belongs."""


class CorruptCiphertext(Malformed):
    """A sealed envelope too short or changed on its way."""


class WrongRecipient(CryptoError):
    """An envelope that this key, or this purpose, does not open."""


class InvalidSignature(CryptoError):
    """Signed bytes that do not verify."""


class WrongDigest(CryptoError):
    """Bytes whose SHA-256 is not the announced one."""


class OutOfRange(CryptoError):
    """A number the lanes cannot carry."""


class OpeningRefused(CryptoError):
    """A sum that does not decode to a sum of secrets."""


class TooFewShares(OpeningRefused):
    """Fewer shares than the threshold: they say nothing about the secret."""


class SharesDisagree(OpeningRefused):
    """Shares that lie on no common polynomials, with more wrong ones among them than can be told from the right."""


class CanaryMismatch(OpeningRefused):
    """A canary lane opened to something other than zero: a malformed contribution or a wrong key sum."""


class NegativeCount(OpeningRefused):
    """A count digit opened below zero: a malformed contribution."""
