"""Each federation option from end to end: real agents and coordinator, a trainer whose updates a test can compute."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_federation as tiny
from numpy.typing import NDArray
from tiny_federation import LAYOUT, Hospital, Server, wait_until

from crypto.layout import Layout
from participant.files import write_whole
from participant.policy import Policy
from participant.progress import Advance
from participant.settings import dump
from participant.steps.desk import TrainResult
from participant.terms import RoundTerms

Enrol = Callable[..., Hospital]
PARAMETERS = 3001  # of the flat vector; what follows are buffers
BOUNDS = np.repeat([1.0, 64.0], [PARAMETERS, 40])


@dataclass
class NotingTrainer(tiny.TinyTrainer):
    """Remembers under which terms it was asked to train."""

    terms: list[RoundTerms] = field(default_factory=list)

    def train(self, base: NDArray[np.float32], layout: Layout, terms: RoundTerms, progress: Advance) -> TrainResult:
        self.terms.append(terms)
        return super().train(base, layout, terms, progress)


@pytest.fixture
def enrol(server: Server, tmp_path: Path) -> Iterator[Enrol]:
    made: list[Hospital] = []

    def make(number: int) -> Hospital:
        hospital = tiny.make_hospital(tmp_path, server.url, server.invite(), number)
        hospital.trainer = NotingTrainer(number)
        made.append(hospital)
        return hospital

    yield make
    for hospital in made:
        hospital.stop()


def run_study(
    server: Server, hospitals: Sequence[Hospital], model: dict[str, Any] | Path, **wishes: Any
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """A study to its end: its last state, and its attempts."""
    if isinstance(model, Path):
        study = server.create_study(model, expected_sites=len(hospitals), **wishes)["id"]
    else:
        made = server.http.post("/v1/studies", json={"expected_sites": len(hospitals), **model, **wishes})
        assert made.is_success, made.text
        study = made.json()["id"]
        assert server.http.post(f"/v1/studies/{study}/start").is_success
    for hospital in hospitals:
        hospital.agent = type(hospital.agent)()
        hospital.start()
    wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish")
    for hospital in hospitals:
        hospital.stop()
    return server.study(study), server.rounds(study)


def updates_of(hospitals: Sequence[Hospital], number: int) -> NDArray[np.float64]:
    return np.array([each.trainer.update(LAYOUT.size, number) for each in hospitals], np.float64)


def test_dynamic_weights(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    """Site i has 20 i cases and a validation loss of i / 10: from round 2 on, against 0.2 of all, a quarter to 0.75."""
    file = tmp_path / "first.safetensors"
    base = tiny.save_first_model(file, recipe=tiny.recipe(weighting="dynamic"))
    hospitals = [enrol(number) for number in (1, 2, 3)]
    study, rows = run_study(server, hospitals, file)

    assert study["weighting"] == "dynamic"
    assert [row["plan"].get("reference_loss") for row in rows] == [None, 0.2, 0.2]
    units = {1: [10, 20, 30], 2: [5, 20, 45]}
    expected = base + sum(np.average(updates_of(hospitals, number), axis=0, weights=units[number]) for number in (1, 2))
    found = server.vector(study["model"], tmp_path)
    assert (np.abs(found - expected) < 4e-6 * BOUNDS).all()
    for row in rows[:2]:
        counts = server.http.get(f"/v1/studies/{study['id']}/rounds/{row['round']}/1/counts").json()
        assert counts["capped_samples"] == sum(units[row["round"]])


def test_a_server_optimiser(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    file, rule = tmp_path / "first.safetensors", {"lr": 0.05, "momentum": 0.8, "beta2": 0.9, "tau": 0.01}
    base = tiny.save_first_model(file, recipe=tiny.recipe(server={"optimizer": "fedyogi", **rule}))
    hospitals = [enrol(number) for number in (1, 2, 3)]
    study, _ = run_study(server, hospitals, file)

    model, momentum, second = base.astype(np.float64), np.zeros(LAYOUT.size), np.full(LAYOUT.size, 0.01**2)
    for number in (1, 2):
        mean = np.average(updates_of(hospitals, number), axis=0, weights=[20, 40, 60])
        momentum = 0.8 * momentum + 0.2 * mean
        second = second - 0.1 * mean**2 * np.sign(second - mean**2)
        model += np.where(np.arange(LAYOUT.size) < PARAMETERS, 0.05 * momentum / (np.sqrt(second) + 0.01), mean)
    found = server.vector(study["model"], tmp_path)
    assert (np.abs(found - model) < 2e-5 * BOUNDS).all()


def test_a_plateau_and_an_early_end(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    """The trainers' losses never change: the rate falls after the third round, the fourth is the last."""
    paced = {"schedule": "plateau", "plateau": {"factor": 0.5, "patience": 1}, "early_stopping": {"patience": 3}}
    tiny.save_first_model(tmp_path / "first.safetensors", recipe=tiny.recipe(training=paced, rounds=30))
    hospitals = [enrol(number) for number in (1, 2, 3)]
    study, rows = run_study(server, hospitals, tmp_path / "first.safetensors")

    assert [(row["kind"], row["state"]) for row in rows] == [("training", "complete")] * 4 + [
        ("evaluation", "complete")
    ]
    assert (study["round"], study["rounds"]) == (4, 30)
    assert "ended early, after 4 of 30 rounds" in study["reason"]
    for hospital in hospitals:
        assert isinstance(hospital.trainer, NotingTrainer)
        assert [(each.round, each.rate) for each in hospital.trainer.terms] == [(1, 1), (2, 1), (3, 1), (4, 0.5)]


def test_two_of_five_sites_a_round_and_each_was_told(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    """FL-CXR's setting."""
    file = tmp_path / "first.safetensors"
    base = tiny.save_first_model(file, recipe=tiny.recipe(fraction=0.4, minimum_contributors=2))
    hospitals, careful = [enrol(number) for number in range(1, 6)], enrol(6)
    write_whole(careful.home.policy, dump(Policy(peers="auto", minimum_contributors=3)).encode())
    careful.start()
    study, rows = run_study(server, hospitals, file)

    by_name = {hospital.home.path.name: hospital for hospital in hospitals}
    sites = {each["id"]: by_name.get(each["name"]) for each in server.http.get("/v1/sites").json()}
    assert study["minimum_contributors"] == 2
    assert all((len(row["contributors"]), row["votes"] > 2) == (2, True) for row in rows)
    expected = base.astype(np.float64)
    for row in rows[:2]:
        chosen = [sites[site] for site in row["contributors"]]
        weights = [each.trainer.samples for each in chosen]
        expected += np.average(updates_of(chosen, row["round"]), axis=0, weights=weights)
    assert (np.abs(server.vector(study["model"], tmp_path) - expected) < 4e-6 * BOUNDS).all()
    wait_until(lambda: bool(careful.events("refusal")), "the careful hospital to look")
    for hospital in hospitals:
        (joined,), (told,) = hospital.events("joined"), hospital.events("small-sums")
        assert joined["minimum_contributors"] == told["minimum_contributors"] == 2
        assert "each can subtract its own part" in told["words"]
        shares = (
            {each.share for each in hospital.trainer.terms} if isinstance(hospital.trainer, NotingTrainer) else set()
        )
        assert shares <= {0.4}
    (refusal,) = careful.events("refusal")
    assert "sums of 2 contributors may be opened there" in refusal["words"]
    assert not careful.events("joined")


def test_a_study_goes_on_from_another_ones_model(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    """UCADI's second experiment: a fourth hospital joins what three began."""
    tiny.save_first_model(tmp_path / "first.safetensors")
    hospitals = [enrol(number) for number in (1, 2, 3)]
    first, _ = run_study(server, hospitals, tmp_path / "first.safetensors", rounds=1)
    base = server.vector(first["model"], tmp_path)
    hospitals.append(enrol(4))
    second, rows = run_study(server, hospitals, {"name": "second", "from_study": first["id"]})

    assert second["first_model"] == first["model"] == rows[0]["plan"]["base_model"]
    assert [len(row["contributors"]) for row in rows] == [4, 4, 4]
    found = server.vector(second["model"], tmp_path)
    tiny.check_model(found, base, rows, [hospital.trainer for hospital in hospitals])
