"""A federation of separate processes on this machine: one coordinator, one agent a hospital, over real HTTP.

It is set up with the commands that operators and hospitals type; only the policy `auto`, by which agents approve each
other unseen, is for simulations alone.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

from crypto.plan import Release, SchemeName
from simulation.controls import Place
from simulation.processes import Processes, free_port, program

START_SECONDS = 60.0  # until the coordinator answers
FAILURES_IN_A_ROW = 3
COORDINATOR = "coordinator"


class StudyStopped(Exception):
    """The study ended before its last round."""


@dataclass(frozen=True)
class Hospital:
    """A site by its name and the folder of its cases."""

    name: str
    data: Path


@dataclass(frozen=True)
class StudySettings:
    """What an operator says when creating a study. Durations in seconds."""

    name: str
    scheme: SchemeName
    rounds: int
    minimum_contributors: int
    collect_seconds: int = 900
    release: Release = "open"


class Federation:
    """A federation in the making, then running; its processes end with `processes`, its connection when it is left."""

    def __init__(self, processes: Processes, folder: Path) -> None:
        self.processes = processes
        self.folder = folder
        self.data_dir = folder / COORDINATOR
        self.url = ""
        self.token = ""
        self.study: dict[str, Any] = {}
        self._http: httpx.Client | None = None
        self._names: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http is not None:
            self._http.close()

    def start_coordinator(self) -> None:
        """Serve on a free port of this machine and log in as an operator.

        Raises:
            ProcessFailed: it ended instead.
            TimeoutError: it does not answer within a minute.
        """
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.token = self._operate("operator", "add", "demo")["token"]
        command = [program("pleura-coordinator"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        self.processes.start(COORDINATOR, [*command, "--data-dir", str(self.data_dir)])
        self.processes.wait_for("the coordinator's start", self._answers, START_SECONDS)
        self._http = httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {self.token}"}, timeout=60)

    def create_study(self, settings: StudySettings, model: Path, sites: int) -> None:
        """Create and start a study whose first round waits for all sites."""
        options = {
            "name": settings.name,
            "model": model,
            "scheme": settings.scheme,
            "release": settings.release,
            "rounds": settings.rounds,
            "minimum-contributors": settings.minimum_contributors,
            "expected-sites": sites,
            "collect-seconds": settings.collect_seconds,
        }
        self.study = self._operate("study", "create", *_flags(options))
        self._operate("study", "start", settings.name)

    def start_site(self, hospital: Hospital) -> None:
        """Set a hospital's agent up, enrol it with a fresh invitation, and run it until the study ends."""
        home = self.home(hospital.name)
        agent = program("pleura-participant")
        options = {"name": hospital.name, "coordinator": self.url, "data": hospital.data, "policy": "auto"}
        self.processes.run(hospital.name, [agent, "init", "--home", str(home), *_flags(options)])
        invitation = self._operate("invite")["invitation"]
        self.processes.run(hospital.name, [agent, "--home", str(home), "enrol", invitation])
        self.processes.start(hospital.name, [agent, "--home", str(home), "run", "--until-finished"], may_end=True)

    def home(self, site: str) -> Path:
        """The folder in which a site's agent keeps its keys, its record and its timings."""
        return self.folder / "sites" / site

    def place(self, hospital: Hospital) -> Place:
        """What a control needs to see the very cases, in the very splits, that the hospital's agent sees."""
        home = self.home(hospital.name)
        config = tomllib.loads((home / "config.toml").read_text(encoding="utf-8"))
        return Place(hospital.data, home / config["cache"], config["seed"])

    def get(self, path: str) -> Any:
        """An operator's look at the coordinator."""
        return self._get(path).json()

    def state(self) -> dict[str, Any]:
        """The study as the coordinator tells it."""
        answer: dict[str, Any] = self.get(f"/v1/studies/{self.study['id']}")
        return answer

    def history(self) -> list[dict[str, Any]]:
        """Every attempt so far, as GET rounds tells it, with the names of sites instead of their ids."""
        rows: list[dict[str, Any]] = self.get(f"/v1/studies/{self.study['id']}/rounds")
        if not {site for row in rows for site in row["contributors"]} <= set(self._names):
            self._names = {site["id"]: site["name"] for site in self.get("/v1/sites")}
        return [{**row, "contributors": sorted(self._names[site] for site in row["contributors"])} for row in rows]

    def fetch_model(self, hospital: Hospital, path: Path) -> None:
        """The study's model as a hospital has it: in some studies the coordinator has none that it could give."""
        models = self.home(hospital.name) / "models"
        path.write_bytes(next(models.rglob(f"{self.state()['model']}.safetensors")).read_bytes())

    def watch(
        self, shown: Callable[[dict[str, Any], Sequence[Mapping[str, Any]]], None], interval: float = 1.0
    ) -> None:
        """Show the study's state and history again and again until it has finished.

        Raises:
            ProcessFailed: the coordinator or an agent ended with an error.
            StudyStopped: by an operator, or given up here after several failed attempts in a row.
        """

        def finished() -> bool:
            try:
                state, history = self.state(), self.history()
            except httpx.TransportError:  # gone, or merely slow: `wait_for` looks after its process
                return False
            shown(state, history)
            _give_up_on(history)
            if state["state"] == "stopped":
                raise StudyStopped(f"the study was stopped; {self.processes.log(COORDINATOR)} says why")
            return bool(state["state"] == "finished")

        self.processes.wait_for("the study's end", finished, float("inf"), interval)

    def _answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", timeout=2).is_success
        except httpx.TransportError:
            return False

    def _get(self, path: str) -> httpx.Response:
        if self._http is None:
            raise RuntimeError("start the coordinator first")
        return self._http.get(path).raise_for_status()

    def _operate(self, *command: str) -> dict[str, Any]:
        """An operator's command at the coordinator's machine, answered in JSON."""
        full = [program("pleura-coordinator"), *command, "--data-dir", str(self.data_dir), "--json"]
        answer: dict[str, Any] = json.loads(self.processes.run(f"operator-{command[0]}", full))
        return answer


def _give_up_on(history: Sequence[Mapping[str, Any]]) -> None:
    ended = [row for row in history if row["state"] in ("complete", "failed")]
    last = ended[-FAILURES_IN_A_ROW:]
    if len(last) == FAILURES_IN_A_ROW and all(row["state"] == "failed" for row in last):
        raise StudyStopped(f"the last {FAILURES_IN_A_ROW} attempts failed, the newest because: {last[-1]['reason']}")


def new_model(processes: Processes, recipe: str, path: Path, changes: Mapping[str, Any], seed: int) -> None:
    """Write a study's first model with the recipe's settings changed, as `pleura-participant model new` does."""
    sets = [part for key, value in changes.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    command = [program("pleura-participant"), "model", "new", recipe, "--out", str(path), *sets, "--seed", str(seed)]
    processes.run("model", command)


def _flags(options: Mapping[str, object]) -> list[str]:
    return [part for name, value in options.items() for part in (f"--{name}", str(value))]
