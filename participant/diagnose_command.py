"""`pleura-participant diagnose`: what a study's model makes of one scan, on the terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from participant.files import write_whole
from participant.policy import Refused
from participant.progress import reporter
from participant.settings import Home
from participant.terminal import HomeOption, end, err, explained, home_of, line, out

if TYPE_CHECKING:
    from participant.diagnosis.case import Case
    from participant.diagnosis.look import Opinion
    from participant.diagnosis.models import Model, ModelFile


def diagnose(
    context: typer.Context,
    scan: Annotated[list[Path], typer.Argument(help="A zip or folder of one DICOM series, NIfTI, PNG, JPEG, DICOM.")],
    model: Annotated[
        list[str] | None, typer.Option("--model", help="File, or first digits of one that the agent keeps; its newest.")
    ] = None,
    contours: Annotated[
        list[Path] | None, typer.Option("--contours", help="What radiologists outlined: DICOM SEG, RTSTRUCT, NIfTI.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--out", help="Also write a page with heat maps (HTML).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    home: HomeOption = None,
) -> None:
    """Look at one scan with a study's model. Research use only, not a medical device. Nothing is sent."""
    from participant.diagnosis.case import NOTICE, examine
    from participant.diagnosis.report import figures, html

    with explained():
        place = home_of(context, home)
        models = _models(place, model or [])
        files = [file for each in scan for file in (sorted(each.iterdir()) if each.is_dir() else [each])]
        with reporter(err).work("looking at the scan", lambda: None) as advance:
            case = examine(files, contours or [], models, steps=lambda _, done, total: advance(done, total))
        if page is not None:
            write_whole(page, html(case).encode())
    if as_json:
        out.file.write(json.dumps(figures(case), indent=2) + "\n")
        return
    line(NOTICE)
    _show(case)
    if page is not None:
        line(f"The page, with heat maps: {page}. It shows the patient's images, and stays on this machine.")


def _models(place: Home, wanted: list[str]) -> list[Model]:
    from participant.diagnosis.models import load

    home = place if place.config.is_file() else None
    device = "auto" if home is None else home.load_config().device
    return [load(file, home, device) for file in _files(home, wanted)]


def _files(home: Home | None, wanted: list[str]) -> list[ModelFile]:
    from participant.diagnosis.models import given_file, kept_files

    kept = kept_files(home) if home is not None else []
    if not wanted and not kept:
        end("There is no model here yet: name a file with --model, or let the agent take part in a study first.")
    found = []
    for each in wanted or [kept[0].digest]:
        matching = [file for file in kept if file.digest.startswith(each)]
        if Path(each).is_file():
            found.append(given_file(Path(each)))
        elif len(matching) == 1:
            found.append(matching[0])
        else:
            what = "several models begin" if matching else "there is no file of that name, and no model here begins"
            here = ", ".join(file.digest[:12] for file in kept) or "none"
            raise Refused("no-model", f"{what} with {each}. Kept here: {here}")
    return found


def _show(case: Case) -> None:
    for opinion in case.opinions:
        out.print(_table(opinion, opinion.model.file.title))
    if case.grade is not None:
        out.print(_table(case.grade, "severity of COVID-19"))
    for note in case.notes:
        line(note)


def _table(opinion: Opinion, title: str) -> Table:
    table = Table(title, "probability", "deviation", "")
    for label, name in enumerate(opinion.model.classes):
        mark = "likeliest" if label == opinion.likeliest else ""
        table.add_row(name, f"{opinion.mean[label]:.3f}", f"{opinion.spread[label]:.3f}", mark)
    return table
