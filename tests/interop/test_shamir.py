"""`lwe-shamir` between real agents and the real coordinator: no key that outlives a round, a threshold opens."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until

Enrol = Callable[..., Hospital]


def study(server: Server, folder: Path, **wishes: Any) -> str:
    return str(server.create_study(folder / "first.safetensors", scheme="lwe-shamir", **wishes)["id"])


def test_two_rounds_and_an_evaluation(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    place = study(server, tmp_path, expected_sites=4)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: server.study(place)["state"] == "finished", "the study to finish")
    rows = server.rounds(place)
    assert [row["state"] for row in rows] == ["complete"] * 3
    assert {row["plan"]["threshold"] for row in rows} == {3}
    assert {row["plan"]["epoch"] for row in rows} == {None}
    found = server.vector(server.study(place)["model"], tmp_path)
    tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals])
    for hospital in hospitals:
        assert not list(hospital.home.keys.glob("*.secret")), "there is no key to keep"
        assert not [event for event in hospital.events("sent") if event["what"] == "vote"], "the answer is the vote"
