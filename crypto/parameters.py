"""The numbers of the protocol, each with its reason. There are no free ones: a caller picks a scheme, not a modulus."""

from __future__ import annotations

from typing import Final

# --- RLWE: R = Z_q[X]/(X^N + 1), q = 2^32, so that adding is what unsigned 32-bit integers do anyway.
N: Final = 2048
SIGMA: Final = 4.0  # centred binomial of 2 x 32 bits: variance 16
SECRET_BOUND: Final = 32  # its largest absolute value
CARRY_LIMIT: Final = 4.0  # of 1 / fresh contributors, over the sums that one contribution is in (docs/decisions/0009)

# --- Parts: what is uploaded, stored, hashed and resumed as one piece.
PART_POLYNOMIALS: Final = 512
PART_VALUES: Final = PART_POLYNOMIALS * N
PART_BYTES: Final = 4 * PART_VALUES  # 4 MiB

# --- Lanes
K_LIMIT: Final = 1024  # most contributors any plan may admit
CANARIES: Final = 64
COUNT_LIMIT: Final = 1 << 24  # a count has to stay below, so that three digits hold it
COUNT_DIGITS: Final = 3
LOSS_UNIT: Final = 1000  # the count `loss` is a sum of cross entropies in thousandths of a nat
PARAMETER_BOUND: Final = 1.0  # first bound of a tensor's update; adapts in public
BUFFER_BOUND: Final = 64.0
PARAMETER_FALLS_TO: Final = 2.0**-4  # a smaller bound gains nothing: the mean is off by float32's rounding of 1 already
BUFFER_FALLS_TO: Final = 8.0  # running statistics move in leaps (docs/decisions/0014)
CARRY_BOUND: Final = 4.0  # of a parameter where it holds for a whole study: updates are relative to its first model

# --- CKKS for key parts: 2,048 slots hold the 2,048 coefficients of one secret.
CKKS_DEGREE: Final = 4096
CKKS_MODULI: Final = (50, 20)  # bits: the first holds sums, SEAL divides noise by the second (docs/decisions/0008)
CKKS_SCALE_BITS: Final = 30
CKKS_SLOTS: Final = CKKS_DEGREE // 2
CKKS_ROUNDING: Final = 0.25  # a decoded coefficient farther than this from an integer is not a sum of secrets

# --- CKKS for whole updates (scheme `ckks`): a slot holds w x / b, within [-1, 1].
CKKS_SUM_BITS: Final = 49  # K_max times the scale stays below half the modulus of 50 bits
CKKS_BODY_SCALE_BITS: Final = 40  # more would only resolve the noise of encryption
CKKS_PART_CIPHERTEXTS: Final = 64  # some 59,000 bytes each: 3.8 MB a part
CKKS_BODY_LIMIT: Final = PART_BYTES // CKKS_PART_CIPHERTEXTS - 4  # bytes of one, so that no part exceeds PART_BYTES
CKKS_COUNT_BITS: Final = 8  # of a count digit, in a slot as digit / 256
CKKS_OPENING_NOISE: Final = 2.0**-20  # deviation of what an opener adds to each slot, 2^11 times below half a digit
CKKS_CANARY_LIMIT: Final = 2.0**-14  # 64 deviations

# --- Shamir shares of a secret: a sum of 1,024 secrets is far below p / 2, a product of two residues below 2^62.
SHARE_PRIME: Final = 2**31 - 1

# --- Formats carry a version; a coordinator serves the two latest.
PROTOCOL_VERSION: Final = 1
DEFAULT_MINIMUM_CONTRIBUTORS: Final = 3
