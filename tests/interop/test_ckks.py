"""`ckks` between real agents and the real coordinator: whole updates as ciphertexts, opened once, with noise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_federation as tiny
from tiny_federation import Hospital, Server, wait_until

from participant.policy import Policy
from participant.settings import dump

Enrol = Callable[..., Hospital]


@pytest.fixture
def enrol(server: Server, tmp_path: Path) -> Iterator[Enrol]:
    made: list[Hospital] = []

    def make(number: int, schemes: tuple[str, ...] = ("ckks",), **trainer: Any) -> Hospital:
        hospital = tiny.make_hospital(tmp_path, server.url, server.invite(), number, **trainer)
        hospital.home.policy.write_text(dump(Policy(peers="auto", schemes=list(schemes))))  # type: ignore[arg-type]
        made.append(hospital)
        return hospital

    yield make
    for hospital in made:
        hospital.stop()


def test_two_rounds_and_an_evaluation(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", scheme="ckks", expected_sites=3)
    assert "honest-but-curious" in study["trust"]
    hospitals = [enrol(number) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: server.study(study["id"])["state"] == "finished", "the study to finish")
    rows = server.rounds(study["id"])
    assert [row["state"] for row in rows] == ["complete"] * 3
    found = server.vector(server.study(study["id"])["model"], tmp_path)
    tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals], allowed=1e-5)
    for hospital in hospitals:
        wait_until(lambda home=hospital.home: not list(home.opened.glob("*/*")), "what was opened to be deleted")
    opened = [event for hospital in hospitals for event in hospital.events("sent") if event["what"] == "opened-part"]
    assert {event["round"] for event in opened} == {1, 2, 3}, "what an opener uploads is in its ledger"


def test_a_site_takes_it_only_if_its_policy_says_so(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    tiny.save_first_model(tmp_path / "first.safetensors")
    server.create_study(tmp_path / "first.safetensors", scheme="ckks", expected_sites=3)
    hospital = enrol(1, schemes=("lwe-ckks", "lwe-shamir"))
    hospital.start()
    wait_until(lambda: bool(hospital.events("refusal")), "the refusal")
    assert "the scheme ckks is not among `schemes`" in hospital.events("refusal")[0]["words"]
