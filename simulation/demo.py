"""`pleura-simulate demo`: a federation in one command, from the first scan to the table of what each site gained."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console

from crypto.plan import Release, SchemeName
from models.flatten import SavedModel, read_model
from models.recipe import Recipe, load_recipe
from simulation.controls import Job, Outcome, run_jobs
from simulation.evaluation import Comparison, score
from simulation.federation import COORDINATOR, Federation, Hospital, StudySettings, new_model
from simulation.hospitals import phantom_hospitals, split_hospitals
from simulation.live import Live, curve_of
from simulation.plots import plot_learning_curves
from simulation.processes import Processes, terminations_as_interrupts
from simulation.report import Run, print_report, read_timings, write_summary
from simulation.scales import Scale, ScaleName, scale_for


@dataclass(frozen=True)
class DemoSettings:
    """What the command line says. `rounds` None is the scale's own number; `data` None means phantoms."""

    out: Path
    sites: int = 3
    rounds: int | None = None
    seed: int = 1
    recipe: str = "ucadi"
    data: Path | None = None
    keep: bool = False
    scale: ScaleName = "small"
    scheme: SchemeName = "lwe-ckks"
    release: Release = "open"


@dataclass
class Clock:
    """Wall seconds of each phase."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - start, 1)


def run_demo(settings: DemoSettings, console: Console, scale: Scale | None = None) -> Run:
    """The whole of it, at `scale` or the one that the settings name.

    Leaves summary.json, learning_curves.png, the models and every process's log in `settings.out`.

    Raises:
        ProcessFailed: a process ended when it should not have; the others are stopped.
        FileExistsError: the folder has something in it, such as another run.
    """
    out = settings.out
    recipe = load_recipe(settings.recipe)
    scale = scale or scale_for(settings.scale, recipe)
    changes = scale.changes | ({} if settings.rounds is None else {"federation.rounds": settings.rounds})
    recipe = recipe.overridden(changes)
    if out.exists() and any(out.iterdir()):
        raise FileExistsError(f"{out} is not empty: name another folder with --out, or remove it")
    out.mkdir(parents=True, exist_ok=True)
    clock = Clock()
    threads = max(1, (os.cpu_count() or 1) // settings.sites)
    environment = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
    with (
        terminations_as_interrupts(),
        Live(console) as live,
        Processes(out / "logs", environment) as processes,
        Federation(processes, out) as federation,
    ):
        with clock.phase("hospitals"):
            hospitals = _hospitals(settings, recipe, scale, live)
        with clock.phase("start"):
            saved = _start(settings, changes, federation, hospitals, live)
        with clock.phase("rounds"):
            federation.watch(live.rounds)
            history = federation.history()
            processes.wait_for("the agents' end", lambda: not any(map(processes.runs, _names(hospitals))), 60)
            federation.fetch_model(hospitals[0], out / "federated.safetensors")
        with clock.phase("controls"):
            outcomes = _controls(settings, federation, hospitals, saved, live)
        kept = processes.release(COORDINATOR) if settings.keep else None
    run = _collected(settings, federation, hospitals, saved, history, outcomes, clock)
    write_summary(run, out / "summary.json")
    title = f"{run.recipe}: {len(hospitals)} hospitals, {len(run.completed)} rounds, {run.scheme}, seed {run.seed}"
    plot_learning_curves(out / "learning_curves.png", run.curves, run.comparison, title)
    print_report(run, console)
    console.print(f"summary.json, learning_curves.png, models and logs are in {out}", soft_wrap=True)
    if kept is not None:
        console.print(
            f"The coordinator stays up at {federation.url}: log in with the token {federation.token}\n"
            f"Stop it with: kill {kept.pid}",
            soft_wrap=True,
        )
    return run


def _hospitals(settings: DemoSettings, recipe: Recipe, scale: Scale, live: Live) -> list[Hospital]:
    folder = settings.out / "hospitals"
    if settings.data is not None:
        return split_hospitals(settings.data, recipe.network.classes, folder, settings.sites, settings.seed)

    def shown(done: int, total: int) -> None:
        live.step("scanning phantoms", done, total)

    return phantom_hospitals(folder, settings.sites, settings.seed, recipe.input.modality, scale.population, shown)


def _start(
    settings: DemoSettings, changes: dict[str, Any], federation: Federation, hospitals: list[Hospital], live: Live
) -> SavedModel:
    """First model, coordinator, study and agents; returns the first model."""
    first = settings.out / "first.safetensors"
    steps = 3 + len(hospitals)
    live.step("starting", 0, steps, "first model")
    new_model(federation.processes, settings.recipe, first, changes, settings.seed)
    saved = read_model(first)
    live.step("starting", 1, steps, "coordinator")
    federation.start_coordinator()
    live.say(f"coordinator at {federation.url}, logs in {federation.processes.folder}")
    study = StudySettings(
        name=f"{saved.recipe.name}-demo",
        scheme=settings.scheme,
        release=settings.release,
        rounds=saved.recipe.federation.rounds,
        minimum_contributors=min(saved.recipe.federation.minimum_contributors, len(hospitals)),
    )
    live.step("starting", 2, steps, "study")
    federation.create_study(study, first, len(hospitals))
    live.step("starting", 3, steps, "hospitals")
    with ThreadPoolExecutor(len(hospitals)) as together:
        for number, _ in enumerate(together.map(federation.start_site, hospitals), 4):
            live.step("starting", number, steps, "hospitals")
    return saved


def _controls(
    settings: DemoSettings, federation: Federation, hospitals: list[Hospital], saved: SavedModel, live: Live
) -> dict[str, Outcome]:
    """The other trainings, and the evaluation of all models; the longest first."""
    rounds = saved.recipe.federation.rounds
    places = {hospital.name: federation.place(hospital) for hospital in hospitals}

    def job(name: str, trained_on: list[str], model: str, rounds: int) -> Job:
        state = settings.out / "controls" / name
        return Job(name, settings.out / model, trained_on, rounds, places, state, settings.seed)

    jobs = [job("pooled", _names(hospitals), "first.safetensors", rounds)]
    jobs += [job(name, [name], "first.safetensors", rounds) for name in _names(hospitals)]
    jobs += [job("federated", [], "federated.safetensors", 0)]

    def shown(done: Mapping[str, int]) -> None:
        for each in jobs[:-1]:
            live.step(each.name if each.name == "pooled" else f"{each.name} alone", done[each.name], rounds)

    return run_jobs(jobs, settings.out / "logs", shown)


def _collected(
    settings: DemoSettings,
    federation: Federation,
    hospitals: list[Hospital],
    saved: SavedModel,
    history: list[dict[str, Any]],
    outcomes: Mapping[str, Outcome],
    clock: Clock,
) -> Run:
    names = _names(hospitals)
    scores = {name: score(name, outcome.probabilities, outcome.labels) for name, outcome in outcomes.items()}
    comparison = Comparison(
        classes=saved.recipe.network.classes,
        alone={name: scores[name] for name in names},
        federated=scores["federated"],
        pooled=scores["pooled"],
    )
    first = curve_of(history)[:1]
    return Run(
        sites=names,
        scheme=settings.scheme,
        recipe=saved.recipe.name,
        version=version("pleura"),
        seed=settings.seed,
        parameters=sum(tensor.size for tensor in saved.layout.tensors if tensor.kind == "parameter"),
        fp32_bytes=4 * saved.layout.size,
        cases=outcomes["federated"].cases,
        history=history,
        timings={name: read_timings(federation.home(name) / "timings.jsonl") for name in names},
        comparison=comparison,
        curves={"federated": curve_of(history), **{n: [*first, *outcomes[n].curve] for n in ("pooled", *names)}},
        wall_seconds=clock.seconds,
    )


def _names(hospitals: list[Hospital]) -> list[str]:
    return [hospital.name for hospital in hospitals]
