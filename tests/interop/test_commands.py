"""The hospital's commands against the real coordinator."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, TinyTrainer, wait_until
from typer.testing import CliRunner

from crypto.identity import Identity
from participant.agent import LOOK_EVERY, only_one
from participant.cli import app
from participant.client import LONGEST_WAIT
from participant.policy import Policy
from participant.settings import Home, dump


def run(home: Home, *arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, ["--home", str(home.path), *arguments])
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def make_home(server: Server, folder: Path, name: str) -> Home:
    home = Home(folder / name)
    run(home, "init", "--name", name, "--coordinator", server.url, "--data", str(folder))
    return home


@contextmanager
def running(*hospitals: Hospital) -> Iterator[None]:
    for hospital in hospitals:
        hospital.start()
    yield
    for hospital in hospitals:
        hospital.stop()


def test_peers_are_approved_by_their_words(server: Server, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3, rounds=1)["id"]
    homes = [make_home(server, tmp_path, name) for name in ("north", "south", "west")]
    for home in homes:
        assert "Enrolled" in run(home, "enrol", server.invite())
    for home in homes:
        run(home, "run", "--once")
    words = {home.path.name: Identity.load(home.identity).public.words for home in homes}
    shown = run(homes[0], "roster", "tiny")
    assert all(each in shown for each in words.values())
    assert shown.count("not approved") == 2
    assert words["south"] in run(homes[0], "approve", "tiny", "south", "--yes")
    assert "Approved west" in run(homes[0], "approve", "tiny", "all", "--yes")
    assert "not approved" not in run(homes[0], "roster")
    assert "no member of tiny" in run(homes[0], "approve", "tiny", "east", code=1)
    assert "no such study" in run(homes[0], "approve", "other", "all", code=1)
    hospitals = [Hospital(home, TinyTrainer(number)) for number, home in enumerate(homes, 1)]
    with running(*hospitals):
        for home in homes[1:]:
            run(home, "approve", "tiny", "all", "--yes")
        wait_until(lambda: bool(server.study(study)["state"] == "finished"), "the study to finish")
    assert "finished" in run(homes[1], "status")
    assert "sound" in run(homes[1], "ledger", "verify")


def test_an_agent_looks_often_while_a_person_is_to_approve(server: Server, tmp_path: Path) -> None:
    """It waits for the coordinator's news, and an approval given at home is none."""
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors", expected_sites=3, rounds=1)
    homes = [make_home(server, tmp_path, name) for name in ("north", "south", "west")]
    for home in homes:
        run(home, "enrol", server.invite())
        run(home, "run", "--once")
    with Hospital(homes[0], TinyTrainer(1)).loop() as loop:
        waits = []
        for peers in (("south",), ("west",), ()):
            loop.look()
            waits.append(loop.patience)
            for peer in peers:
                run(homes[0], "approve", "tiny", peer, "--yes")
    assert waits == [LOOK_EVERY, LOOK_EVERY, LONGEST_WAIT]


def test_a_peer_is_approved_only_after_a_yes(server: Server, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors")
    homes = [make_home(server, tmp_path, name) for name in ("north", "south")]
    for home in homes:
        run(home, "enrol", server.invite())
        run(home, "run", "--once")
    answered = CliRunner().invoke(app, ["--home", str(homes[0].path), "approve", "tiny", "south"], input="n\n")
    assert "Did that hospital read out the same words?" in answered.output
    assert "not approved" in run(homes[0], "roster")


def test_invitations_that_admit_nobody(server: Server, tmp_path: Path) -> None:
    invitation = server.invite()
    north, south = (make_home(server, tmp_path, name) for name in ("north", "south"))
    run(north, "enrol", invitation)
    assert "enrolled already" in run(north, "enrol", server.invite(), code=1)
    assert "invitation-used" in run(south, "enrol", invitation, code=1)
    assert "invitation-invalid" in run(south, "enrol", "made-up", code=1)
    again = Home(tmp_path / "second")
    run(again, "init", "--name", "north", "--coordinator", server.url, "--data", str(tmp_path))
    unused = server.invite()
    assert "name-taken" in run(again, "enrol", unused, code=1)
    run(south, "enrol", unused)


def test_a_study_below_the_floor_is_left_alone(server: Server, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors", minimum_contributors=2)
    home = make_home(server, tmp_path, "north")
    run(home, "enrol", server.invite())
    run(home, "run", "--once")
    assert "minimum_contributors" in run(home, "ledger")
    assert "not joined" in run(home, "status")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_waiting_agent(server: Server, tmp_path: Path, number: int) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors")
    home = make_home(server, tmp_path, "north")
    home.policy.write_text(dump(Policy(peers="auto")))
    run(home, "enrol", server.invite())
    command = [sys.executable, "-m", "participant.cli", "--home", str(home.path), "run"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: "joined" in home.ledger.read_text(), "the agent to join")
            process.send_signal(number)
            _, log = process.communicate(timeout=20)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "stopping" in log
    assert "Traceback" not in log
    again = subprocess.run([*command, "--once"], timeout=30, capture_output=True, text=True)
    assert again.returncode == 0, "the home folder is free again"


def test_a_second_agent_on_one_home_is_refused(server: Server, tmp_path: Path) -> None:
    hospital = tiny.make_hospital(tmp_path, server.url, server.invite(), 1)
    with hospital.open(), only_one(hospital.home.lock):
        assert "already runs" in run(hospital.home, "run", "--once", code=1)


def test_tokens_are_good_once(server: Server, tmp_path: Path) -> None:
    hospital = tiny.make_hospital(tmp_path, server.url, server.invite(), 1)
    with hospital.open() as site:
        site.client.studies()
        request = httpx.Request("GET", f"{server.url}/v1/studies")
        auth = site.client.session.auth
        assert auth is not None
        signed = next(auth.auth_flow(request))
        with httpx.Client() as http:
            assert http.send(signed).status_code == 200
            assert http.send(signed).json()["code"] == "token-replayed"
