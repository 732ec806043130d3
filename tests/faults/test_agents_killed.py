"""kill -9 at random moments of three real agents: every round completes with all three, and nothing is sent twice.

A round has one moment, in one phase, at one site; whoever died is started again, as its service would be.
"""

from __future__ import annotations

import json
import signal
import subprocess
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path

import pytest
import tiny_federation as tiny
from counting_proxy import CountingProxy, Passed
from moments import Moment, Mortal, draw
from processes import HERE, Processes, Restartable, operated
from tiny_federation import Hospital, Server, wait_until

from crypto.canonical import sha256
from crypto.layout import Layout, Tensor
from participant.ledger import Ledger

SEED = 18
# Above one part of 4 MiB, so that an upload has a middle.
LAYOUT = Layout((Tensor("weight", (1100, 1000), "parameter"), Tensor("bias", (7,), "parameter")), tiny.LAYOUT.counts)
WISHES = {"expected_sites": 3, "collect_seconds": 120, "vote_seconds": 120, "open_seconds": 120}
PHASES = {"lwe-ckks": Mortal.PHASES, "lwe-shamir": tuple(phase for phase in Mortal.PHASES if phase != "voting")}


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    started = Processes(tmp_path)
    yield started
    started.end()


class Agents:
    """Three agents as processes, each behind a proxy of its own."""

    def __init__(self, port: int, folder: Path, processes: Processes) -> None:
        self.kills = 0
        self._folder, self._processes = folder, processes
        self.proxies = [CountingProxy(port, folder / f"site-{number}") for number in (1, 2, 3)]
        self.hospitals: list[Hospital] = []
        self._running: dict[int, subprocess.Popen[bytes]] = {}

    def enrol(self, server: Server) -> None:
        for number, proxy in enumerate(self.proxies, 1):
            self.hospitals.append(tiny.make_hospital(self._folder, proxy.url, server.invite(), number))

    def start(self, moments: Sequence[Moment]) -> None:
        (self._folder / "moments.json").write_text(json.dumps([astuple(moment) for moment in moments]))
        for number in (1, 2, 3):
            self._start(number)

    def start_the_killed(self) -> None:
        for number, process in list(self._running.items()):
            if process.poll() == -signal.SIGKILL:
                self.kills += 1
                self._start(number)
            else:
                assert process.returncode in (None, 0), f"the agent of site {number} ended with {process.returncode}"

    def _start(self, number: int) -> None:
        home = self._folder / f"site-{number}"
        command = (HERE / "run_mortal_agent.py", home, str(number), self._folder)
        self._running[number] = self._processes.start(*command)

    def close(self) -> None:
        for proxy in self.proxies:
            proxy.close()


@pytest.mark.nightly
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("scheme", "each"), [("lwe-ckks", 5), ("lwe-shamir", 4)]
)  # moments of each phase: 6 * 5, 5 * 4
def test_agents_killed_at_random_moments(scheme: str, each: int, processes: Processes, tmp_path: Path) -> None:
    moments = draw(SEED, PHASES[scheme], each)
    coordinator = Restartable(tmp_path / "coordinator", processes)
    coordinator.start()
    agents = Agents(coordinator.port, tmp_path, processes)
    rounds = len(moments) + 1
    with operated(coordinator) as server:
        base = tiny.save_first_model(tmp_path / "first.safetensors", LAYOUT)
        study = server.create_study(tmp_path / "first.safetensors", scheme=scheme, rounds=rounds, **WISHES)["id"]
        agents.enrol(server)
        agents.start(moments)

        def finished() -> bool:
            agents.start_the_killed()
            return bool(server.study(study)["state"] == "finished")

        wait_until(finished, f"{rounds} rounds", 1700)
        agents.close()
        rows = server.rounds(study)
        assert [(row["round"], row["attempt"], row["state"]) for row in rows] == [
            (number, 1, "complete") for number in range(1, rounds + 2)
        ]
        assert all(len(row["contributors"]) == 3 for row in rows)
        found = server.vector(server.study(study)["model"], tmp_path, LAYOUT)
        tiny.check_model(found, base, rows, [hospital.trainer for hospital in agents.hospitals], LAYOUT)
    assert {path.name for path in tmp_path.glob("*.came")} == {f"round-{moment.round}.came" for moment in moments}
    assert agents.kills == len(moments)
    for proxy, hospital in zip(agents.proxies, agents.hospitals, strict=True):
        check_sent(proxy.passed, rounds + 1)
        assert Ledger(hospital.home.ledger).verify() > 0
    print(f"{len(rows)} rounds right, {agents.kills} agents killed: {Counter(moment.phase for moment in moments)}")


def check_sent(passed: Sequence[Passed], rounds: int) -> None:
    """Of each attempt: all of it was sealed, once, before any of it left, and nothing acknowledged was sent again."""
    attempts: dict[str, list[Passed]] = defaultdict(list)
    for put in passed:
        attempts[put.attempt].append(put)
    assert len(attempts) == rounds
    for puts in attempts.values():
        sealed, manifest = puts[0].sealed, json.loads(puts[-1].body)["message"]
        kinds = {"parts": manifest["parts"], "key-parts": manifest["key_parts"]}
        assert sealed == {f"{kind}-{n}": digest for kind, found in kinds.items() for n, digest in enumerate(found)}
        assert all(put.sealed == sealed for put in puts), "sealed twice"
        for put in puts:
            if put.acknowledged is not None:
                assert sealed.get(put.name, sha256(put.body)) == sha256(put.body)
                again = [other for other in puts if other.name == put.name and other.began > put.acknowledged]
                assert not again, f"{put.name} of {put.attempt} was acknowledged and sent again"
