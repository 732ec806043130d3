"""Shamir's secret sharing of a whole secret polynomial, modulo p = 2^31 - 1 (protocol, section 6; Shamir 1979).

Each of the 2,048 coefficients is the value at 0 of a random polynomial of degree t - 1, and a share holds the values of
all 2,048 polynomials at one index. Any t shares give the secret; t - 1 are uniformly random, whatever the secret is.
Shares at one index add up to a share of the sum of the secrets: that is what a site answers.

More than t answers over-determine the polynomials, which makes them a Reed-Solomon code (McEliece and Sarwate 1981):
of m answers, up to (m - t) / 2 wrong ones are found for each coefficient, named and left out. Exactly t answers open
to something whatever they are: then only the range of the sum and the canaries tell whether one was wrong.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from crypto.errors import Malformed, OutOfRange, SharesDisagree, TooFewShares
from crypto.parameters import SHARE_PRIME, N
from crypto.sampling import fresh_key, keystream

P: Final = SHARE_PRIME
SHARE_BYTES: Final = 4 * N

Share: TypeAlias = NDArray[np.uint32]  # [2048], each below p
_Residues: TypeAlias = NDArray[np.int64]  # modulo p, within [0, p)


@dataclass(frozen=True, slots=True)
class Combined:
    """What shares open to.

    Attributes:
        secret: int64 [2048], centred: within [-p / 2, p / 2].
        wrong: indices whose share is not the one that the others determine, ascending. Either it was changed, or
            whoever dealt it gave this index another polynomial than the rest.
    """

    secret: NDArray[np.int64] = field(repr=False)
    wrong: tuple[int, ...]


def minimum_threshold(members: int) -> int:
    """The smallest t of a roster of that many: floor(2n/3) + 1, so that t shares each of two different sums need
    more than a third of the members to answer twice.
    """
    return 2 * members // 3 + 1


def split(secret: NDArray[np.int64], threshold: int, indices: Sequence[int]) -> dict[int, Share]:
    """Fresh shares of a secret, one for each index; any `threshold` of them give it back.

    Args:
        secret: int64 [2048], each within p / 2 of zero.
        threshold: t, from 1 to the number of indices.
        indices: distinct, each from 1 to p - 1.

    Raises:
        Malformed: an index at which a share would be the secret itself, or the same as another's (see `check_indices`).
        OutOfRange: a coefficient that does not come back from a residue.
        ValueError: not 2,048 integers, or a threshold that so few shares never reach.
    """
    return _split_with(fresh_key(), secret, threshold, indices)


def _split_with(key: bytes, secret: NDArray[np.int64], threshold: int, indices: Sequence[int]) -> dict[int, Share]:
    check_indices(indices)
    if secret.shape != (N,) or secret.dtype.kind != "i":
        raise ValueError(f"a secret has {N} integers, not {secret.dtype} {secret.shape}")
    if not 1 <= threshold <= len(indices):
        raise ValueError(f"{len(indices)} shares never reach a threshold of {threshold}")
    if secret.min() < -(P // 2) or secret.max() > P // 2:
        raise OutOfRange(f"a coefficient of the secret is farther than {P // 2} from zero")
    blinding = _uniform(key, (threshold - 1) * N).reshape(threshold - 1, N)
    polynomials = np.concatenate([secret.astype(np.int64)[np.newaxis] % P, blinding])
    values = _product(_powers(indices, threshold), polynomials).astype(np.uint32)
    return dict(zip(indices, values, strict=True))


def add_shares(shares: Iterable[Share]) -> Share:
    """The share of the sum of the secrets, from at least one share of each at the same index.

    Raises:
        Malformed: there is none, or one of them is no share.
    """
    total: _Residues | None = None
    for share in shares:
        residues = _residues(share)
        total = residues if total is None else (total + residues) % P
    if total is None:
        raise Malformed("there is no share to add")
    return total.astype(np.uint32)


def write_share(share: Share) -> bytes:
    """A share as it is sealed: 2,048 u32, little-endian."""
    return _residues(share).astype("<u4").tobytes()


def read_share(data: bytes) -> Share:
    """The share of `write_share`'s bytes.

    Raises:
        Malformed: another length, or a value that is no residue.
    """
    if len(data) != SHARE_BYTES:
        raise Malformed(f"a share has {SHARE_BYTES} bytes, this one {len(data)}")
    share = np.frombuffer(data, "<u4").astype(np.uint32)
    _residues(share)
    return share


def check_indices(indices: Iterable[int]) -> None:
    """Raise unless each is its own residue and none is 0, at which the secret itself lies.

    Raises:
        Malformed: with the index.
    """
    seen: set[int] = set()
    for index in indices:
        if not 1 <= index < P or index in seen:
            raise Malformed(f"shares have distinct indices from 1 to {P - 1}; {index} is not one, or is there twice")
        seen.add(index)


def combine(shares: Mapping[int, Share], threshold: int) -> Combined:
    """The secret from shares by index, at least `threshold` of them; wrong ones are found where there are more.

    With m shares, up to floor((m - threshold) / 2) wrong ones are told from the right, for each coefficient on its own.
    Beyond that a wrong secret may come out, with honest indices named: what it opens still has to pass its own checks.

    Raises:
        TooFewShares: fewer than `threshold`.
        SharesDisagree: too many are wrong, so it cannot be told which.
        Malformed: an index or a share that is none.
    """
    if not 1 <= threshold <= len(shares):
        raise TooFewShares(f"{len(shares)} shares say nothing: it takes {threshold} to open what they are shares of")
    points = sorted(shares)
    check_indices(points)
    values = np.stack([_residues(shares[index]) for index in points])
    secret = _at(0, points[:threshold], values[:threshold])
    wrong: set[int] = set()
    for suspects, columns in _errors(points, values, threshold):
        good = _without(suspects, len(points))[:threshold]
        secret[columns] = _at(0, [points[place] for place in good], values[good][:, columns])
        wrong |= suspects
    secret[secret > P // 2] -= P
    return Combined(secret, tuple(points[place] for place in sorted(wrong)))


# --- Reed-Solomon: which values are wrong


def _errors(points: Sequence[int], values: _Residues, threshold: int) -> Iterator[tuple[set[int], NDArray[np.intp]]]:
    """Groups of columns of `values` in which not all shares agree, each with places that hold all their wrong ones.

    One bad column is decoded: each place found is wrong in it. All columns are done with that become consistent when
    these places, and those found before, are left out, as long as they are (m - t) / 2 or fewer: then no two
    polynomials of degree t - 1 can agree with all the others, so the one that does is right. A liar is thus met once,
    whatever coefficients it lies about.
    """
    most = (len(points) - threshold) // 2
    syndromes = _syndromes(points, values, threshold)
    left = np.flatnonzero(syndromes.any(axis=0))
    known: set[int] = set()
    while left.size:
        found = _locate(syndromes[:, left[0]].tolist(), points)
        if found is None or len(found) > most:
            raise SharesDisagree(
                f"{len(points)} shares do not agree on what they open to, and with a threshold of {threshold} "
                f"at most {most} wrong ones can be told from the right: more answers are needed"
            )
        known |= found
        suspects = set(known) if len(known) <= most else found
        others = _without(suspects, len(points))
        kept = [points[place] for place in others]
        explained = ~_syndromes(kept, values[others][:, left], threshold).any(axis=0)
        yield suspects, left[explained]
        left = left[~explained]


def _without(suspects: set[int], number: int) -> list[int]:
    return [place for place in range(number) if place not in suspects]


def _syndromes(points: Sequence[int], values: _Residues, threshold: int) -> _Residues:
    """[m - t, columns], zero where the column's values lie on one polynomial of degree t - 1."""
    checks = np.array(_inverse_products(points), np.int64).reshape(-1, 1) * _powers(points, len(points) - threshold) % P
    return _product(checks.T, values)


def _locate(syndromes: Sequence[int], points: Sequence[int]) -> set[int] | None:
    """The places of the fewest errors that cause these syndromes; None if no such errors do.

    Syndrome j is the sum over the errors of c_i x_i^j, so the shortest linear recurrence that the syndromes obey has
    the wrong points as the roots of its characteristic polynomial (Massey 1969).
    """
    recurrence, order = _shortest_recurrence(syndromes)
    found = {place for place, point in enumerate(points) if _vanishes(recurrence, order, point)}
    return found if len(found) == order else None


def _vanishes(recurrence: Sequence[int], order: int, point: int) -> bool:
    return sum(c * pow(point, order - k, P) for k, c in enumerate(recurrence)) % P == 0


def _shortest_recurrence(sequence: Sequence[int]) -> tuple[list[int], int]:
    """(c_0 = 1, c_1, ...) and the order L, least such that the sum of c_k s_(n-k) is 0 for all n from L on."""
    current, previous, order = [1], [1], 0
    shift, last = 1, 1
    for n, _ in enumerate(sequence):
        discrepancy = sum(c * sequence[n - k] for k, c in enumerate(current)) % P
        if discrepancy == 0:
            shift += 1
            continue
        factor = discrepancy * pow(last, -1, P) % P
        corrected = current + [0] * (len(previous) + shift - len(current))
        for k, c in enumerate(previous, shift):
            corrected[k] = (corrected[k] - factor * c) % P
        if 2 * order <= n:
            order, previous, last, shift = n + 1 - order, current, discrepancy, 1
        else:
            shift += 1
        current = corrected
    return current, order


# --- arithmetic modulo p


def _uniform(key: bytes, count: int) -> _Residues:
    """`count` uniform residues: the words of a keystream without their top bit, in order, those equal to p left out."""
    taken, position, missing = [np.empty(0, np.int64)], 0, count
    while missing > 0:
        length = 4 * (-(-missing // 4))  # whole blocks of the keystream
        words = keystream(key, 4 * position, 4 * length).view("<u4") & np.uint32(P)
        taken.append(words[words != P].astype(np.int64))
        position, missing = position + length, missing - taken[-1].size
    return np.concatenate(taken)[:count]


def _residues(share: Share) -> _Residues:
    if share.shape != (N,) or share.dtype != np.uint32 or share.max() >= P:
        raise Malformed(f"a share is {N} uint32 below {P}; this one, {share.dtype} {share.shape}, is not")
    return share.astype(np.int64)


def _powers(points: Sequence[int], number: int) -> _Residues:
    """[points, number]: the powers 0, 1, ... of each point."""
    base, powers = np.array(points, np.int64), np.ones((len(points), number), np.int64)
    for k in range(1, number):
        powers[:, k] = powers[:, k - 1] * base % P
    return powers


def _product(matrix: _Residues, values: _Residues) -> _Residues:
    """The product of two matrices modulo p, exact: halves of 16 bits keep sums of 1,024 products below 2^57."""
    low: _Residues = matrix @ (values & 0xFFFF)
    high: _Residues = matrix @ (values >> 16)
    return (low + (high % P << 16)) % P


def _at(point: int, points: Sequence[int], values: _Residues) -> _Residues:
    """Values at `point`, which is not among `points`, of the polynomials through `values` [points, columns]."""
    whole = 1
    for other in points:
        whole = whole * (point - other) % P
    weights = [whole * pow(point - x, -1, P) * u % P for x, u in zip(points, _inverse_products(points), strict=True)]
    result: _Residues = _product(np.array([weights], np.int64), values)[0]
    return result


def _inverse_products(points: Sequence[int]) -> list[int]:
    """For each point, 1 / the product of its differences to all others."""
    base, products = np.array(points, np.int64), np.ones(len(points), np.int64)
    for place, point in enumerate(points):
        differences = (base - point) % P
        differences[place] = 1
        products = products * differences % P
    return [pow(product, -1, P) for product in products.tolist()]
