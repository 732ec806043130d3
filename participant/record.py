"""What this site must never forget: which plans it accepted, what it signed, which ballots it saw and answered.

Each row is on the disk (SQLite, synchronous=FULL) before anything that depends on it leaves. The rules of protocol
section 6 that need memory are the methods here; primary keys hold those that allow only one of something.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from crypto.manifest import Answer, Ballot, Manifest, Vote
from crypto.outcome import Outcome, SpotCheck
from crypto.plan import Plan
from crypto.schemes.spot_check import checkable
from crypto.wire import Digest, Message, Signed
from participant.policy import Refused

M = TypeVar("M", bound=Message)
A = TypeVar("A", bound=Answer)
Attempt = tuple[str, int, int]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS memory (id INTEGER PRIMARY KEY CHECK (id = 1), lost INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS skipped (study TEXT PRIMARY KEY, round INTEGER NOT NULL, attempt INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS studies (study TEXT PRIMARY KEY, recipe TEXT NOT NULL, layout TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS epochs (study TEXT, number INTEGER, record TEXT NOT NULL, PRIMARY KEY (study, number));
CREATE TABLE IF NOT EXISTS peers (
    study TEXT, site TEXT, fingerprint TEXT NOT NULL, approved REAL NOT NULL, PRIMARY KEY (study, site));
CREATE TABLE IF NOT EXISTS departures (study TEXT PRIMARY KEY, left_at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS acceptances (
    study TEXT, round INTEGER, attempt INTEGER, plan TEXT NOT NULL UNIQUE, accepted REAL NOT NULL,
    PRIMARY KEY (study, round, attempt));
CREATE TABLE IF NOT EXISTS manifests (
    study TEXT, round INTEGER, attempt INTEGER, signed TEXT NOT NULL, PRIMARY KEY (study, round, attempt),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS ballots (
    study TEXT, round INTEGER, attempt INTEGER, ballot TEXT NOT NULL UNIQUE, base_model TEXT NOT NULL,
    contributors TEXT NOT NULL, seen REAL NOT NULL, PRIMARY KEY (study, round, attempt),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS votes (ballot TEXT PRIMARY KEY REFERENCES ballots (ballot), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS openings (ballot TEXT PRIMARY KEY REFERENCES ballots (ballot), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS spot_checks (
    study TEXT, round INTEGER, attempt INTEGER, plan TEXT NOT NULL, part INTEGER, signed TEXT,
    PRIMARY KEY (study, round, attempt),
    FOREIGN KEY (study, round, attempt) REFERENCES acceptances (study, round, attempt));
CREATE TABLE IF NOT EXISTS heads (study TEXT PRIMARY KEY, round INTEGER NOT NULL, model TEXT NOT NULL, doubt TEXT);
CREATE TABLE IF NOT EXISTS outcomes (ballot TEXT PRIMARY KEY REFERENCES ballots (ballot), signed TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS terms (study TEXT PRIMARY KEY, scheme TEXT NOT NULL, release TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS agreements (study TEXT, model TEXT, PRIMARY KEY (study, model));
CREATE TABLE IF NOT EXISTS refusals (about TEXT, code TEXT, PRIMARY KEY (about, code));
CREATE TABLE IF NOT EXISTS timings (
    study TEXT, round INTEGER, attempt INTEGER, figures TEXT NOT NULL, PRIMARY KEY (study, round, attempt));
"""
_PLAN: Final = "SELECT plan FROM acceptances WHERE study = ? AND round = ? AND attempt = ?"
_MANIFEST: Final = "SELECT signed FROM manifests WHERE study = ? AND round = ? AND attempt = ?"
_BALLOT: Final = "SELECT ballot FROM ballots WHERE study = ? AND round = ? AND attempt = ?"
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
_SETS: Final = "SELECT DISTINCT contributors FROM ballots WHERE study = ? AND base_model = ?"


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


class Record:
    """The database. Shared by the agent's threads; a command may read it, and approve peers, meanwhile.

    Args:
        fresh: this is a new site that has not taken part in anything. Otherwise a missing file means that the
            memory was lost, and the site sits out whatever attempt it finds under way in each study.
    """

    def __init__(self, path: Path, *, fresh: bool = False, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._database = sqlite3.connect(path, timeout=30.0, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA synchronous = FULL")
        self._database.execute("PRAGMA foreign_keys = ON")
        self._database.executescript(_SCHEMA)
        self._write("INSERT OR IGNORE INTO memory VALUES (1, ?)", int(not fresh))

    def close(self) -> None:
        with self._lock:
            self._database.close()

    @property
    def lost(self) -> bool:
        """Whether this memory began after the site's life did."""
        return bool(self._one("SELECT lost FROM memory"))

    def pin(self, study: UUID, recipe: Digest, layout: Digest) -> None:
        """Remember what a study trains when this site first meets it: another recipe is another study.

        Raises:
            Refused: it trained something else before.
        """
        with self._transaction():
            self._write("INSERT OR IGNORE INTO studies VALUES (?, ?, ?)", str(study), recipe, layout)
            known = self._all("SELECT recipe, layout FROM studies WHERE study = ?", str(study))
            if known != [(recipe, layout)]:
                words = "its recipe or layout is another than when this site joined; ask the operator for a new study"
                raise Refused("study-changed", words)

    def pin_terms(self, study: UUID, scheme: str, release: str) -> None:
        """Remember who may open sums and read models, as it was when this site first met the study.

        Raises:
            Refused: it was another scheme or release before.
        """
        with self._transaction():
            self._write("INSERT OR IGNORE INTO terms VALUES (?, ?, ?)", str(study), scheme, release)
            known = self._all("SELECT scheme, release FROM terms WHERE study = ?", str(study))[0]
        if known != (scheme, release):
            words = f"it is {scheme}, release {release} now; this site joined it as {known[0]}, release {known[1]}"
            raise Refused("study-changed", f"{words}: ask the operator for a new study")

    # --- key epochs

    def keep_epoch(self, study: UUID, number: int, record: Digest) -> None:
        """Remember a key epoch that this site holds the key of."""
        self._write("INSERT OR IGNORE INTO epochs VALUES (?, ?, ?)", str(study), number, record)

    def newest_epoch(self, study: UUID) -> tuple[int, Digest] | None:
        """Number and record of the last one; keys of those before it may be in the hands of a site that left."""
        rows = self._all("SELECT number, record FROM epochs WHERE study = ? ORDER BY number DESC LIMIT 1", str(study))
        return rows[0] if rows else None

    def held_epoch(self, study: UUID, record: Digest) -> bool:
        return self._one("SELECT 1 FROM epochs WHERE study = ? AND record = ?", str(study), record) is not None

    # --- peers

    def approve(self, study: UUID, site: UUID, fingerprint: str) -> None:
        """A person (or the policy `auto`) approved this peer's keys; replaces an approval of other keys."""
        self._write(
            "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)", str(study), str(site), fingerprint, self._clock()
        )

    def approved(self, study: UUID) -> dict[UUID, str]:
        """Fingerprints by approved site."""
        rows = self._all("SELECT site, fingerprint FROM peers WHERE study = ?", str(study))
        return {UUID(site): fingerprint for site, fingerprint in rows}

    # --- studies that this site left, and does not join by itself again

    def leave(self, study: UUID) -> None:
        self._write("INSERT OR IGNORE INTO departures VALUES (?, ?)", str(study), self._clock())

    def rejoin(self, study: UUID) -> None:
        self._write("DELETE FROM departures WHERE study = ?", str(study))

    def has_left(self, study: UUID) -> bool:
        return bool(self._all("SELECT 1 FROM departures WHERE study = ?", str(study)))

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
            known = self._one(_PLAN, *_attempt(plan))
            if known == plan.digest:
                return
            if known is not None:
                raise Refused("plan-differs", f"another plan was accepted for {_name(plan)} before")
            self._check_order(plan)
            self._check_round_open(plan)
            self._write("INSERT INTO acceptances VALUES (?, ?, ?, ?, ?)", *_attempt(plan), plan.digest, self._clock())
            if checkable(plan):
                self._write("INSERT INTO spot_checks VALUES (?, ?, ?, ?, NULL, NULL)", *_attempt(plan), _text(plan))

    def accepted(self, plan: Plan) -> bool:
        """Whether this very plan was accepted."""
        return bool(self._one(_PLAN, *_attempt(plan)) == plan.digest)

    def _check_order(self, plan: Plan) -> None:
        seen = self._all(
            "SELECT round, attempt FROM acceptances WHERE study = ?1 UNION SELECT round, attempt FROM skipped "
            "WHERE study = ?1 ORDER BY 1 DESC, 2 DESC LIMIT 1",
            str(plan.study),
        )
        if seen and (plan.round, plan.attempt) <= tuple(seen[0]):
            raise Refused("plan-old", f"{_name(plan)} is not after round {seen[0][0]}, attempt {seen[0][1]}")

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

    def sign_manifest(self, plan: Plan, signed: Signed[Manifest]) -> None:
        """Remember the one manifest of an attempt; again with the same one changes nothing.

        Raises:
            Refused: another one was signed for it.
        """
        with self._transaction():
            known = self.manifest(plan)
            if known is None:
                self._write("INSERT INTO manifests VALUES (?, ?, ?, ?)", *_attempt(plan), _text(signed))
            elif known.message != signed.message:
                raise Refused("manifest-differs", f"another manifest was signed for {_name(plan)}")

    def manifest(self, plan: Plan) -> Signed[Manifest] | None:
        return self._message(Signed[Manifest], _MANIFEST, *_attempt(plan))

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
            known = self._one(_BALLOT, *_attempt(plan))
            if known is not None and known != ballot.digest:
                raise Refused("ballot-differs", f"another ballot was shown for {_name(plan)} before")
            contributors = json.dumps([str(entry.message.site) for entry in ballot.manifests])
            sets = {row[0] for row in self._all(_SETS, str(plan.study), plan.base_model)} | {contributors}
            if known is None:
                if len(sets) > reattempts:
                    words = f"set {len(sets)} of contributors on one base model; policy.toml allows {reattempts}"
                    raise Refused("too-many-sets", words)
                row = (*_attempt(plan), ballot.digest, plan.base_model, contributors, self._clock())
                self._write("INSERT INTO ballots VALUES (?, ?, ?, ?, ?, ?, ?)", *row)
            return known is None, len(sets)

    def ballot(self, plan: Plan) -> Digest | None:
        """Digest of the ballot that was shown for the attempt."""
        digest: Digest | None = self._one(_BALLOT, *_attempt(plan))
        return digest

    def _check_last(self, plan: Plan, ballot: Ballot) -> None:
        last = self._one(
            "SELECT plan FROM acceptances WHERE study = ? ORDER BY round DESC, attempt DESC LIMIT 1", str(plan.study)
        )
        if not ballot.plan == plan.digest == last:
            raise Refused("ballot-of-other-plan", f"the ballot of {_name(plan)} is not of the plan accepted last")

    def keep_vote(self, signed: Signed[Vote]) -> Signed[Vote]:
        """Remember the one vote on a ballot. The first one kept is the answer ever after."""
        self._write("INSERT OR IGNORE INTO votes VALUES (?, ?)", signed.message.ballot, _text(signed))
        kept = self._message(Signed[Vote], "SELECT signed FROM votes WHERE ballot = ?", signed.message.ballot)
        return kept or signed

    def keep_opening(self, signed: Signed[A]) -> Signed[A]:
        """Remember the one answer to a ballot. The first one kept is the answer ever after."""
        self._write("INSERT OR IGNORE INTO openings VALUES (?, ?)", signed.message.ballot, _text(signed))
        return self.opening(signed.message.ballot, type(signed.message)) or signed

    def opening(self, ballot: str, kind: type[A]) -> Signed[A] | None:
        """The answer given to a ballot, of the kind that its scheme takes."""
        return self._message(Signed[kind], "SELECT signed FROM openings WHERE ballot = ?", ballot)  # type: ignore[valid-type]

    # --- spot checks: one an attempt, from its acceptance until its result was handed in

    def due_checks(self, study: UUID) -> list[DueCheck]:
        """Those of all attempts that were accepted and not checked yet, oldest first."""
        return [
            DueCheck(Plan.decode(plan.encode()), part, Signed[SpotCheck].decode(signed.encode()) if signed else None)
            for plan, part, signed in self._all(_CHECKS, str(study))
        ]

    def choose_part(self, plan: Plan, part: int) -> int:
        """Remember the part to check. The first one kept is the choice ever after."""
        self._write(_CHOOSE, part, *_attempt(plan))
        return int(self._one(_CHECK, *_attempt(plan)))

    def keep_check(self, plan: Plan, signed: Signed[SpotCheck]) -> Signed[SpotCheck]:
        """Remember what was found. The first result kept is the result ever after."""
        self._write(_FOUND, _text(signed), *_attempt(plan))
        return Signed[SpotCheck].decode(self._all(_CHECK, *_attempt(plan))[0][1].encode())

    def end_check(self, plan: Plan, head: Head | None) -> None:
        """No more to be done about an attempt. `head` is what is known now of the study's model; a doubt stays."""
        with self._transaction():
            self._write(_DROP_CHECK, *_attempt(plan))
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
        self._write("INSERT OR IGNORE INTO outcomes VALUES (?, ?)", signed.message.ballot, _text(signed))
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

    def note_figures(self, plan: Plan, **figures: float) -> None:
        """Keep measurements of an attempt until it ends."""
        with self._transaction():
            known = self._one(_FIGURES, *_attempt(plan))
            merged = {**(json.loads(known) if known else {}), **figures}
            self._write("INSERT OR REPLACE INTO timings VALUES (?, ?, ?, ?)", *_attempt(plan), json.dumps(merged))

    def figures(self, study: UUID) -> Iterator[tuple[int, int, dict[str, float]]]:
        """Measurements kept of a study, as (round, attempt, figures), oldest first."""
        query = "SELECT round, attempt, figures FROM timings WHERE study = ? ORDER BY round, attempt"
        for number, attempt, figures in self._all(query, str(study)):
            yield number, attempt, json.loads(figures)

    def drop_figures(self, study: UUID, number: int, attempt: int) -> None:
        self._write(_DROP_FIGURES, str(study), number, attempt)

    # ---

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")

    def _write(self, statement: str, *values: Any) -> None:
        with self._lock:
            self._database.execute(statement, values)

    def _all(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return list(self._database.execute(query, values))

    def _one(self, query: str, *values: Any) -> Any:
        rows = self._all(query, *values)
        return rows[0][0] if rows else None

    def _message(self, kind: type[M], query: str, *values: Any) -> M | None:
        text = self._one(query, *values)
        return kind.decode(text.encode()) if text is not None else None


def _attempt(plan: Plan) -> Attempt:
    return str(plan.study), plan.round, plan.attempt


def _name(plan: Plan) -> str:
    return f"round {plan.round}, attempt {plan.attempt}"


def _text(message: Message) -> str:
    return message.encode().decode()
