"""What a site remembers where sites that left still count: under which terms, and which sums gave how much away."""

from __future__ import annotations

import json
from typing import Final
from uuid import UUID

from crypto.exposure import shares
from crypto.manifest import Ballot
from crypto.plan import Plan
from crypto.wire import Digest
from participant.database import Attempt, Database, attempt_of
from participant.policy import Refused

_SEEN: Final = (
    "SELECT round, attempt, manifest FROM exposures WHERE study = ? AND site = ? AND fresh ORDER BY round DESC, "
    "attempt DESC"
)


class CarriedRecord(Database):
    """Contributions that may be summed again, from the ballots that this site was shown."""

    def keep_origin(self, plan: Plan) -> None:
        """Remember what a study's updates are relative to and sealed under; again with the same changes nothing.

        Raises:
            Refused: it was something else before, and old and new contributions do not add up.
        """
        now = json.dumps([plan.origin, plan.k_max, plan.n_max, plan.bounds])
        with self._transaction():
            self._write("INSERT OR IGNORE INTO origins VALUES (?, ?)", str(plan.study), now)
            known = self._one("SELECT terms FROM origins WHERE study = ?", str(plan.study))
        if known != now:
            words = (
                "the plan has another origin, k_max, n_max or other bounds than this study's plans before: "
                "contributions of sites that left were made under those"
            )
            raise Refused("origin-changed", words)

    def exposure(self, study: UUID, manifest: Digest) -> float:
        """What the ballots that this site was shown add up to for a contribution; some it may have missed."""
        query = "SELECT COALESCE(SUM(share), 0.0) FROM exposures WHERE study = ? AND manifest = ?"
        return float(self._one(query, str(study), manifest))

    def contributions_of(self, study: UUID, site: UUID) -> list[tuple[int, int, Digest]]:
        """(round, attempt, manifest) of a site's fresh contributions in ballots that were shown here, newest first."""
        return [(number, attempt, manifest) for number, attempt, manifest in self._all(_SEEN, str(study), str(site))]

    def _expose(self, plan: Plan, ballot: Ballot) -> None:
        """Remember a ballot's shares: its sum may be opened once this site has answered."""
        if plan.origin is None:
            return
        place: Attempt = attempt_of(plan)
        exposed = shares(ballot, plan)
        for manifest in (entry.message for entry in ballot.manifests):
            fresh, digest = manifest.plan == plan.digest, manifest.digest
            row = (*place, digest, str(manifest.site), int(fresh), exposed[digest])
            self._write("INSERT INTO exposures VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
