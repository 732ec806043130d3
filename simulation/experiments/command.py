"""`pleura-simulate experiment`: a paper's experiment, from the data to a report that can be shared."""

from __future__ import annotations

import sys
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape

from crypto.plan import SchemeName

ExperimentName = Literal["ucadi", "fl-cxr", "intermittent", "vgg16-transfer", "chexnet-transfer"]


def experiment(
    name: Annotated[ExperimentName, typer.Argument(help="which paper")],
    data: Annotated[
        Path | None, typer.Option(help="a folder of sets (xray-3class, xray-2class), or one set such as COVIDx")
    ] = None,
    scale: Annotated[
        Literal["small", "results", "full"],
        typer.Option(help="small: minutes on 2 cores; results: hours; full: the recipes as published"),
    ] = "small",
    division: Annotated[
        str | None,
        typer.Option(help="iid, source, skew[:SHARE], quantity[:RATIO] or dirichlet[:ALPHA] in place of the paper's"),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="repetitions; without it one at small, otherwise three")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="folder of the run; the same one again goes on there")] = None,
    scheme: Annotated[SchemeName, typer.Option(help="how updates are kept from the coordinator")] = "lwe-ckks",
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: this machine; ray: sites are placed on a Ray cluster")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="trainings at a time, with ray workers of each federation; else the cores")
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="pretrained weights (torch or safetensors) in place of the substitute")
    ] = None,
) -> None:
    """Run a paper's experiment and print its tables beside ours.

    Each training at each seed is a unit that stays done: the same command goes on where it was stopped.
    """
    # Here, as torch takes seconds to import and --help should not.
    from models.recipe_problems import RecipeError
    from participant.data.errors import DataError
    from simulation.experiments.main import UnitsFailed, run_experiment
    from simulation.experiments.papers import EXPERIMENTS
    from simulation.experiments.runner import Settings

    console = Console(width=None if sys.stdout.isatty() else 120)
    folder = out or Path("runs") / "-".join([name, scale, *([division.replace(":", "-")] if division else [])])
    repeated = seeds or (1 if scale == "small" else 3)
    settings = Settings(data, folder, repeated, scheme, engine, checkpoint, workers)
    chosen = EXPERIMENTS[name](scale)
    try:
        chosen = chosen if division is None else chosen.divided(division)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--division") from None
    try:
        page = run_experiment(chosen, settings, scale, console)
    except KeyboardInterrupt:
        console.print(f"stopped; what is done is in {folder}, and the same command goes on from there")
        raise typer.Exit(130) from None
    except BrokenProcessPool:
        console.print(
            "[bold red]failed:[/] a training was ended from outside, perhaps for want of memory: --workers 1 needs the "
            f"least. What is done is in {folder}, and the same command goes on from there",
            highlight=False,
        )
        raise typer.Exit(1) from None
    except (RecipeError, DataError, FileExistsError, FileNotFoundError, UnitsFailed) as error:
        console.print(f"[bold red]failed:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None
    console.print(f"the report is {page}; its folder can be shared as it is", soft_wrap=True)
