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
from pathlib import Path
from typing import Any, Final, TypeVar
from uuid import UUID

from crypto.manifest import Ballot, Manifest, Opening, Vote
from crypto.plan import Plan
from crypto.wire import Message, Signed
from participant.policy import Refused

M = TypeVar("M", bound=Message)
Attempt = tuple[str, int, int]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS memory (id INTEGER PRIMARY KEY CHECK (id = 1), lost INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS skipped (study TEXT PRIMARY KEY, round INTEGER NOT NULL, attempt INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS peers (
    study TEXT, site TEXT, fingerprint TEXT NOT NULL, approved REAL NOT NULL, PRIMARY KEY (study, site));
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
CREATE TABLE IF NOT EXISTS refusals (about TEXT, code TEXT, PRIMARY KEY (about, code));
CREATE TABLE IF NOT EXISTS timings (
    study TEXT, round INTEGER, attempt INTEGER, figures TEXT NOT NULL, PRIMARY KEY (study, round, attempt));
"""
_PLAN: Final = "SELECT plan FROM acceptances WHERE study = ? AND round = ? AND attempt = ?"
_MANIFEST: Final = "SELECT signed FROM manifests WHERE study = ? AND round = ? AND attempt = ?"
_BALLOT: Final = "SELECT ballot FROM ballots WHERE study = ? AND round = ? AND attempt = ?"
_FIGURES: Final = "SELECT figures FROM timings WHERE study = ? AND round = ? AND attempt = ?"
_DROP_FIGURES: Final = "DELETE FROM timings WHERE study = ? AND round = ? AND attempt = ?"
_SETS: Final = "SELECT DISTINCT contributors FROM ballots WHERE study = ? AND base_model = ?"


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
            "SELECT attempt FROM ballots JOIN votes USING (ballot) WHERE study = ? AND round = ?",
            str(plan.study),
            plan.round,
        )
        if answered is not None:
            words = f"this site voted in attempt {answered} of round {plan.round}; further attempts could subtract sums"
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

    def keep_opening(self, signed: Signed[Opening]) -> Signed[Opening]:
        """Remember the one answer to a ballot. The first one kept is the answer ever after."""
        self._write("INSERT OR IGNORE INTO openings VALUES (?, ?)", signed.message.ballot, _text(signed))
        return self.opening(signed.message.ballot) or signed

    def opening(self, ballot: str) -> Signed[Opening] | None:
        """The answer given to a ballot."""
        return self._message(Signed[Opening], "SELECT signed FROM openings WHERE ballot = ?", ballot)

    # --- refusals and figures

    def first_refusal(self, about: str, code: str) -> bool:
        """Whether this no is new: each is said, posted and ledgered once."""
        with self._transaction():
            known = self._one("SELECT 1 FROM refusals WHERE about = ? AND code = ?", about, code)
            self._write("INSERT OR IGNORE INTO refusals VALUES (?, ?)", about, code)
            return known is None

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
