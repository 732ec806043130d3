"""Many sites on one service over HTTP: how fast it answers, how long rounds take, and whether its memory stays flat.

The agents, the protocol and the coordinators are the real ones, over real HTTP; only the training is not: each site
adds noise to a model of so many parameters. All sites share one process; hospitals have machines of their own, so that
process gives way to the coordinators (nice 10) where there are few processors. Times are the coordinators' own
(/metrics): from a request to the beginning of its answer, without the seconds for which an agent asked to wait for
news, and from the first round on: all sites join at the same moment, which no hospitals do, and what that took is told
apart. Prints a table to standard error and one JSON line. Run it from the repository root:

    python -m benchmarks.load --sites 200 --rounds 20 --database sqlite
    python -m benchmarks.load --sites 200 --rounds 20 --database postgresql --replicas 3
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import httpx

from benchmarks.service import Latency, Memory, Service, database_of, give_way, serving
from crypto.parallel import cores
from models.recipe import Recipe, load_recipe
from participant import setup
from participant.agent import Agent
from participant.client import connect
from participant.settings import Config, Home
from simulation.engine.sites import Quiet
from simulation.engine.standin import StandIns, save_stand_in
from simulation.processes import terminations_as_interrupts

BINS: Final = 4
_LIMIT_SECONDS: Final = 3600.0
#: All sites enrol from this address at once, which no operator's do.
SETTINGS: Final = {"enrolments_per_minute": 10**6}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sites", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--parameters", type=int, default=1000)
    parser.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="where the run lies while it is made; without it, the system's own")
    given = parser.parse_args()
    with terminations_as_interrupts(), tempfile.TemporaryDirectory(dir=given.folder) as name:
        print(json.dumps(measure(Path(name), given)), flush=True)


def measure(folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """One federation from enrolment to its last round."""
    with ExitStack() as stack:
        database = stack.enter_context(database_of(given.database, folder))
        service = stack.enter_context(serving(folder, given.replicas, database, SETTINGS))
        operator = stack.enter_context(service.operator())
        save_stand_in(folder / "first.safetensors", _recipe(given.rounds), given.parameters)
        study = _create(operator, folder / "first.safetensors", given.sites)
        with Memory(service.pids) as memory, sites(folder, service, operator, given.sites):
            service.processes.wait_for("the first round", lambda: _begun(operator, study), _LIMIT_SECONDS, interval=1.0)
            joined = Latency.of(service.exposition())
            rows = _watch(operator, study, service)
        latency = Latency.of(service.exposition()).since(joined)
    return _result(given, rows, joined, latency, memory)


def _recipe(rounds: int) -> Recipe:
    """Any will do: nothing of it but the federation's part is used."""
    federation = {"federation.rounds": rounds, "federation.fraction": 1.0, "federation.minimum_contributors": 3}
    return load_recipe("fl-cxr-resnet18").overridden(federation | {"evaluation.bins": BINS})


def _create(operator: httpx.Client, model: Path, number: int) -> str:
    uploaded = operator.post("/v1/models", content=model.read_bytes()).raise_for_status().json()
    wish = {"name": "load", "model": uploaded["model"], "expected_sites": number, "k_max": number}
    study: str = operator.post("/v1/studies", json=wish).raise_for_status().json()["id"]
    operator.post(f"/v1/studies/{study}/start").raise_for_status()
    return study


@contextmanager
def sites(folder: Path, service: Service, operator: httpx.Client, number: int) -> Iterator[None]:
    """So many agents at work, each with a home of its own and with one of the coordinators; stopped at the end."""
    give_way()
    agents = [Agent() for _ in range(number)]
    threads = []
    for place, agent in enumerate(agents):
        home, url = Home(folder / "sites" / f"site-{place}"), service.url(place)
        setup.make_home(home, Config(name=home.path.name, coordinator=url, data=str(folder)), "auto")
        setup.enrol(home, operator.post("/v1/invitations", json={}).raise_for_status().json()["invitation"])
        threads.append(threading.Thread(target=_follow, args=(agent, home, url), name=home.path.name))
    try:
        for thread in threads:
            thread.start()
        yield
    finally:
        for agent in agents:
            agent.stop()
        for thread in threads:
            thread.join()


def _follow(agent: Agent, home: Home, url: str) -> None:
    make = StandIns()(home.path.name, setup.image_trainer(home, home.load_config()))
    with setup.open_site(home, Quiet(), pause=agent.pause, make_trainer=make, http=connect(url)) as site:
        agent.run(site)


def _begun(operator: httpx.Client, study: str) -> bool:
    return bool(operator.get(f"/v1/studies/{study}/rounds").raise_for_status().json())


def _watch(operator: httpx.Client, study: str, service: Service) -> list[dict[str, Any]]:
    """The attempts that ended, told as they do, once the study has finished."""
    told = 0

    def finished() -> bool:
        nonlocal told
        rows = _ended(operator, study)
        for row in rows[told:]:
            print(f"round {row['round']}.{row['attempt']}: {row['state']}", file=sys.stderr, flush=True)
        told = len(rows)
        return bool(operator.get(f"/v1/studies/{study}").raise_for_status().json()["state"] == "finished")

    service.processes.wait_for("the study's end", finished, _LIMIT_SECONDS, interval=1.0)
    return _ended(operator, study)


def _ended(operator: httpx.Client, study: str) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = operator.get(f"/v1/studies/{study}/rounds").raise_for_status().json()
    return [row for row in rows if row["state"] in ("complete", "failed")]


def _result(
    given: argparse.Namespace, rows: Sequence[Mapping[str, Any]], joined: Latency, latency: Latency, memory: Memory
) -> dict[str, Any]:
    counted = latency.counted()
    for route, calls, seconds in counted.by_route(0.95):
        print(f"{seconds * 1000:8.0f} ms {calls:7d}  {route}", file=sys.stderr)
    training = [row for row in rows if row["kind"] == "training"]
    ends = [row["ended"] for row in training]
    middle = ends[len(ends) // 2]
    return {
        "sites": given.sites,
        "rounds": len([row for row in training if row["state"] == "complete"]),
        "contributors": sorted({len(row["contributors"]) for row in training}),
        "parameters": given.parameters,
        "database": given.database,
        "replicas": given.replicas,
        "seconds_a_round": round((ends[-1] - ends[0]) / max(1, len(ends) - 1), 2),
        "calls": counted.calls(),
        "p50_ms": round(counted.quantile(0.5) * 1000, 1),
        "p95_ms": round(counted.quantile(0.95) * 1000, 1),
        "p99_ms": round(counted.quantile(0.99) * 1000, 1),
        "joining": {"calls": joined.counted().calls(), "p95_ms": round(joined.counted().quantile(0.95) * 1000, 1)},
        "processor_seconds": {"coordinators": round(memory.processor_seconds), "sites": round(time.process_time())},
        "rss_mb_first_half": [round(size / 1e6) for size in memory.largest(ends[0], middle)],
        "rss_mb_second_half": [round(size / 1e6) for size in memory.largest(middle, time.time())],
        "machine": f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}",
    }


if __name__ == "__main__":
    main()
