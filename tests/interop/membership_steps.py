"""What tests of members that come and go have agents do, and read off the coordinator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from tiny_federation import Hospital, Server
from typer.testing import CliRunner

from coordinator.cli import app as coordinator_app
from crypto.ckks_secret import SecretContext
from crypto.epoch import EpochRecord
from crypto.wire import Signed
from participant.agent import StudyLoop
from participant.cli import app
from participant.settings import Home
from participant.steps.epochs import TURN_SECONDS

Enrol = Callable[..., Hospital]
Look = Callable[..., list[StudyLoop]]


class Gate:
    """Holds a site's training of one round until it is opened."""

    def __init__(self, number: int) -> None:
        self.number, self.reached, self.open = number, threading.Event(), threading.Event()

    def __call__(self, number: int) -> None:
        if number == self.number:
            self.reached.set()
            self.open.wait(60)

    def let_go(self, hospital: Hospital) -> None:
        """End an agent in the middle of that training, which then finds itself called off."""
        assert self.reached.wait(60)
        hospital.stop()
        self.open.set()


def run(home: Home, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--home", str(home.path), *arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def operate(server: Server, *arguments: str) -> str:
    """`pleura-coordinator`, beside the running service; its standard output."""
    folder = str(server.services.settings.data_dir)
    result = CliRunner().invoke(coordinator_app, [*arguments, "--data-dir", folder])
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def epoch_of(server: Server, study: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.http.get(f"/v1/studies/{study}/epoch").raise_for_status().json()
    return answer


def key_blob(server: Server, study: str, digest: str) -> bytes:
    return server.services.blobs.read(f"keys/{study}/{digest}")


def audited(server: Server, action: str) -> list[dict[str, Any]]:
    return [row for row in server.http.get("/v1/audit?after=0").json() if row["action"] == action]


def finished(server: Server, study: str) -> Callable[[], bool]:
    return lambda: bool(server.study(study)["state"] == "finished")


def secret_of(home: Home) -> SecretContext:
    (file,) = home.keys.glob("*/*.secret")
    return SecretContext.load(file.read_bytes())


def record_of(server: Server, study: str) -> EpochRecord:
    return Signed[EpochRecord].from_json(epoch_of(server, study)["record"]).message


def deal(server: Server, study: str, look: Look, hospitals: list[Hospital]) -> list[Hospital]:
    """Have the asked member deal the key to all three, and all of them hold it; the dealer first."""
    loops = look(*hospitals)
    look(*hospitals, times=3)
    assert epoch_of(server, study)["number"] == 1
    dealer = record_of(server, study).dealer
    assert all(loop.desk.site.keyring.holds(loop.desk.study.id, record_of(server, study).digest) for loop in loops)
    by_id = {loop.desk.site.me: hospital for loop, hospital in zip(loops, hospitals, strict=True)}
    return [by_id.pop(dealer), *by_id.values()]


def take_turns(look: Look, hospital: Hospital, holders: int) -> None:
    """A holder looks at so many times of the day that every holder's turn is among them."""
    for turn in range(holders):
        look(hospital, clock=turn * TURN_SECONDS)
