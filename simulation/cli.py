"""`pleura-simulate`: whole federations on one machine."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from crypto.plan import Release, SchemeName
from simulation.datasets.command import data
from simulation.experiments.command import experiment
from simulation.run_command import run

ScaleName = Literal["small", "full"]

app = typer.Typer(
    help="Whole federations on one machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
)


app.command()(run)
app.command()(experiment)
app.command()(data)


@app.command()
def demo(
    sites: Annotated[int, typer.Option(min=2, max=16, help="hospitals")] = 3,
    rounds: Annotated[int | None, typer.Option(min=1, help="training rounds; without it, the scale's own")] = None,
    seed: Annotated[int, typer.Option(min=0, help="of phantoms, first model and training")] = 1,
    recipe: Annotated[str, typer.Option(help="a recipe's name, or the path of its TOML file")] = "ucadi",
    data: Annotated[
        Path | None, typer.Option(help="your own cases (a folder a class, or labels.csv) instead of phantoms")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; without it, runs/ and the time")] = None,
    scale: Annotated[
        ScaleName, typer.Option(help="small: minutes on 2 cores; full: the recipe as published")
    ] = "small",
    scheme: Annotated[SchemeName, typer.Option(help="how updates are kept from the coordinator")] = "lwe-ckks",
    release: Annotated[
        Release, typer.Option(help="who holds readable models: open, the coordinator too; members, hospitals only")
    ] = "open",
    keep: Annotated[bool, typer.Option(help="leave the coordinator up")] = False,
) -> None:
    """Hospitals train one model together, over HTTP, with updates that the coordinator cannot read."""
    # Here, as torch takes seconds to import and --help should not.
    from models.recipe_problems import RecipeError
    from participant.data.errors import DataError
    from simulation.demo import DemoSettings, run_demo
    from simulation.federation import StudyStopped
    from simulation.processes import ProcessFailed

    console = Console(width=None if sys.stdout.isatty() else 120)
    settings = DemoSettings(
        out=out or Path("runs") / time.strftime("demo-%Y%m%d-%H%M%S"),
        sites=sites, rounds=rounds, seed=seed, recipe=recipe, data=data, keep=keep, scale=scale,
        scheme=scheme, release=release,
    )  # fmt: skip
    try:
        run_demo(settings, console)
    except KeyboardInterrupt:
        console.print("stopped; every process of the run has ended")
        raise typer.Exit(130) from None
    except (ProcessFailed, RecipeError, DataError, FileExistsError, TimeoutError, StudyStopped) as error:
        console.print(f"[bold red]failed:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None
