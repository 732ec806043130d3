"""How much the sums that a carried contribution is in tell of it, with and without the limit (docs/decisions/0009).

A carried contribution is the same in every sum, the fresh ones beside it are drawn anew. Whoever sees the sums averages
them. From the repository root, in a minute:

    python benchmarks/carrying.py

The attack: the contribution's body is c = a s + e in the lanes that carry nothing (the end of the count lanes), and
every opened sum adds a noisy look at s, and at e in those lanes. The averages give each of these numbers up to a
deviation of 4 / sqrt(1 + exposure). Once that is well below 1/2, the surest half of s and the surest half of the
equations are taken at their rounded values, and the rest of s is what solves those equations modulo 2^32. No lattice is
reduced, so this needs more sums than a patient attacker would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from benchmarks.parameters import carried_deviation
from crypto.parameters import CARRY_LIMIT, SECRET_BOUND, N
from crypto.ring import FftMultiplier
from crypto.sampling import binomial, public_polynomials, public_seed

_SPARE: Final = 64  # equations beyond the unknowns: pivots to choose from, and proof that the rest was right
_EMPTY_LANES: Final = 1900  # of the last polynomial: few recipes have more counts than fit in the others
_STUDY: Final = UUID(int=9)


@dataclass(frozen=True, slots=True)
class Seen:
    """What an attacker has after so many sums: the body, and estimates of s and e, float64 [2048] each.

    `secret` and `error` are the truth, to compare with; int64 [2048].
    """

    polynomial: NDArray[np.uint32]
    body: NDArray[np.uint32]
    about_secret: NDArray[np.float64]
    about_error: NDArray[np.float64]
    secret: NDArray[np.int64]
    error: NDArray[np.int64]
    exposure: float


def observe(sums: int, fresh: int, seed: int, beside: int | None = None) -> Seen:
    """A contribution that was opened once with `beside` others (as many as `fresh` unless given), and carried after.

    Args:
        sums: those that it was carried in.
        fresh: honest contributions to each.
    """
    rows = _samples(seed, 2 * (1 + (beside or fresh) + sums * fresh))
    secret, error, rest = rows[0], rows[1], rows[2:]
    first, later = rest[: 2 * (beside or fresh)], rest[2 * (beside or fresh) :]
    looks = [(first, beside or fresh), *((part, fresh) for part in np.split(later, sums))] if sums else [(first, fresh)]
    exposure = sum(1 / others for _, others in looks)
    about_secret, about_error = (
        np.sum([(mine + others[place::2].sum(axis=0)) / number for others, number in looks], axis=0) / (1 + exposure)
        for place, mine in ((0, secret), (1, error))
    )
    polynomial = public_polynomials(public_seed(_STUDY), 0, 1)
    body = FftMultiplier(secret)(polynomial)[0] + error.astype(np.uint32)
    return Seen(polynomial[0], body, about_secret, about_error, secret, error, exposure)


def recovered(seen: Seen, known_lanes: int = _EMPTY_LANES) -> NDArray[np.int64] | None:
    """The secret, int64 [2048], if the attack gives one that explains the body; None otherwise.

    Args:
        known_lanes: how many of the last lanes carry nothing, and so give equations without a message.
    """
    guess, unsure = _rounded(seen.about_secret)
    noise, doubt = _rounded(seen.about_error)
    doubt[: N - known_lanes] = np.inf
    unknown = np.sort(np.argsort(unsure)[N // 2 :])
    chosen = np.argsort(doubt)[: unknown.size + _SPARE]
    guess[unknown] = 0
    without = FftMultiplier(guess)(seen.polynomial[None])[0]
    right = (seen.body - without - noise.astype(np.uint32))[chosen]
    solution = _solve(_rows(seen.polynomial, chosen)[:, unknown], right)
    if solution is None:
        return None
    guess[unknown] = solution.astype(np.int32)
    return guess if np.abs(guess).max() <= SECRET_BOUND else None


def _rounded(estimate: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The nearest integers, and how far from them the estimates are."""
    nearest = np.rint(estimate)
    return nearest.astype(np.int64), np.abs(estimate - nearest)


def _samples(seed: int, rows: int) -> NDArray[np.int64]:
    return binomial(seed.to_bytes(32), 0, rows * N).reshape(rows, N).astype(np.int64)


def _rows(polynomial: NDArray[np.uint32], chosen: NDArray[np.intp]) -> NDArray[np.uint32]:
    """Rows of the matrix that multiplies by the polynomial modulo X^2048 + 1: uint32 [chosen, 2048]."""
    place = chosen[:, None] - np.arange(N)[None, :]
    rows: NDArray[np.uint32] = np.where(place >= 0, polynomial[place % N], (0 - polynomial)[place % N])
    return rows


def _solve(matrix: NDArray[np.uint32], right: NDArray[np.uint32]) -> NDArray[np.uint32] | None:
    """x with matrix x = right modulo 2^32, uint32 [columns]; None if there is none, or more than one."""
    table = np.column_stack([matrix, right])
    columns = matrix.shape[1]
    for column in range(columns):
        odd = np.flatnonzero(table[column:, column] & 1)
        if not odd.size:
            return None
        pivot = column + int(odd[0])
        table[[column, pivot]] = table[[pivot, column]]
        table[column] *= np.uint32(pow(int(table[column, column]), -1, 2**32))
        factors = table[:, column].copy()
        factors[column] = 0
        table[:, column:] -= factors[:, None] * table[column, column:]
    solution: NDArray[np.uint32] = table[:columns, -1]
    return None if table[columns:, -1].any() else solution


def _row(sums: int, fresh: int) -> Sequence[str]:
    seen = observe(sums, fresh, seed=sums)
    left = seen.about_secret - seen.secret
    found = recovered(seen)
    right = (np.rint(seen.about_secret) == seen.secret).mean()
    broken = found is not None and np.array_equal(found, seen.secret)
    return (
        f"{sums}",
        f"{fresh}",
        f"{seen.exposure:.2f}",
        f"{carried_deviation(seen.exposure):.3f}",
        f"{left.std():.3f}",
        f"{right:.1%}",
        "yes" if broken else "no",
    )


def main() -> None:
    within = [(int((CARRY_LIMIT - 1 / fresh) * fresh), fresh) for fresh in (2, 3, 10)]
    beyond = [(number, 2) for number in (50, 200, 400, 600, 800)]
    head = ("sums", "fresh", "exposure", "deviation", "measured", "rounded right", "key recovered")
    rows = [head, *(_row(*each) for each in (*within, *beyond))]
    widths = [max(len(row[place]) for row in rows) for place in range(len(head))]
    print(f"\nA carried contribution; the first three as far as the limit of {CARRY_LIMIT:g} allows\n")
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


if __name__ == "__main__":
    main()
