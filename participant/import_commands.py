"""`pleura-participant import folder, pacs, labels`: cases from where the hospital has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from participant.progress import reporter
from participant.setup import ca_file_of
from participant.terminal import HomeOption, end, err, explained, home_of, line, out

if TYPE_CHECKING:
    from participant.data.importing.collection import Collection
    from participant.data.importing.intake import Intake
    from participant.data.importing.labels import LabelTable
    from participant.data.importing.pacs import Fetcher
    from participant.data.importing.pacs_search import RemoteSeries
    from participant.data.importing.summary import Summary
    from participant.data.importing.tables import Labelling

app = typer.Typer(
    help="Cases from a folder of exports or from the PACS, labels from a table.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may name patients
)

_INTO = "The folder to fill; `data` of config.toml unless given."
_LABELS = "Table (CSV) of labels: by path, series or study UID, accession number, or patient id."
_COLUMN = "The table's column of labels, if it is not called label, class or diagnosis."
_MAP = "VALUE=CLASS: what the table says, and the class it stands for; all else is no label then. May be repeated."
_CREDENTIALS = (
    "File (TOML) with user and password, or token, that only you can read; "
    "unless given PLEURA_PACS_USER and PLEURA_PACS_PASSWORD, or PLEURA_PACS_TOKEN."
)
_DAY = "%Y-%m-%d"
_MINIMUM = "CT series of fewer slices are left out."
_DESCRIPTION = "Only series whose description is like this, such as '*lung*'."

IntoOption = Annotated[Path | None, typer.Option("--into", help=_INTO)]
LabelsOption = Annotated[Path | None, typer.Option("--labels", help=_LABELS, dir_okay=False, exists=True)]
ColumnOption = Annotated[str | None, typer.Option("--label-column", help=_COLUMN)]
MapOption = Annotated[list[str] | None, typer.Option("--map", help=_MAP)]
ClassOption = Annotated[
    str | None, typer.Option("--class", help="One class for all that is taken in now, and has no label yet.")
]
MinimumOption = Annotated[int, typer.Option("--min-slices", min=2, help=_MINIMUM)]
DescriptionOption = Annotated[str, typer.Option("--description", help=_DESCRIPTION)]
ReportOption = Annotated[
    Path | None, typer.Option("--report", help="Write down each thing left out, and why, by its original name.")
]


@app.command()
def folder(
    context: typer.Context,
    source: Annotated[Path, typer.Argument(help="Folder of DICOM (any nesting), NIfTI, PNG, JPEG.", exists=True)],
    labels: LabelsOption = None,
    label_column: ColumnOption = None,
    mapped: MapOption = None,
    one_class: ClassOption = None,
    link: Annotated[
        bool, typer.Option("--link", help="Link to the originals as they are; copies leave the patient out.")
    ] = False,
    description: DescriptionOption = "",
    min_slices: MinimumOption = 16,
    report: ReportOption = None,
    into: IntoOption = None,
    home: HomeOption = None,
) -> None:
    """Copy what is new in a folder, without the patients' names; originals are only read. May be run again any time."""
    from participant.data.importing.folder import import_found, look_through
    from participant.data.importing.series import Wanted

    with explained(), _opened(context, home, into, link=link) as intake:
        table = _table(intake, labels, [source.resolve()], label_column, mapped, one_class)
        with reporter(err).work(f"looking through {source}", lambda: None) as advance:
            found = look_through(source.resolve(), intake.collection.root.resolve(), advance)
        with reporter(err).work("importing", lambda: None) as advance:
            summary = import_found(found, intake, Wanted(min_slices, description), advance)
        _finish(intake.collection, summary, table, one_class, report)


@app.command()
def pacs(
    context: typer.Context,
    url: Annotated[
        str, typer.Argument(help="DICOMweb address of the PACS, https://... Proxies and ca_file hold here too.")
    ],
    since: Annotated[datetime | None, typer.Option("--from", formats=[_DAY], help="First day of the studies.")] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=[_DAY], help="Last day of the studies.")] = None,
    modality: Annotated[
        list[str] | None, typer.Option(help="CT unless given; DX, CR for films. May be repeated.")
    ] = None,
    description: DescriptionOption = "",
    credentials: Annotated[Path | None, typer.Option(help=_CREDENTIALS, dir_okay=False, exists=True)] = None,
    plain_http: Annotated[bool, typer.Option("--plain-http", help="Allow http:// to another machine.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List what would be fetched; fetch nothing.")] = False,
    labels: LabelsOption = None,
    label_column: ColumnOption = None,
    mapped: MapOption = None,
    one_class: ClassOption = None,
    min_slices: MinimumOption = 16,
    report: ReportOption = None,
    into: IntoOption = None,
    home: HomeOption = None,
) -> None:
    """Fetch what is new in a PACS, without the patients' names. Interrupted, it goes on where it stopped."""
    from participant.data.importing.pacs import Fetcher
    from participant.data.importing.pacs_connection import Credentials, NotDelivered, PacsError, connected
    from participant.data.importing.pacs_search import Query, search
    from participant.data.importing.series import Wanted

    with explained(), _opened(context, home, into) as intake:
        place = home_of(context, home)
        ca_file = ca_file_of(place, place.load_config())
        query = Query(tuple(modality or ["CT"]), since and since.date(), until and until.date())
        table = _table(intake, labels, [], label_column, mapped, one_class)
        with connected(url, Credentials.find(credentials), ca_file, plain_http=plain_http) as client:
            fetcher = Fetcher(client, intake, Wanted(min_slices, description))
            try:
                found = search(client, query, fetcher.wanted)
                if dry_run:
                    _list(found, fetcher)
                    return
                with reporter(err).work("fetching", lambda: None) as advance:
                    summary = fetcher.fetch(found, advance)
            except PacsError as error:
                end(str(error))
            except NotDelivered as error:
                end(f"No search was possible: {error}. Is this the address of the DICOMweb service?")
        _finish(intake.collection, summary, table, one_class, report)


@app.command("labels")
def give_labels(
    context: typer.Context,
    table: Annotated[Path, typer.Argument(help=_LABELS, dir_okay=False, exists=True)],
    label_column: ColumnOption = None,
    mapped: MapOption = None,
    into: IntoOption = None,
    home: HomeOption = None,
) -> None:
    """Label cases that were imported without a label."""
    from participant.data.importing.summary import Summary

    with explained(), _opened(context, home, into) as intake:
        _finish(intake.collection, Summary(), _table(intake, table, [], label_column, mapped, None), None, None)


def _list(found: Sequence[RemoteSeries], fetcher: Fetcher) -> None:
    """What a PACS has: nothing in it names a patient."""
    table = Table("day", "modality", "description", "files", "what would be done")
    for each in sorted(found, key=lambda each: (each.day, each.description)):
        table.add_row(
            each.day, each.modality, escape(each.description), str(each.slices or "?"), fetcher.foretell(each)
        )
    out.print(table)
    line(f"{len(found):,} series. Nothing was fetched.")


@contextmanager
def _opened(context: typer.Context, given: Path | None, into: Path | None, *, link: bool = False) -> Iterator[Intake]:
    from participant.data.importing.collection import Collection
    from participant.data.importing.intake import Intake
    from participant.data.importing.pseudonyms import Pseudonyms

    home = home_of(context, given)
    config = home.load_config()
    pseudonyms = Pseudonyms.of_home(home)
    root = into.expanduser().absolute() if into else home.resolved(config.data)
    with Collection.opened(root, pseudonyms) as collection:
        yield Intake(collection, pseudonyms, link)


def _table(
    intake: Intake,
    file: Path | None,
    bases: list[Path],
    column: str | None,
    mapped: list[str] | None,
    one_class: str | None,
) -> LabelTable:
    """The labels that were given, looked at before anything is copied."""
    from participant.data.importing.labels import NOTHING, read_labels

    if file is None:
        return NOTHING
    if one_class is not None:
        end("--class gives all cases one class, --labels reads them from a table: give one of the two.")
    pairs = [entry.partition("=") for entry in mapped or []]
    wrong = ["".join(pair) for pair in pairs if not pair[0] or not pair[2]]
    if wrong:
        end(f"--map takes VALUE=CLASS, such as U07.1=covid-19, not {', '.join(wrong)}.")
    classes = {value.strip(): name.strip() for value, _, name in pairs}
    return read_labels(file, intake.pseudonyms, [file.resolve().parent, *bases], column=column, classes=classes)


def _finish(
    collection: Collection, summary: Summary, table: LabelTable, one_class: str | None, report: Path | None
) -> None:
    """Write the tables, and say what was done."""
    from participant.data.importing.labels import OneClass
    from participant.data.importing.tables import write_tables

    labels = OneClass(one_class, summary.imported | summary.known) if one_class is not None else table
    done = write_tables(collection, labels)
    out.print(_counts(summary, done))
    _say_labelling(done, collection)
    _say_lines("name no case, or no class", list(table.unusable))
    _say_lines("name a case that is not here", table.unmatched(collection.present()))
    if report is not None:
        summary.write_details(report)
        line(f"{report} lists what was left out.")
    elif summary.left_out:
        line("What was left out is listed with --report FILE; the file names originals, so keep it in the house.")


def _counts(summary: Summary, done: Labelling) -> Table:
    shown = Table("", "cases")
    shown.add_row("imported", f"{len(summary.imported):,}")
    shown.add_row("here already", f"{len(summary.known):,}")
    for reason, count in summary.left_out.most_common():
        shown.add_row(f"left out: {escape(reason)}", f"{count:,}")
    shown.add_row("newly labelled", f"{done.labelled:,}")
    shown.add_row("without a label", f"{done.unlabelled:,}")
    return shown


def _say_labelling(done: Labelling, collection: Collection) -> None:
    from participant.data.importing.tables import UNLABELLED

    if done.contradictory:
        line(f"{done.contradictory} of those without have several labels in the table. Correct it and run again.")
    if done.other:
        line(f"{done.other} cases have another label in labels.csv than was given now; labels.csv stays as it is.")
    if done.unlabelled:
        listed = collection.root / UNLABELLED
        line(f"{listed} lists those without. To give them a label: pleura-participant import labels TABLE")


def _say_lines(what: str, numbers: list[int]) -> None:
    if numbers:
        shown = ", ".join(map(str, numbers[:10])) + (" ..." if len(numbers) > 10 else "")
        line(f"{len(numbers)} lines of the table {what}: {shown}")
