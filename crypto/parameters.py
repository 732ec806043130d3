"""The numbers of the protocol, each with its reason. There are no free ones: a caller picks a scheme, not a modulus."""

from __future__ import annotations

from typing import Final

# --- RLWE: R = Z_q[X]/(X^N + 1), q = 2^32, so that adding is what unsigned 32-bit integers do anyway.
N: Final = 2048
SIGMA: Final = 4.0  # centred binomial of 2 x 32 bits: variance 16
SECRET_BOUND: Final = 32  # its largest absolute value

# --- Parts: what is uploaded, stored, hashed and resumed as one piece.
PART_POLYNOMIALS: Final = 512
PART_VALUES: Final = PART_POLYNOMIALS * N
PART_BYTES: Final = 4 * PART_VALUES  # 4 MiB

# --- Lanes
K_LIMIT: Final = 1024  # most contributors any plan may admit
CANARIES: Final = 64
COUNT_LIMIT: Final = 1 << 24  # a count has to stay below, so that three digits hold it
COUNT_DIGITS: Final = 3
PARAMETER_BOUND: Final = 1.0  # first bound of a tensor's update; adapts in public
BUFFER_BOUND: Final = 64.0

# --- CKKS for key parts: 2,048 slots hold the 2,048 coefficients of one secret.
CKKS_DEGREE: Final = 4096
CKKS_MODULI: Final = (50, 50)
CKKS_SCALE_BITS: Final = 30
CKKS_SLOTS: Final = CKKS_DEGREE // 2
CKKS_ROUNDING: Final = 0.25  # a decoded coefficient farther than this from an integer is not a sum of secrets

# --- Shamir shares of a secret: a sum of 1,024 secrets is far below p / 2, a product of two residues below 2^62.
SHARE_PRIME: Final = 2**31 - 1

# --- Formats carry a version; a coordinator serves the two latest.
PROTOCOL_VERSION: Final = 1
DEFAULT_MINIMUM_CONTRIBUTORS: Final = 3
