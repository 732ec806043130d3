"""Three coordinators share one database: killed again and again, they lose no round and add none up twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import tiny_federation as tiny
from replicas import Killer, Replicas, RoundRobin
from tiny_federation import Server, wait_until

from coordinator.app import open_services
from coordinator.settings import load
from coordinator.store import audit, operators, studies

SEED = 20
WISHES = {"expected_sites": 3, "collect_seconds": 120, "vote_seconds": 120, "open_seconds": 120}


@pytest.fixture
def replicas(migrated_postgres: str, tmp_path: Path) -> Iterator[Replicas]:
    started = Replicas(3, migrated_postgres, tmp_path)
    yield started
    started.end()


@pytest.fixture
def server(replicas: Replicas, migrated_postgres: str, tmp_path: Path) -> Iterator[Server]:
    """The operator's side, which kills nobody."""
    wait_until(replicas.ready, "all coordinators to answer", 120)
    with httpx.Client(transport=RoundRobin(replicas.ports), base_url="http://127.0.0.1") as http:
        services = open_services(load({"data_dir": tmp_path / "coordinator", "database_url": migrated_postgres}))
        now = services.clock.now()
        token = services.store.run("add", lambda s: operators.add(s, "test", "operator", "operator:test", now))
        http.headers["Authorization"], http.timeout = f"Bearer {token}", 60
        yield Server(services, f"http://127.0.0.1:{replicas.ports[0]}", http, lambda: None)
        services.store.close()


def state(server: Server, study: str) -> str:
    """Asked of the database: whoever is asked over HTTP may be killed."""
    return server.services.store.read("state", lambda s: studies.get(s, UUID(study)).state)


@pytest.mark.timeout(1200)
@pytest.mark.parametrize(
    ("wanted", "kills"), [pytest.param(6, 3, marks=pytest.mark.slow), pytest.param(30, 10, marks=pytest.mark.nightly)]
)
def test_rounds_under_random_kills(wanted: int, kills: int, replicas: Replicas, server: Server, tmp_path: Path) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", rounds=wanted, **WISHES)["id"]
    killer = Killer(replicas, SEED, 20, 80)
    sites = [tiny.make_hospital(tmp_path, server.url, server.invite(), number) for number in (1, 2, 3)]
    for site in sites:
        site.connect = lambda: httpx.Client(
            transport=RoundRobin(replicas.ports, killer), base_url="http://127.0.0.1", timeout=60
        )
        site.start()
    wait_until(lambda: state(server, study) == "finished", f"{wanted} rounds", 1100)
    killer.stopped = True
    for site in sites:
        site.stop()
    wait_until(replicas.ready, "all coordinators to be back", 120)

    rows = [row for row in server.rounds(study) if row["kind"] == "training"]
    assert [(row["round"], row["attempt"], row["state"]) for row in rows] == [
        (number, 1, "complete") for number in range(1, wanted + 1)
    ]
    assert all(len(row["contributors"]) == 3 for row in rows)
    trainers = [site.trainer for site in sites]
    for number, row in enumerate(rows, 1):
        tiny.check_model(server.vector(row["model"], tmp_path), base, rows[:number], trainers)
    chain = server.services.store.read("audit", lambda s: [(r.action, r.detail) for r in audit.rows_after(s, 0, 10**6)])
    completed = Counter(detail["round"] for action, detail in chain if action == "round.complete")
    assert [completed[number] for number in range(1, wanted + 1)] == [1] * wanted
    assert server.services.store.read("verify", audit.verify) == len(chain)
    assert replicas.kills >= kills, "the study went on so fast that hardly anybody was killed"
    print(f"{len(rows)} of {wanted} rounds right, {replicas.kills} coordinators killed")
