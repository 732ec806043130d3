"""What this site must never forget: which plans it accepted, what it signed, which ballots it saw and answered.

The rules of protocol section 6 that need memory are the methods here; primary keys hold those that allow only one of
something.
"""

from __future__ import annotations

import json
from typing import Final, TypeVar
from uuid import UUID

from crypto.manifest import Answer, Ballot, Manifest, Vote
from crypto.plan import Plan
from crypto.schemes.spot_check import checkable
from crypto.wire import Digest, Signed
from participant.database import attempt_of, name_of, text_of
from participant.policy import Refused
from participant.record_carried import CarriedRecord
from participant.record_results import ResultRecord
from participant.record_studies import StudyRecord

A = TypeVar("A", bound=Answer)

_PLAN: Final = "SELECT plan FROM acceptances WHERE study = ? AND round = ? AND attempt = ?"
_MANIFEST: Final = "SELECT signed FROM manifests WHERE study = ? AND round = ? AND attempt = ?"
_BALLOT: Final = "SELECT ballot FROM ballots WHERE study = ? AND round = ? AND attempt = ?"
_SETS: Final = "SELECT DISTINCT contributors FROM ballots WHERE study = ? AND base_model = ?"


class Record(StudyRecord, ResultRecord, CarriedRecord):
    """The site's whole memory: what it promised, beside what it knows of studies and results."""

    # --- plans (section 6, step 1)

    def skip_if_lost(self, study: UUID, plan: Plan | None) -> bool:
        """Without memory, the first plan found in a study is not taken part in. True when this call says so first."""
        if not self.lost or self._all("SELECT 1 FROM skipped WHERE study = ?", str(study)):
            return False
        place = (plan.round, plan.attempt) if plan is not None else (0, 0)
        self._write("INSERT INTO skipped VALUES (?, ?, ?)", str(study), *place)
        return plan is not None

    def accept(self, plan: Plan) -> None:
        """Remember a plan as the one of its attempt; again with the same one changes nothing.

        Raises:
            Refused: another plan was accepted for it, or a later one, or the round is over for this site.
        """
        with self._transaction():
            known = self._one(_PLAN, *attempt_of(plan))
            if known == plan.digest:
                return
            if known is not None:
                raise Refused("plan-differs", f"another plan was accepted for {name_of(plan)} before")
            self._check_order(plan)
            self._check_round_open(plan)
            self._write("INSERT INTO acceptances VALUES (?, ?, ?, ?, ?)", *attempt_of(plan), plan.digest, self._clock())
            if checkable(plan):
                self._write("INSERT INTO spot_checks VALUES (?, ?, ?, ?, NULL, NULL)", *attempt_of(plan), text_of(plan))

    def accepted(self, plan: Plan) -> bool:
        """Whether this very plan was accepted."""
        return bool(self._one(_PLAN, *attempt_of(plan)) == plan.digest)

    def _check_order(self, plan: Plan) -> None:
        seen = self._all(
            "SELECT round, attempt FROM acceptances WHERE study = ?1 UNION SELECT round, attempt FROM skipped "
            "WHERE study = ?1 ORDER BY 1 DESC, 2 DESC LIMIT 1",
            str(plan.study),
        )
        if seen and (plan.round, plan.attempt) <= tuple(seen[0]):
            raise Refused("plan-old", f"{name_of(plan)} is not after round {seen[0][0]}, attempt {seen[0][1]}")

    def _check_round_open(self, plan: Plan) -> None:
        answered = self._one(
            "SELECT attempt FROM ballots WHERE study = ? AND round = ? AND "
            "(ballot IN (SELECT ballot FROM votes) OR ballot IN (SELECT ballot FROM openings))",
            str(plan.study),
            plan.round,
        )
        if answered is not None:
            words = (
                f"this site voted or answered in attempt {answered} of round {plan.round}; "
                "further attempts could subtract sums"
            )
            raise Refused("round-over", words)

    # --- manifests (step 2)

    def contributions(self, study: UUID) -> int:
        """How many were signed for in a study. Whether all of them were opened, this site cannot know."""
        return int(self._one("SELECT COUNT(*) FROM manifests WHERE study = ?", str(study)))

    def sign_manifest(self, plan: Plan, signed: Signed[Manifest]) -> None:
        """Remember the one manifest of an attempt; again with the same one changes nothing.

        Raises:
            Refused: another one was signed for it.
        """
        with self._transaction():
            known = self.manifest(plan)
            if known is None:
                self._write("INSERT INTO manifests VALUES (?, ?, ?, ?)", *attempt_of(plan), text_of(signed))
            elif known.message != signed.message:
                raise Refused("manifest-differs", f"another manifest was signed for {name_of(plan)}")

    def manifest(self, plan: Plan) -> Signed[Manifest] | None:
        return self._message(Signed[Manifest], _MANIFEST, *attempt_of(plan))

    # --- ballots, votes, openings (steps 5 to 7)

    def see_ballot(self, plan: Plan, ballot: Ballot, reattempts: int) -> tuple[bool, int]:
        """Remember a ballot as the one of its attempt; again with the same one changes nothing.

        Args:
            reattempts: different sets of contributors that may be opened on one base model.

        Returns:
            Whether it is new, and how many different sets that makes on this base model.

        Raises:
            Refused: it is of a plan that is not the last one accepted, another ballot was shown for the attempt, or
                there were too many sets.
        """
        with self._transaction():
            self._check_last(plan, ballot)
            known = self._one(_BALLOT, *attempt_of(plan))
            if known is not None and known != ballot.digest:
                raise Refused("ballot-differs", f"another ballot was shown for {name_of(plan)} before")
            contributors = json.dumps([str(entry.message.site) for entry in ballot.manifests])
            sets = {row[0] for row in self._all(_SETS, str(plan.study), plan.base_model)} | {contributors}
            if known is None:
                if len(sets) > reattempts:
                    words = f"set {len(sets)} of contributors on one base model; policy.toml allows {reattempts}"
                    raise Refused("too-many-sets", words)
                row = (*attempt_of(plan), ballot.digest, plan.base_model, contributors, self._clock())
                self._write("INSERT INTO ballots VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
                self._expose(plan, ballot)
            return known is None, len(sets)

    def ballot(self, plan: Plan) -> Digest | None:
        """Digest of the ballot that was shown for the attempt."""
        digest: Digest | None = self._one(_BALLOT, *attempt_of(plan))
        return digest

    def _check_last(self, plan: Plan, ballot: Ballot) -> None:
        last = self._one(
            "SELECT plan FROM acceptances WHERE study = ? ORDER BY round DESC, attempt DESC LIMIT 1", str(plan.study)
        )
        if not ballot.plan == plan.digest == last:
            raise Refused("ballot-of-other-plan", f"the ballot of {name_of(plan)} is not of the plan accepted last")

    def keep_vote(self, signed: Signed[Vote]) -> Signed[Vote]:
        """Remember the one vote on a ballot. The first one kept is the answer ever after."""
        self._write("INSERT OR IGNORE INTO votes VALUES (?, ?)", signed.message.ballot, text_of(signed))
        kept = self._message(Signed[Vote], "SELECT signed FROM votes WHERE ballot = ?", signed.message.ballot)
        return kept or signed

    def keep_opening(self, signed: Signed[A]) -> Signed[A]:
        """Remember the one answer to a ballot. The first one kept is the answer ever after."""
        self._write("INSERT OR IGNORE INTO openings VALUES (?, ?)", signed.message.ballot, text_of(signed))
        return self.opening(signed.message.ballot, type(signed.message)) or signed

    def opening(self, ballot: str, kind: type[A]) -> Signed[A] | None:
        """The answer given to a ballot, of the kind that its scheme takes."""
        return self._message(Signed[kind], "SELECT signed FROM openings WHERE ballot = ?", ballot)  # type: ignore[valid-type]
