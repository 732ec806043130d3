"""What a site remembers beside its promises: spot checks, outcomes, what was refused, and measurements."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from crypto.outcome import Outcome, SpotCheck
from crypto.plan import Plan
from crypto.wire import Digest, Signed
from participant.database import Database, attempt_of, text_of

_FIGURES: Final = "SELECT figures FROM timings WHERE study = ? AND round = ? AND attempt = ?"
_DROP_FIGURES: Final = "DELETE FROM timings WHERE study = ? AND round = ? AND attempt = ?"
_CHECKS: Final = "SELECT plan, part, signed FROM spot_checks WHERE study = ? ORDER BY round, attempt"
_CHECK: Final = "SELECT part, signed FROM spot_checks WHERE study = ? AND round = ? AND attempt = ?"
_CHOOSE: Final = "UPDATE spot_checks SET part = ? WHERE study = ? AND round = ? AND attempt = ? AND part IS NULL"
_FOUND: Final = "UPDATE spot_checks SET signed = ? WHERE study = ? AND round = ? AND attempt = ? AND signed IS NULL"
_DROP_CHECK: Final = "DELETE FROM spot_checks WHERE study = ? AND round = ? AND attempt = ?"
_AGREE_FIRST: Final = (
    "INSERT INTO agreements SELECT ?1, ?2 WHERE NOT EXISTS (SELECT 1 FROM agreements WHERE study = ?1)"
)


@dataclass(frozen=True, slots=True)
class DueCheck:
    """A spot check to be done once the attempt has ended: with the part if it was chosen, and the result if found."""

    plan: Plan
    part: int | None
    signed: Signed[SpotCheck] | None


@dataclass(frozen=True, slots=True)
class Head:
    """The model that a round ended with, as this site checked it. `doubt`: what was wrong with it."""

    round: int
    model: Digest
    doubt: str | None = None


class ResultRecord(Database):
    """What came of attempts, and what was said about them."""

    # --- spot checks: one an attempt, from its acceptance until its result was handed in

    def due_checks(self, study: UUID) -> list[DueCheck]:
        """Those of all attempts that were accepted and not checked yet, oldest first."""
        return [
            DueCheck(Plan.decode(plan.encode()), part, Signed[SpotCheck].decode(signed.encode()) if signed else None)
            for plan, part, signed in self._all(_CHECKS, str(study))
        ]

    def choose_part(self, plan: Plan, part: int) -> int:
        """Remember the part to check. The first one kept is the choice ever after."""
        self._write(_CHOOSE, part, *attempt_of(plan))
        return int(self._one(_CHECK, *attempt_of(plan)))

    def keep_check(self, plan: Plan, signed: Signed[SpotCheck]) -> Signed[SpotCheck]:
        """Remember what was found. The first result kept is the result ever after."""
        self._write(_FOUND, text_of(signed), *attempt_of(plan))
        return Signed[SpotCheck].decode(self._all(_CHECK, *attempt_of(plan))[0][1].encode())

    def end_check(self, plan: Plan, head: Head | None) -> None:
        """No more to be done about an attempt. `head` is what is known now of the study's model; a doubt stays."""
        with self._transaction():
            self._write(_DROP_CHECK, *attempt_of(plan))
            self._write("DELETE FROM heads WHERE study = ? AND doubt IS NULL", str(plan.study))
            if head is not None:
                row = (str(plan.study), head.round, head.model, head.doubt)
                self._write("INSERT OR IGNORE INTO heads VALUES (?, ?, ?, ?)", *row)

    def head(self, study: UUID) -> Head | None:
        """The model that the next round has to start from, if this site knows it."""
        rows = self._all("SELECT round, model, doubt FROM heads WHERE study = ?", str(study))
        return Head(*rows[0]) if rows else None

    def trust(self, study: UUID) -> None:
        """The operator here says from which model the study may go on, whatever was found."""
        self._write("DELETE FROM heads WHERE study = ?", str(study))

    # --- outcomes, and models that only members hold

    def keep_outcome(self, signed: Signed[Outcome]) -> Signed[Outcome]:
        """Remember what this site made of a ballot. The first one kept is its word ever after."""
        self._write("INSERT OR IGNORE INTO outcomes VALUES (?, ?)", signed.message.ballot, text_of(signed))
        return self.outcome(signed.message.ballot) or signed

    def outcome(self, ballot: str) -> Signed[Outcome] | None:
        return self._message(Signed[Outcome], "SELECT signed FROM outcomes WHERE ballot = ?", ballot)

    def agree_first(self, study: UUID, model: Digest) -> None:
        """Take a study's first model as one to train on, unless another was before."""
        self._write(_AGREE_FIRST, str(study), model)

    def agree(self, study: UUID, model: Digest) -> None:
        """The members agree on this model: it may be trained on, and passed on to members that lack it."""
        self._write("INSERT OR IGNORE INTO agreements VALUES (?, ?)", str(study), model)

    def agreed(self, study: UUID, model: Digest) -> bool:
        return bool(self._all("SELECT 1 FROM agreements WHERE study = ? AND model = ?", str(study), model))

    # --- refusals and figures

    def refused(self, about: str, code: str) -> bool:
        """Whether this no was said before: each is said, ledgered and posted once."""
        return self._one("SELECT 1 FROM refusals WHERE about = ? AND code = ?", about, code) is not None

    def keep_refusal(self, about: str, code: str) -> None:
        self._write("INSERT OR IGNORE INTO refusals VALUES (?, ?)", about, code)

    def forget_refusals(self, about: str) -> bool:
        """What was refused is agreed to now. Whether there was anything to forget."""
        with self._transaction():
            known = bool(self._all("SELECT 1 FROM refusals WHERE about = ?", about))
            self._write("DELETE FROM refusals WHERE about = ?", about)
        return known

    def note_figures(self, plan: Plan, **figures: float) -> None:
        """Keep measurements of an attempt until it ends."""
        with self._transaction():
            known = self._one(_FIGURES, *attempt_of(plan))
            merged = {**(json.loads(known) if known else {}), **figures}
            self._write("INSERT OR REPLACE INTO timings VALUES (?, ?, ?, ?)", *attempt_of(plan), json.dumps(merged))

    def figures(self, study: UUID) -> Iterator[tuple[int, int, dict[str, float]]]:
        """Measurements kept of a study, as (round, attempt, figures), oldest first."""
        query = "SELECT round, attempt, figures FROM timings WHERE study = ? ORDER BY round, attempt"
        for number, attempt, figures in self._all(query, str(study)):
            yield number, attempt, json.loads(figures)

    def drop_figures(self, study: UUID, number: int, attempt: int) -> None:
        self._write(_DROP_FIGURES, str(study), number, attempt)
