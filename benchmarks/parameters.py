"""How hard the ciphertexts are to break by the usual estimates, and how rarely the protocol errs by chance.

Nothing is measured and nothing is drawn: the same tables everywhere, in a few seconds. From the repository root:

    python benchmarks/parameters.py

Core-SVP (Alkim, Ducas, Pöppelmann, Schwabe, "New Hope", USENIX Security 2016) counts one call of a sieve in the block
size b that lattice reduction needs: 2^(0.292 b) operations (Becker, Ducas, Gama, Laarhoven 2016), 2^(0.265 b) with a
quantum computer (Laarhoven 2015). Polynomial factors and the sieve's memory are left out, so real attacks cost more.
The homomorphic encryption standard (Albrecht et al. 2018) counts them: 2^(0.292 b + 16.4 + log2(8 d)), d the lattice's
dimension. The two scales differ by some 30 bits: compare figures of one column only.

Not covered: guessing part of a small secret (hybrid attacks; the recent ones of the dual kind claim some 9 bits on
ML-KEM-768 and are disputed), the ring's structure (no attack is known that gains from it here), and attacking many
contributions at once: all of a study have the same public polynomials.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crypto.lanes import LaneFormat
from crypto.parameters import CKKS_DEGREE, CKKS_MODULI, PART_VALUES, SECRET_BOUND, SIGMA, N
from crypto.shamir import minimum_threshold

CLASSICAL: Final = 0.292
QUANTUM: Final = 0.265
_VECTORS: Final = 0.2075  # a sieve in block size b yields 2^(0.2075 b) short vectors at once
_SMALLEST: Final = 60  # block size; below, the formula for delta does not hold
_MOST_SAMPLES: Final = 4  # times n; the best number lies near n

# Largest log2 q for 128, 192 and 256 bits, ternary secrets, deviation 3.2 (standard of 2018, tables 1 and 2).
STANDARD: Final = {2048: (54, 37, 29), 4096: (109, 75, 58)}
STANDARD_QUANTUM: Final = {2048: (51, 35, 27), 4096: (101, 70, 54)}

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Problem:
    """LWE in normal form (ring structure ignored) with as many samples as the attacker likes.

    Attributes:
        n: dimension of the secret.
        log_q: log2 of the modulus.
        secret, error: standard deviations of a coefficient.
    """

    name: str
    n: int
    log_q: float
    secret: float
    error: float

    def samples(self) -> NDArray[np.float64]:
        """Numbers of samples to try."""
        return np.arange(1.0, _MOST_SAMPLES * self.n + 1)

    @property
    def log_ratio(self) -> float:
        """ln(error / secret): a smaller secret is scaled up to the error's size (Bai and Galbraith 2014)."""
        return math.log(self.error / self.secret)


@dataclass(frozen=True, slots=True)
class Attack:
    """The cheapest attack of a kind: its block size, dimension and number of samples, and log2 of its cost."""

    block: int
    dimension: int
    samples: int
    bits: float

    @property
    def standard_bits(self) -> float:
        """log2 of the cost as the homomorphic encryption standard counts it."""
        return CLASSICAL * self.block + 16.4 + math.log2(8 * self.dimension)


def log_delta(block: int) -> float:
    """ln of the root Hermite factor that BKZ reaches with a block size (Chen 2013)."""
    return math.log((math.pi * block) ** (1 / block) * block / (2 * math.pi * math.e)) / (2 * (block - 1))


def primal(problem: Problem, exponent: float = CLASSICAL) -> Attack:
    """Find (s, e) as the unique shortest vector of Kannan's embedding.

    The smallest b at which the vector's projection on the last b dimensions is shorter than what BKZ finds there:
    error * sqrt(b) <= delta^(2b - d - 1) * volume^(1/d), the estimate of 2016 (Albrecht et al., Asiacrypt 2017).
    """
    samples = problem.samples()
    dimension = samples + problem.n + 1
    volume = samples * problem.log_q * math.log(2) + problem.n * problem.log_ratio + math.log(problem.error)
    for block in range(_SMALLEST, int(dimension[-1])):
        found = (2 * block - dimension - 1) * log_delta(block) + volume / dimension
        best = int(np.argmax(found))
        if math.log(problem.error) + math.log(block) / 2 <= found[best]:
            return Attack(block, int(dimension[best]), int(samples[best]), exponent * block)
    raise ValueError(f"{problem.name}: no block size succeeds, the modulus is too small for the errors")


def dual(problem: Problem, exponent: float = CLASSICAL) -> Attack:
    """Tell samples from uniform with short vectors of the dual lattice ("New Hope", section 6.4).

    A vector of length l tells them apart with advantage eps = 4 exp(-2 pi^2 tau^2), tau = l * error / q, and 1 / eps^2
    of them are needed, of which each run of the sieve yields 2^(0.2075 b).
    """
    samples = problem.samples()
    dimension, log_q = samples + problem.n, problem.log_q * math.log(2)
    cheapest: Attack | None = None
    for block in range(_SMALLEST, int(dimension[-1])):
        if cheapest is not None and exponent * block > cheapest.bits:
            return cheapest
        log_length = (dimension - 1) * log_delta(block) + problem.n * (log_q - problem.log_ratio) / dimension
        tau = np.exp(np.minimum(log_length + math.log(problem.error) - log_q, 20.0))
        log_advantage = 2 - 2 * (math.pi * tau) ** 2 / math.log(2)
        repeats = np.maximum(0.0, -2 * log_advantage - _VECTORS * block)
        best = int(np.argmin(repeats))
        bits = exponent * block + float(repeats[best])
        if cheapest is None or bits < cheapest.bits:
            cheapest = Attack(block, int(dimension[best]), int(samples[best]), bits)
    raise ValueError(f"{problem.name}: no block size succeeds, the modulus is too small for the errors")


def standard_level(n: int, log_q: float, table: Mapping[int, tuple[int, ...]]) -> int | None:
    """The highest row of the standard's table that the modulus stays within: 128, 192, 256, or 0 for none."""
    if n not in table:
        return None
    return max((level for level, most in zip((128, 192, 256), table[n], strict=True) if log_q <= most), default=0)


def hint_deviation(honest: int) -> float:
    """Deviation of a site's s and e once the sum over `honest` contributors is known, 2 or more ("hint-LWE")."""
    return SIGMA * math.sqrt((honest - 1) / honest)


def carried_deviation(exposure: float) -> float:
    """Deviation of a carried site's s and e once sums of that exposure are known (`crypto.exposure`)."""
    return SIGMA / math.sqrt(1 + exposure)


def problems() -> list[Problem]:
    """What an attacker may try, the weakest form of each first."""
    hints = [(f"RLWE, sum opened, {k} honest", hint_deviation(k)) for k in (2, 3, 4, 16)]
    hints += [(f"RLWE, carried, exposure {c}", carried_deviation(c)) for c in (8, 4, 2, 1)]
    ternary, error = math.sqrt(2 / 3), 3.2
    return [
        *(Problem(name, N, 32, sigma, sigma) for name, sigma in hints),
        Problem("RLWE, sum never opened", N, 32, SIGMA, SIGMA),
        Problem("CKKS public key", CKKS_DEGREE, sum(CKKS_MODULI), ternary, error),
        Problem("CKKS ciphertext", CKKS_DEGREE, CKKS_MODULI[0], ternary, error),
        Problem("ML-KEM-768 (in HPKE)", 768, math.log2(3329), 1.0, 1.0),
    ]


def misread_digit(k_max: int) -> tuple[float, float | None]:
    """How surely a count's digit is read: (standard deviations to a wrong one, log2 of a bound on its probability).

    The summed error is 64 K bits minus their mean, so Hoeffding's bound holds: 2 exp(-2 x^2 / (64 K)). None: so many
    errors never add up to that much.
    """
    reach = 2.0 ** (LaneFormat(k_max).T - 1)
    deviations = reach / (SIGMA * math.sqrt(k_max))
    if SECRET_BOUND * k_max < reach:
        return deviations, None
    return deviations, 1 - 2 * reach**2 / (64 * k_max) / math.log(2)


def tolerated(members: int) -> tuple[int, int, int]:
    """What `lwe-shamir` stands at its lowest threshold t, of n members.

    Returns:
        Sites that may side with a coordinator that shows two ballots: 2t - n of them could have both opened, as each
        answers both, and two honest contributors are needed for a sum to hide one; sites that may be away; wrong
        answers that are named when all others answer.
    """
    spare = members - minimum_threshold(members)
    return min(2 * minimum_threshold(members) - members - 1, members - 2), spare, spare // 2


def undetected(fraction: float, checks: int) -> float:
    """Probability that `checks` spot checks, each of one random part, all miss an altered `fraction` of the parts."""
    return (1 - fraction) ** checks


def _lattice_row(problem: Problem) -> Row:
    usvp, other = primal(problem), dual(problem)
    quantum = f"{primal(problem, QUANTUM).bits:.0f}/{dual(problem, QUANTUM).bits:.0f}"
    levels = [standard_level(problem.n, problem.log_q, table) for table in (STANDARD, STANDARD_QUANTUM)]
    return (
        problem.name,
        f"{problem.n}",
        f"{problem.log_q:.4g}",
        f"{problem.secret:.2f}/{problem.error:.2f}",
        f"{usvp.block}/{other.block}",
        f"{usvp.bits:.0f}/{other.bits:.0f}",
        quantum,
        f"{usvp.standard_bits:.0f}",
        "/".join("-" if level is None else str(level) for level in levels),
    )


def _digit_row(k_max: int) -> Row:
    deviations, bits = misread_digit(k_max)
    lanes = LaneFormat(k_max)
    return f"{k_max}", f"{lanes.T}", f"{lanes.D}", f"{deviations:.1f}", "never" if bits is None else f"2^{bits:.0f}"


def _sharing_row(members: int) -> Row:
    return f"{members}", f"{minimum_threshold(members)}", *map(str, tolerated(members))


def _spot_row(model: str, values: int, checks: Sequence[int]) -> Row:
    parts = -(-values // PART_VALUES)
    return (model, f"{parts}", *(f"{undetected(1 / parts, count):.2g}" for count in checks))


def _show(title: str, head: Row, rows: Sequence[Row]) -> None:
    widths = [max(len(row[place]) for row in (head, *rows)) for place in range(len(head))]
    print(f"\n{title}\n")
    for label, *cells in (head, *rows):
        padded = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)]
        print("  ".join([label.ljust(widths[0]), *padded]))


def main() -> None:
    _show(
        "Lattices: primal/dual attack; the cost is log2 of operations",
        ("", "n", "log2 q", "dev. s/e", "block", "core-SVP", "quantum", "HE standard", "its row, pq"),
        [_lattice_row(problem) for problem in problems()],
    )
    _show(
        "Counts: a digit lies T bits up and has D bits; chance that the noise makes it another",
        ("K_max", "T", "D", "deviations", "misread"),
        [_digit_row(k_max) for k_max in (3, 8, 16, 64, 256, 1024)],
    )
    _show(
        "lwe-shamir: colluders beside the coordinator that learn nothing, sites that may be away, wrong answers named",
        ("members", "t", "colluders", "away", "wrong"),
        [_sharing_row(members) for members in (3, 4, 5, 7, 10, 16, 32, 64)],
    )
    checks = (1, 3, 10, 30, 100, 1000)
    models = (("UCADI", 726_972), ("DenseNet-121", 7_040_000), ("ResNet18", 11_000_000), ("VGG16", 134_000_000))
    _show(
        "Spot checks: chance that one altered part goes unnoticed by so many checks, (1 - f)^c with f = 1 / parts",
        ("model", "parts", *(f"c = {count}" for count in checks)),
        [_spot_row(model, values, checks) for model, values in models],
    )


if __name__ == "__main__":
    main()
