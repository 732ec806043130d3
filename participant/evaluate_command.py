"""`pleura-participant evaluate`: how good a study's model is on this hospital's own cases."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from participant.documents import Study
from participant.picked import Picked, check_held, pick
from participant.policy import Refused
from participant.steps.desk import Desk, Site
from participant.terminal import HomeOption, end, explained, home_of, line, opened_site, out, studies_of

if TYPE_CHECKING:
    from models.pooled import ClassFigures, PooledFigures
    from models.statistics import Interval
    from participant.evaluation.predictions import Predictions
    from participant.evaluation.readers import Readers
    from participant.evaluation.result import ClassResult, Evaluation


def evaluate(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name or id.")],
    folder: Annotated[Path | None, typer.Option("--out", help="Write a report there: HTML, Markdown and JSON.")] = None,
    split: Annotated[str | None, typer.Option(help="validation or test, with --out. Validation.")] = None,
    round_: Annotated[int | None, typer.Option("--round", help="Which one's model, with --out. The newest.")] = None,
    readers: Annotated[
        Path | None, typer.Option(help="CSV of radiologists' reads, to be beside the model, with --out.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Figures of a study's model on this site's own cases, and with --out a report. Nothing is sent.

    Without --out they are those that a round would count, of the current model on the validation cases.
    """
    if folder is None and (split is not None or round_ is not None or readers is not None):
        end("--split, --round and --readers are for a report: say with --out where to write it.")
    if split not in (None, "validation", "test"):
        end(f"--split is validation or test, not {split}.")
    with explained(), opened_site(context, home) as site:
        (chosen,) = studies_of(site, study)
        if folder is None:
            _show(chosen, figures_here(site, chosen))
            return
        place = home_of(context, home)
        root = place.resolved(place.load_config().data)
        picked = pick(site, chosen, round_)
        found = report_here(site, picked, folder, "test" if split == "test" else "validation", readers, root)
        _show_report(found, folder)


def figures_here(site: Site, study: Study) -> PooledFigures:
    """The current model's figures on the site's validation cases.

    Raises:
        Refused: the members hold the model and this site does not, or the study counts something else.
    """
    from models.pooled import count_fields, figures_of_counts

    desk = Desk(site, study)
    check_held(site, study, study.model)
    vector = site.models.vector(site.client, study.model, desk.layout)
    with site.reporter.work(f"{study.name}: evaluating the global model", lambda: None) as advance:
        counts = desk.trainer().evaluate(vector, desk.layout, advance)
    classes = len(study.recipe["network"]["classes"])
    bins = (len(counts) - 2 - classes**2) // (2 * classes)
    try:  # a study that pools no figures has no counts in its layout, and this site may look at its own all the same
        return figures_of_counts(counts, desk.layout.counts or count_fields(classes, bins))
    except ValueError as error:
        raise Refused("no-figures", f"what {study.name} counts tells no figures here: {error}") from error


def report_here(
    site: Site, picked: Picked, folder: Path, split: Literal["validation", "test"], readers: Path | None, root: Path
) -> Evaluation:
    """Write the report of a model on one split of the site's cases, which lie under `root`.

    Raises:
        Refused: the split has no cases, or the table of readers cannot be used; then nothing was written.
    """
    from participant.evaluation.predictions import predictions_of
    from participant.evaluation.report import write_report
    from participant.evaluation.result import Subject, evaluated

    study = picked.study
    predictions = predictions_of(Desk(site, study), picked.digest, split)
    read = _readers(readers, predictions, root) if readers is not None else None
    written = time.strftime("%Y-%m-%d", time.gmtime(site.clock()))
    name = str(study.recipe["name"])
    subject = Subject(study.name, name, study.recipe_digest, picked.digest, picked.round, split, written)
    found = evaluated(subject, predictions, read)
    write_report(found, folder)
    return found


def _readers(path: Path, predictions: Predictions, root: Path) -> Readers:
    from participant.evaluation.readers import ReadersError, read_readers

    try:
        return read_readers(path, predictions, root)
    except ReadersError as error:
        raise Refused("readers-unusable", str(error)) from error


def _show(study: Study, figures: PooledFigures) -> None:
    line(f"{study.name}, model {study.model[:16]}, {figures.cases} validation cases of this site")
    line(f"accuracy {_text(figures.accuracy)}, macro AUC {_text(figures.macro_auc)}; 95 % intervals in brackets")
    out.print(_table(figures.classes, [str(name) for name in study.recipe["network"]["classes"]]))


def _show_report(found: Evaluation, folder: Path) -> None:
    subject = found.subject
    line(
        f"{subject.study}, model {subject.model[:16]}, {found.cases} {subject.split} cases of {found.patients} patients"
    )
    line(f"accuracy {_text(found.accuracy)}, macro AUC {_text(found.macro_auc)}; 95 % intervals in brackets")
    out.print(_table(found.classes, [each.name for each in found.classes]))
    line(f"The report is {folder / 'evaluation.html'}; evaluation.md and evaluation.json beside it say the same.")


def _table(figures: Sequence[ClassFigures | ClassResult], classes: Sequence[str]) -> Table:
    table = Table("class", "cases", "AUC", "sensitivity", "specificity")
    for name, each in zip(classes, figures, strict=True):
        table.add_row(name, str(each.cases), _text(each.auc), _text(each.sensitivity), _text(each.specificity))
    return table


def _text(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)
