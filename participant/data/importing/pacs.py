"""Fetching series from a PACS (WADO-RS), file by file: what is on the disk is never asked for again."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from dicomweb_client.api import DICOMwebClient
from pydicom.dataset import Dataset

from participant.data.dicom import XRAY_MODALITIES
from participant.data.importing.collection import CASES, Row
from participant.data.importing.intake import Intake, write_stripped
from participant.data.importing.pacs_connection import NotDelivered, PacsError, explained_failures
from participant.data.importing.pacs_search import RemoteSeries, instances
from participant.data.importing.series import (
    CHANGED,
    LeftOut,
    Origin,
    Wanted,
    check_count,
    check_pixels,
    check_use,
    check_volume,
    read_slice,
    usable,
)
from participant.data.importing.summary import Summary
from participant.progress import Advance

_CONNECTIONS: Final = 4  # at once: a PACS has its own work to do
_NOT_DELIVERED: Final = "the PACS did not deliver it; run again"


@dataclass(frozen=True)
class Fetcher:
    """Takes series from a PACS into a collection. A file is fetched once: killed anywhere, the next import goes on."""

    client: DICOMwebClient
    intake: Intake
    wanted: Wanted

    def fetch(self, found: Sequence[RemoteSeries], advance: Advance) -> Summary:
        """Fetch what is not here yet; progress is told in files.

        Raises:
            PacsError: the PACS does not answer any more.
        """
        summary, done = Summary(), 0
        total = sum(max(each.slices, 1) for each in found)
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for each in found:
                try:
                    self._take(each, pool, summary)
                except LeftOut as left_out:
                    summary.leave_out(each.origin.series, left_out)
                except NotDelivered as error:
                    summary.leave_out(each.origin.series, LeftOut(_NOT_DELIVERED, str(error)))
                done += max(each.slices, 1)
                advance(done, total)
        return summary

    def foretell(self, remote: RemoteSeries) -> str:
        """In words, what `fetch` would do with a series."""
        rows = self._rows(remote)
        if self._settled(rows, remote):
            return next((row.reason for row in rows if row.reason), "here already")
        try:
            self._check(rows, remote)
        except LeftOut as left_out:
            return left_out.reason
        staged = len(list(self.intake.collection.staging(self._name(remote)).glob("[!.]*")))
        return f"fetch; {staged} of {remote.slices} are here" if staged else "fetch"

    def _take(self, remote: RemoteSeries, pool: Executor, summary: Summary) -> None:
        rows = self._rows(remote)
        if self._settled(rows, remote):
            for row in rows:
                _count_known(row, remote, summary)
            return
        self._check(rows, remote)
        uids = instances(self.client, remote.origin)
        if remote.modality in XRAY_MODALITIES:
            for uid in uids:
                self._take_film(uid, remote, summary)
        elif remote.slices == len(uids):
            self._take_volume(uids, remote, pool, summary)
        else:  # a PACS need not say how many there are, or has got more meanwhile
            self._take(replace(remote, slices=len(uids)), pool, summary)

    def _take_volume(self, uids: Sequence[str], remote: RemoteSeries, pool: Executor, summary: Summary) -> None:
        name, collection = self._name(remote), self.intake.collection
        row = self.intake.row(name, f"{CASES}/{name}", remote.origin, len(uids))
        try:
            self._gather(uids, remote.origin, collection.staging(name), pool)
        except LeftOut as left_out:
            collection.leave_out(replace(row, path="", reason=left_out.reason))
            raise
        collection.admit(row)
        summary.imported.add(name)

    def _gather(self, uids: Sequence[str], origin: Origin, folder: Path, pool: Executor) -> None:
        """Fetch the files of a volume that are missing. Raises LeftOut if they make none, after the first if it can."""
        folder.mkdir(mode=0o700, exist_ok=True)
        for torn in folder.glob(".*"):
            torn.unlink()
        missing = [uid for uid in uids if not (folder / self.intake.slice_name(uid)).exists()]
        if missing and len(missing) == len(uids):
            first = self._retrieve(origin, missing.pop(0))
            check_use(first)
            self._write(first, folder)
        list(pool.map(lambda uid: self._write(self._retrieve(origin, uid), folder), missing))
        here = [(path, read_slice(path)) for path in sorted(folder.iterdir())]
        volume = usable(here, Wanted(self.wanted.min_slices))
        check_volume(volume, self.wanted)
        for path in {path for path, _ in here} - {path for path, _ in volume}:
            path.unlink()

    def _take_film(self, uid: str, remote: RemoteSeries, summary: Summary) -> None:
        name, collection = self.intake.film_name(uid), self.intake.collection
        row = self.intake.row(name, f"{CASES}/{name}.dcm", remote.origin, 1)
        if name in collection.rows:
            _count_known(collection.rows[name], remote, summary)
            return
        header, staged = self._retrieve(remote.origin, uid), collection.staging(name)
        try:
            check_use(header)
            write_stripped(header, staged, self.intake.pseudonyms)
            check_pixels(staged, read_slice(staged))
        except LeftOut as left_out:
            collection.leave_out(replace(row, path="", reason=left_out.reason))
            summary.leave_out(remote.origin.series, left_out)
            return
        collection.admit(row)
        summary.imported.add(name)

    def _retrieve(self, origin: Origin, uid: str) -> Dataset:
        try:
            with explained_failures():
                return self.client.retrieve_instance(origin.study, origin.series, uid)
        except (PacsError, NotDelivered):
            raise
        except Exception as error:  # a damaged file makes pydicom raise nearly anything
            raise NotDelivered(f"the PACS sent a damaged file ({type(error).__name__})") from error

    def _write(self, header: Dataset, folder: Path) -> None:
        name = self.intake.slice_name(str(header.SOPInstanceUID))
        write_stripped(header, folder / name, self.intake.pseudonyms)

    def _check(self, rows: Sequence[Row], remote: RemoteSeries) -> None:
        """Whether to look further. Raises LeftOut if a volume was imported with other files, or has too few."""
        if remote.modality in XRAY_MODALITIES or not remote.slices:
            return
        if any(row.path for row in rows):
            raise LeftOut(CHANGED)
        check_count(remote.slices, self.wanted)

    def _settled(self, rows: Sequence[Row], remote: RemoteSeries) -> bool:
        """Whether every file of a series, of so many, was imported or left out before."""
        return bool(rows) and sum(row.files for row in rows) == remote.slices

    def _rows(self, remote: RemoteSeries) -> list[Row]:
        name = self._name(remote)
        return [row for row in self.intake.collection.rows.values() if row.series == name]

    def _name(self, remote: RemoteSeries) -> str:
        return self.intake.pseudonyms.of("series", remote.origin.series)


def _count_known(row: Row, remote: RemoteSeries, summary: Summary) -> None:
    if row.path:
        summary.known.add(row.name)
    else:
        summary.leave_out(remote.origin.series, LeftOut(row.reason))
