"""`pleura-simulate run`: a federation of any number of sites, from a recipe and some cases."""

from __future__ import annotations

import logging
import sys
import time
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.console import Console
from rich.markup import escape

from crypto.plan import Release, SchemeName

SHOWN = 12  # sites in a line

if TYPE_CHECKING:
    from models.recipe import Recipe
    from simulation.engine.values import Spec, Trainers
    from simulation.federation import Hospital


def run(
    recipe: Annotated[str, typer.Argument(help="a recipe's name, or the path of its TOML file")],
    sites: Annotated[int, typer.Option(min=2, max=1024, help="hospitals")] = 3,
    rounds: Annotated[int | None, typer.Option(min=1, help="training rounds; without it, the recipe's own")] = None,
    data: Annotated[
        str | None, typer.Option(help="a set's name under --root, or the path of its folder; without it, phantoms")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="folder that holds the sets")] = None,
    division: Annotated[
        str, typer.Option(help="iid, source, skew[:SHARE], quantity[:RATIO] or dirichlet[:ALPHA]")
    ] = "iid",
    scheme: Annotated[SchemeName, typer.Option(help="how updates are kept from the coordinator")] = "lwe-ckks",
    release: Annotated[
        Release, typer.Option(help="who holds readable models: open, the coordinator too; members, hospitals only")
    ] = "open",
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="local: this machine; ray: the cluster of RAY_ADDRESS, or one here")
    ] = "local",
    workers: Annotated[int, typer.Option(min=1, help="processes that the sites are spread over")] = 1,
    cpus: Annotated[float, typer.Option(min=0, help="cores that Ray keeps for each worker")] = 1.0,
    gpus: Annotated[float, typer.Option(min=0, help="GPUs that Ray keeps for each worker, such as 0.25")] = 0.0,
    seed: Annotated[int, typer.Option(min=0, help="of division, first model and training")] = 1,
    changes: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE in the recipe")] = None,
    stand_in: Annotated[
        int | None, typer.Option(min=1, help="parameters of a model of nothing but numbers: no image, no training")
    ] = None,
    plaintext: Annotated[bool, typer.Option(help="the same training without cryptography or protocol")] = False,
    out: Annotated[Path | None, typer.Option(help="folder of the run; the same one again goes on there")] = None,
) -> None:
    """Simulate a federation: the agents, protocol and coordinator of the real thing, in one process or on a cluster."""
    # Here, as torch takes seconds to import and --help should not.
    from models.recipe_problems import RecipeError
    from participant.data.errors import DataError
    from simulation.engine import Stalled
    from simulation.engine.values import Spec

    console = Console(width=None if sys.stdout.isatty() else 120)
    folder = out or Path("runs") / time.strftime("run-%Y%m%d-%H%M%S")
    try:
        chosen = _recipe(recipe, rounds, changes or [])
        spec = Spec(
            recipe=chosen,
            model=_first_model(chosen, folder, seed, stand_in),
            hospitals=_hospitals(chosen, folder, sites, data, root, division, seed, stand_in),
            scheme=scheme, release=release, seed=seed, rounds=chosen.federation.rounds, engine=engine,
            plaintext=plaintext, cache=folder / "cache", trainers=_trainers(stand_in), workers=workers,
            worker_cpus=cpus, worker_gpus=gpus,
        )  # fmt: skip
        logging.basicConfig(filename=folder / "agents.log", level=logging.WARNING, format="%(asctime)s %(message)s")
        _go(spec, folder, console)
    except KeyboardInterrupt:
        console.print(f"stopped; the same command with --out {folder} goes on from there", soft_wrap=True)
        raise typer.Exit(130) from None
    except (RecipeError, DataError, FileExistsError, Stalled, ValueError) as error:
        console.print(f"[bold red]failed:[/] {escape(str(error))}", highlight=False)
        raise typer.Exit(1) from None


def _go(spec: Spec, folder: Path, console: Console) -> None:
    """Run with a bar, and say what came of it."""
    from simulation.engine import RoundDone
    from simulation.engine import run as simulate
    from simulation.live import Live, ended

    with Live(console) as live:
        live.step("rounds", 0, spec.rounds)

        def shown(done: RoundDone) -> None:
            names = done.row["contributors"]
            few = names if len(names) <= SHOWN else [f"{len(names)} sites"]
            live.say(ended({**done.row, "contributors": few}))
            live.step("rounds", done.completed, done.rounds)

        federated = simulate(spec, folder / "federation", shown)
    uploaded = [sum(sizes) for sizes in federated.uploads.values() if sizes]
    if uploaded:
        console.print(f"each site uploaded {sum(uploaded) / len(uploaded) / 1e6:.1f} MB", highlight=False)
    seconds = ", ".join(f"{phase} {took:.1f}" for phase, took in federated.seconds.items())
    console.print(f"seconds: {seconds}", highlight=False)
    console.print(f"the model is {federated.model}", soft_wrap=True, highlight=False)


def _recipe(name: str, rounds: int | None, changes: list[str]) -> Recipe:
    from models.recipe import load_recipe

    given = dict(map(_assignment, changes))
    return load_recipe(name).overridden(given | ({} if rounds is None else {"federation.rounds": rounds}))


def _assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as in TOML; what is no TOML is text."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        raise ValueError(f"--set takes KEY=VALUE, such as training.batch=4, not {text}")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _first_model(recipe: Recipe, folder: Path, seed: int, stand_in: int | None) -> Path:
    """The study's first model, made once."""
    from models.first_model import first_model
    from models.flatten import save_model
    from simulation.engine.standin import save_stand_in

    file = folder / "first.safetensors"
    if file.exists():
        return file
    folder.mkdir(parents=True, exist_ok=True)
    if stand_in is not None:
        save_stand_in(file, recipe, stand_in)
    else:
        made = first_model(recipe, seed)
        save_model(file, made.vector, made.layout, made.recipe)
    return file


def _hospitals(
    recipe: Recipe, folder: Path, sites: int, data: str | None, root: Path | None, division: str, seed: int,
    stand_in: int | None,
) -> list[Hospital]:  # fmt: skip
    """Folders that the sites' agents read; a stand-in has none."""
    from simulation import datasets
    from simulation.federation import Hospital

    if stand_in is not None:
        return [Hospital(f"site-{number}", folder) for number in range(1, sites + 1)]
    phantoms = f"phantoms-{recipe.input.modality}"
    dataset = datasets.open_dataset(data, root) if data else datasets.open_dataset(phantoms, folder / "phantoms")
    classes, rule = recipe.network.classes, datasets.division_of(division)
    return datasets.hospitals(dataset, classes, folder / "hospitals", sites, rule, seed)


def _trainers(stand_in: int | None) -> Trainers | None:
    from simulation.engine.standin import StandIns

    return StandIns() if stand_in is not None else None
