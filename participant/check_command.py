"""`pleura-participant check-data`: what a hospital should know of its data before it trains."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from participant.files import write_whole
from participant.progress import reporter
from participant.settings import Config, Home
from participant.terminal import HomeOption, end, err, explained, home_of, line, opened_site, out, studies_of

if TYPE_CHECKING:
    from models.recipe import Recipe
    from participant.data.checks import Report

_PAGE: Final = "data-report.html"


def check_data(
    context: typer.Context,
    recipe: Annotated[str | None, typer.Argument(help="A recipe that comes with Pleura, or a TOML file.")] = None,
    study: Annotated[str | None, typer.Option(help="Instead, the recipe of this study (name or id).")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the cases, unless it is that of config.toml.")] = None,
    page: Annotated[Path | None, typer.Option("--out", help="Where to write the report as a page (HTML).")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as JSON, without pictures.")] = False,
    home: HomeOption = None,
) -> None:
    """Look through the cases before any training; all that is found is told at once.

    Ends with 0 if a training could begin, with 1 if something has to be put right first. Nothing is sent.
    """
    from participant.data.checks.html import render_page
    from participant.data.checks.terminal import show

    with explained():
        place = home_of(context, home)
        config = place.load_config() if data is None or place.config.is_file() else None
        chosen = _recipe(context, home, recipe, study)
        report = _checked(place, config, data, chosen)
        written = page or (place.path / _PAGE if config is not None else Path(_PAGE))
        write_whole(written, render_page(report).encode())
        if config is not None and data is None:
            write_whole(place.data_report, report.to_json().encode())
    if as_json:
        out.file.write(report.to_json(pictures=False) + "\n")
    else:
        show(report, out)
        line(f"The report, with pictures: {written}. It shows patients' images, and stays on this machine.")
    if not report.can_train:
        raise typer.Exit(1)


def _recipe(context: typer.Context, home: Path | None, recipe: str | None, study: str | None) -> Recipe:
    from models.recipe import Recipe, load_recipe
    from models.recipe_problems import RecipeError

    if (recipe is None) == (study is None):
        end("Say what the data is for: a recipe, such as `check-data ucadi`, or a study, `check-data --study NAME`.")
    try:
        if recipe is not None:
            return load_recipe(recipe)
        with opened_site(context, home) as site:
            (chosen,) = studies_of(site, study)
            return Recipe.from_json(chosen.recipe, f"the recipe of {chosen.name}")
    except RecipeError as error:
        end(str(error))


def _checked(place: Home, config: Config | None, data: Path | None, recipe: Recipe) -> Report:
    from participant.data.checks import check

    folder = data.expanduser().absolute() if data else place.resolved(config.data if config else ".")
    with reporter(err).work("reading the cases", lambda: None) as advance:
        return check(folder, recipe, seed=config.seed if config else 0, progress=advance)
