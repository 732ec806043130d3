"""Finding series in a PACS (QIDO-RS): by date, modality and description, however many pages they fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any

from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword

from participant.data.importing.pacs_connection import explained_failures
from participant.data.importing.series import Origin, Wanted

Entry = dict[str, Any]
"""One match, in the DICOM JSON model (PS3.18 F)."""


@dataclass(frozen=True)
class Query:
    """Which studies to look into. Both days belong to the time."""

    modalities: tuple[str, ...]
    since: date | None = None
    until: date | None = None

    def filters(self, modality: str) -> dict[str, str]:
        """As the search for studies takes them."""
        chosen = {"ModalitiesInStudy": modality}
        if self.since or self.until:
            chosen["StudyDate"] = f"{_day(self.since)}-{_day(self.until)}"
        return chosen

    def covers(self, day: str) -> bool:
        """Whether a study's date is within; one without a date is not, if there are limits."""
        return (self.since is None or day >= _day(self.since)) and (self.until is None or "" < day <= _day(self.until))


@dataclass(frozen=True)
class RemoteSeries:
    """A series that the PACS has. slices: how many files, 0 if it does not say."""

    origin: Origin = field(repr=False)
    modality: str
    description: str = field(repr=False)
    day: str
    slices: int


def search(client: DICOMwebClient, query: Query, wanted: Wanted) -> list[RemoteSeries]:
    """The series of the query's modalities and days whose description was asked for.

    A PACS may overlook what it cannot search by (PS3.18 8.3.4), so each answer is looked at again here.

    Raises:
        PacsError, NotDelivered: the PACS does not answer as it should.
    """
    found: dict[str, RemoteSeries] = {}
    for modality in query.modalities:
        for study in _paged(client.search_for_studies, "StudyInstanceUID", search_filters=query.filters(modality)):
            if query.covers(_text(study, "StudyDate")):
                for each in _series(client, study, modality):
                    if each.modality == modality and wanted.describes(each.description):
                        found.setdefault(each.origin.series, each)
    return list(found.values())


def instances(client: DICOMwebClient, series: Origin) -> list[str]:
    """The SOPInstanceUIDs of a series. Raises PacsError, NotDelivered."""
    place = {"study_instance_uid": series.study, "series_instance_uid": series.series}
    return [_text(entry, "SOPInstanceUID") for entry in _paged(client.search_for_instances, "SOPInstanceUID", **place)]


def _series(client: DICOMwebClient, study: Entry, modality: str) -> Iterator[RemoteSeries]:
    uid = _text(study, "StudyInstanceUID")
    filters = {"Modality": modality}
    for entry in _paged(
        client.search_for_series, "SeriesInstanceUID", study_instance_uid=uid, search_filters=filters,
        fields=["SeriesDescription", "NumberOfSeriesRelatedInstances"],
    ):  # fmt: skip
        yield RemoteSeries(
            Origin(
                patient=_text(study, "PatientID"),
                study=uid,
                series=_text(entry, "SeriesInstanceUID"),
                accession=_text(study, "AccessionNumber"),
            ),
            modality=_text(entry, "Modality") or modality,
            description=_text(entry, "SeriesDescription"),
            day=_text(study, "StudyDate"),
            slices=int(_text(entry, "NumberOfSeriesRelatedInstances") or 0),
        )


def _paged(ask: Callable[..., list[Entry]], key: str, **asked: Any) -> Iterator[Entry]:
    """All matches, page after page, until one has nothing new: a PACS may ignore that it was asked for the next.

    How many come at a time is left to the PACS: some, Orthanc 1.10 among them, answer nothing from the second page on
    when a limit and a filter meet, and what was beyond the first would be lost without a word.
    """
    seen: set[str] = set()
    offset = 0
    while True:
        with explained_failures():
            page = ask(offset=offset, **asked)
        fresh = {_text(entry, key): entry for entry in page if _text(entry, key) not in seen | {""}}
        if not fresh:
            return
        yield from fresh.values()
        seen |= fresh.keys()
        offset += len(page)


def _text(entry: Entry, keyword: str) -> str:
    values = entry.get(f"{tag_for_keyword(keyword):08X}", {}).get("Value") or [""]
    return str(values[0]).strip()


def _day(day: date | None) -> str:
    return f"{day:%Y%m%d}" if day else ""
