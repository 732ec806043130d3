"""What a site remembers of its studies: what they train, whose keys were approved, which key is the newest."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from crypto.wire import Digest
from participant.database import Database
from participant.policy import Refused


class StudyRecord(Database):
    """Studies, their peers and their key epochs."""

    def pin(self, study: UUID, recipe: Digest, layout: Digest, scheme: str, release: str) -> None:
        """Remember what a study trains, and who may open and read it, as when this site first met it.

        Raises:
            Refused: it was something else before, which makes it another study.
        """
        now = (recipe, layout, scheme, release)
        with self._transaction():
            self._write("INSERT OR IGNORE INTO studies VALUES (?, ?, ?, ?, ?)", str(study), *now)
            known = self._all("SELECT recipe, layout, scheme, release FROM studies WHERE study = ?", str(study))[0]
        if known == now:
            return
        words = "its recipe or its layout is another than when this site joined"
        if known[2:] != now[2:]:
            words = f"it is {scheme}, release {release} now; this site joined it as {known[2]}, release {known[3]}"
        raise Refused("study-changed", f"{words}: ask the operator for a new study")

    def pin_minimum(self, study: UUID, contributors: int) -> None:
        """Remember of how many contributors sums are opened at least, as when this site first met the study.

        Raises:
            Refused: fewer now: it joined for sums in which more hide it.
        """
        with self._transaction():
            self._write("INSERT OR IGNORE INTO minimums VALUES (?, ?)", str(study), contributors)
            known = int(self._one("SELECT contributors FROM minimums WHERE study = ?", str(study)))
        if contributors < known:
            words = f"it opens sums of {contributors} contributors now; this site joined it for {known} or more"
            raise Refused("study-changed", f"{words}: ask the operator for a new study")

    # --- key epochs

    def keep_epoch(self, study: UUID, number: int, record: Digest) -> None:
        """Remember a key epoch: one that this site holds the key of, or one that came too late."""
        self._write("INSERT OR IGNORE INTO epochs VALUES (?, ?, ?)", str(study), number, record)

    def newest_epoch(self, study: UUID) -> tuple[int, Digest] | None:
        """Number and record of the last one; keys of those before it may be in the hands of a site that left."""
        rows = self._all("SELECT number, record FROM epochs WHERE study = ? ORDER BY number DESC LIMIT 1", str(study))
        return rows[0] if rows else None

    def knows_epoch(self, study: UUID, record: Digest) -> bool:
        return self._one("SELECT 1 FROM epochs WHERE study = ? AND record = ?", str(study), record) is not None

    # --- peers

    def approve(self, study: UUID, site: UUID, fingerprint: str) -> None:
        """A person (or the policy `auto`) approved this peer's keys; replaces an approval of other keys."""
        self._write(
            "INSERT OR REPLACE INTO peers VALUES (?, ?, ?, ?)", str(study), str(site), fingerprint, self._clock()
        )

    def approve_all(self, study: UUID, fingerprints: Mapping[UUID, str]) -> None:
        """As `approve`, of several peers at once."""
        with self._transaction():
            for site, fingerprint in fingerprints.items():
                self.approve(study, site, fingerprint)

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
