"""`pleura-participant evaluate`: how good a study's model is on this hospital's own validation cases."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from participant.documents import Study
from participant.policy import Refused
from participant.steps.desk import Desk, Site
from participant.terminal import HomeOption, explained, line, opened_site, out, studies_of

if TYPE_CHECKING:
    from models.pooled import PooledFigures
    from models.statistics import Interval


def evaluate(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name or id.")],
    home: HomeOption = None,
) -> None:
    """Figures of the study's current model on this site's validation cases. Nothing is sent."""
    with explained(), opened_site(context, home) as site:
        (chosen,) = studies_of(site, study)
        figures = figures_here(site, chosen)
        line(f"{chosen.name}, model {chosen.model[:16]}, {figures.cases} validation cases of this site")
        line(f"accuracy {_text(figures.accuracy)}, macro AUC {_text(figures.macro_auc)}; 95 % intervals in brackets")
        out.print(_table(figures, [str(name) for name in chosen.recipe["network"]["classes"]]))


def figures_here(site: Site, study: Study) -> PooledFigures:
    """The current model's figures on the site's validation cases.

    Raises:
        Refused: the members hold the model and this site does not, or the study counts something else.
    """
    from models.pooled import figures_of_counts

    desk = Desk(site, study)
    if study.release == "members" and study.model != study.first_model and not site.models.holds(study.model):
        words = "only members hold this model, and this site has not got it yet: start the agent first"
        raise Refused("model-missing", words)
    vector = site.models.vector(site.client, study.model, desk.layout)
    with site.reporter.work(f"{study.name}: evaluating the global model", lambda: None) as advance:
        counts = desk.trainer().evaluate(vector, desk.layout, advance)
    try:
        return figures_of_counts(counts, desk.layout.counts)
    except ValueError as error:
        raise Refused("no-figures", f"what {study.name} counts tells no figures here: {error}") from error


def _table(figures: PooledFigures, classes: Sequence[str]) -> Table:
    table = Table("class", "cases", "AUC", "sensitivity", "specificity")
    for name, each in zip(classes, figures.classes, strict=True):
        table.add_row(name, str(each.cases), _text(each.auc), _text(each.sensitivity), _text(each.specificity))
    return table


def _text(interval: Interval | None) -> str:
    return "-" if interval is None else str(interval)
