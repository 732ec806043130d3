"""`lwe-ckks`: RLWE for the bulk, one CKKS ciphertext for the secret that opens it (protocol, section 2)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from crypto.ckks_public import KEY_PART_LIMIT, PublicContext
from crypto.errors import Malformed
from crypto.layout import Layout
from crypto.manifest import Answer, Opening
from crypto.plan import Plan, Roster
from crypto.ring import FftMultiplier, MakeMultiplier
from crypto.schemes.base import Recipients, Sealed, SecretSum
from crypto.schemes.lwe_bulk import LweBulk, seal_contribution


class LweCkks(LweBulk):
    """See `crypto.schemes.base.Scheme`."""

    trust: Final = (
        "Protects each site's update from a coordinator that cheats, but not from one that conspires with a member: "
        "all members hold one decryption key."
    )

    def key_part_limit(self, plan: Plan) -> int:
        return KEY_PART_LIMIT

    def seal(
        self,
        plan: Plan,
        layout: Layout,
        update: NDArray[np.float32] | None,
        samples: int,
        recipe_counts: Sequence[int],
        to: PublicContext | Recipients,
        multiplier: MakeMultiplier = FftMultiplier,
    ) -> Sealed:
        if not isinstance(to, PublicContext):
            raise TypeError("lwe-ckks seals its key part under the epoch's public context")
        public = to
        return seal_contribution(
            plan, layout, update, samples, recipe_counts, lambda secret: (public.encrypt(secret),), multiplier
        )

    def openings_needed(self, plan: Plan) -> int:
        return 1

    def combine(self, plan: Plan, roster: Roster, openings: Iterable[Answer]) -> SecretSum:
        """One opener's answer as it is: `reveal` tells whether it opens the sum."""
        answers = list(openings)
        if len(answers) != 1 or not isinstance(answers[0], Opening):
            raise Malformed("a ballot under lwe-ckks is opened with the answer of one opener")
        return SecretSum(answers[0].secret_sum, ())
