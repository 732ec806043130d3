"""`lwe-shamir`: RLWE for the bulk, Shamir shares of the secret that opens it (protocol, section 2).

No site can open anything alone, and nothing secret outlives a round. `crypto.schemes.shares` has the sites' side of
opening; the coordinator's side is `combine`, whose result `reveal` takes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from crypto.ckks_public import PublicContext
from crypto.errors import Malformed
from crypto.layout import Layout
from crypto.manifest import Answer, ShareOpening
from crypto.plan import Plan, Roster
from crypto.ring import FftMultiplier, MakeMultiplier
from crypto.schemes.base import Recipients, Sealed, SecretSum
from crypto.schemes.lwe_bulk import LweBulk, seal_contribution
from crypto.schemes.shares import SEALED_SHARE_BYTES, check_sharing, seal_shares
from crypto.shamir import Share, combine


class LweShamir(LweBulk):
    """See `crypto.schemes.base.Scheme`."""

    trust: Final = (
        "Protects each site's update from a coordinator that cheats, also from one that conspires with up to a third "
        "of the members: no member opens anything alone."
    )

    def key_part_limit(self, plan: Plan) -> int:
        return SEALED_SHARE_BYTES

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
        if not isinstance(to, Recipients):
            raise TypeError("lwe-shamir seals shares to the members of the plan's roster")
        members = to
        return seal_contribution(
            plan, layout, update, samples, recipe_counts, lambda secret: seal_shares(plan, members, secret), multiplier
        )

    def openings_needed(self, plan: Plan) -> int:
        return plan.threshold or 0

    def combine(self, plan: Plan, roster: Roster, openings: Iterable[Answer]) -> SecretSum:
        """The sum of secrets from the answers of at least `plan.threshold` members, their signatures verified.

        With exactly that many nothing can be checked here: a wrong answer shows in `reveal`, but not whose it is.
        With m answers up to floor((m - threshold) / 2) wrong ones are named, and the round still opens.

        Raises:
            TooFewShares: fewer answers.
            SharesDisagree: too many are wrong; more answers may help.
            Malformed: answers to two ballots, of a site that is no member, or two of one site; or as `check_sharing`.
            WrongDigest: another roster than the plan names.
        """
        threshold = check_sharing(plan, roster)
        shares: dict[int, Share] = {}
        sites: dict[int, UUID] = {}
        ballots: set[str] = set()
        for opening in openings:  # as integers of Python each is ten times its size
            ballots.add(opening.ballot)
            if len(ballots) > 1:
                raise Malformed("answers to two ballots do not add up to one opening")
            if not isinstance(opening, ShareOpening):
                raise Malformed(f"the answer of site {opening.site} is no sum of shares")
            member = roster.member(opening.site)
            if member is None or member.index in shares:
                raise Malformed(f"site {opening.site} answered twice, or is not on the plan's roster")
            shares[member.index], sites[member.index] = np.array(opening.share_sum, np.uint32), opening.site
        combined = combine(shares, threshold)
        wrong = sorted((sites[index] for index in combined.wrong), key=lambda site: site.bytes)
        return SecretSum(tuple(combined.secret.tolist()), tuple(wrong))
