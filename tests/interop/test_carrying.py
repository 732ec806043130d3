"""Sites that leave and still count: real agents against the real coordinator, checked against float64."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tiny_federation as tiny
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.orm import Session
from tiny_federation import LAYOUT, N_MAX, Hospital, Server, TinyTrainer, wait_until
from typer.testing import CliRunner

from coordinator.store.tables import Approval, Round
from crypto import exposure
from participant.cli import app
from participant.ledger import Ledger
from participant.setup import enrolment_of

SIZES = [tensor.size for tensor in LAYOUT.tensors]


@dataclass
class Scene:
    """A study that comes to rest after the rounds of `breaks`, for members to come and go."""

    server: Server
    folder: Path
    breaks: Sequence[int]
    study: str = ""
    first: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    hospitals: dict[int, Hospital] = field(default_factory=dict)

    def create(self, *, carry: bool, rounds: int, **wishes: Any) -> None:
        recipe = tiny.recipe(carry=carry, rounds=rounds, minimum_contributors=2)
        self.first = tiny.save_first_model(self.folder / "first.safetensors", recipe=recipe)
        self.study = str(self.server.create_study(self.folder / "first.safetensors", **wishes)["id"])

    def start(self, *numbers: int) -> None:
        for number in numbers:
            hook = self.in_training if number == 1 else lambda round_number: None
            invitation = self.server.invite()
            made = tiny.make_hospital(self.folder, self.server.url, invitation, number, hook=hook)
            self.hospitals[number] = made
            made.start()

    def in_training(self, number: int) -> None:
        """Of site-1: no new round is planned when this one ends."""
        if number in self.breaks:
            self.act("pause")

    def act(self, what: str) -> None:
        self.server.http.post(f"/v1/studies/{self.study}/{what}").raise_for_status()

    def await_break(self, number: int) -> None:
        wait_until(lambda: self.at_rest(number), f"round {number} to end")

    def at_rest(self, number: int) -> bool:
        rows = self.rows()
        return bool(rows) and (rows[-1]["round"], rows[-1]["state"]) == (number, "complete")

    def await_end(self) -> None:
        wait_until(lambda: self.server.study(self.study)["state"] == "finished", "the study to finish", 90)

    def leave(self, number: int, *options: str) -> str:
        self.hospitals[number].stop()
        return self.command(number, "leave", "tiny", *options)

    def come_back(self, number: int) -> None:
        self.command(number, "join", "tiny")
        former = self.hospitals[number]
        self.hospitals[number] = Hospital(former.home, former.trainer)
        self.hospitals[number].start()

    def command(self, number: int, *arguments: str) -> str:
        place = str(self.hospitals[number].home.path)
        result = CliRunner().invoke(app, ["--home", place, *arguments])
        assert result.exit_code == 0, result.output
        return " ".join(result.output.split())

    # --- what is to be seen

    def rows(self) -> list[dict[str, Any]]:
        return self.server.rounds(self.study)

    def completed(self) -> dict[int, dict[str, Any]]:
        return {row["round"]: row for row in self.rows() if (row["state"], row["kind"]) == ("complete", "training")}

    def site(self, number: int) -> UUID:
        return enrolment_of(self.hospitals[number].home).site

    def model(self, row: dict[str, Any]) -> NDArray[np.float32]:
        return self.server.vector(row["model"], self.folder)

    def stored(self, number: int) -> list[int]:
        """Rounds of which parts of a site lie in the blob store."""
        rounds = self.server.services.store.read("rounds", self._rounds)
        folders = (self.folder / "coordinator").rglob(f"parts/*/{self.site(number)}")
        return sorted(rounds[folder.parent.name] for folder in folders if any(folder.iterdir()))

    def _rounds(self, session: Session) -> dict[str, int]:
        rows = session.execute(select(Round.id, Round.number).where(Round.study_id == UUID(self.study)))
        return {str(round_id): number for round_id, number in rows}

    def approves(self, number: int, other: int) -> bool:
        """Whether the coordinator knows that a site approved another."""
        key = (UUID(self.study), self.site(number))
        row = self.server.services.store.read("approval", lambda session: session.get(Approval, key))
        return row is not None and str(self.site(other)) in row.signed["message"]["peers"]

    def dropped(self) -> list[tuple[str, str]]:
        rows = self.server.http.get("/v1/audit?after=0").json()
        found = [row["detail"] for row in rows if row["action"] == "contribution.not-carried"]
        return [(each["site"], each["reason"]) for each in found]


@pytest.fixture
def scene(server: Server, tmp_path: Path) -> Iterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(*breaks: int) -> Scene:
        made.append(Scene(server, tmp_path, breaks))
        return made[-1]

    yield make
    for each in made:
        for hospital in each.hospitals.values():
            hospital.stop()


def mean_of(
    first: NDArray[np.float32], vectors: Sequence[tuple[TinyTrainer, NDArray[np.float64]]], bounds: Sequence[float]
) -> NDArray[np.float64]:
    """What so many whole trained vectors make of a study's first model, in float64."""
    origin, limit = first.astype(np.float64), np.repeat(bounds, SIZES)
    total, weights = np.zeros(LAYOUT.size), 0.0
    for trainer, vector in vectors:
        weight = min(trainer.samples, N_MAX) / N_MAX
        total += np.clip(weight * (vector - origin), -limit, limit)
        weights += weight
    return origin + total / weights


def check_rounds(play: Scene, counted: Mapping[int, Mapping[int, int]]) -> None:
    """Assert that each round's model is the float64 mean of the sites' trained vectors.

    Args:
        counted: for each round, by site, the round in which its vector was trained.
    """
    rows = play.completed()
    assert rows.keys() == counted.keys()
    bases = {number: play.first if number == 1 else play.model(rows[number - 1]) for number in rows}
    for number, row in rows.items():
        vectors = []
        for site, made in counted[number].items():
            trainer = play.hospitals[site].trainer
            vectors.append((trainer, bases[made].astype(np.float64) + trainer.update(LAYOUT.size, made)))
        bounds = row["plan"]["bounds"]
        error = np.abs(play.model(row) - mean_of(play.first, vectors, bounds))
        assert (error < np.repeat(bounds, SIZES) * 1e-6 + 1e-6).all(), (number, error.max())
        assert set(row["contributors"]) == {str(play.site(site)) for site in counted[number]}
        assert set(row["carried"]) == {str(play.site(site)) for site, made in counted[number].items() if made != number}


def all_of(sites: Sequence[int], number: int) -> dict[int, int]:
    return dict.fromkeys(sites, number)


def test_a_leaver_counts_on_and_a_newcomer_at_once(scene: Callable[..., Scene]) -> None:
    play = scene(2)
    play.create(carry=True, rounds=4, expected_sites=4)
    play.start(1, 2, 3, 4)
    play.await_break(2)
    said = play.leave(4)
    assert "still counts" in said
    assert "leave tiny --withdraw" in said
    play.start(5)
    wait_until(lambda: play.hospitals[5].keys_had() == 1, "the newcomer to have the key")
    wait_until(lambda: play.approves(5, 4), "the newcomer to approve the leaver")
    assert play.stored(4) == [2]
    assert "left and still counts, approved" in play.command(1, "roster", "tiny")
    play.act("resume")
    play.await_end()

    first = all_of((1, 2, 3, 4), 1)
    later = {number: all_of((1, 2, 3, 5), number) | {4: 2} for number in (3, 4)}
    check_rounds(play, {1: first, 2: all_of((1, 2, 3, 4), 2), **later})
    plans = [row["plan"] for row in play.completed().values()]
    origin = play.server.study(play.study)["first_model"]
    assert all((plan["origin"], plan["k_max"], plan["bounds"]) == (origin, 64, [4.0, 4.0, 64.0]) for plan in plans)
    assert plans[2]["carried"][0]["epoch"] == plans[1]["epoch"] != plans[2]["epoch"]
    last = play.rows()[-1]
    assert (last["kind"], last["state"], last["carried"]) == ("evaluation", "complete", [])

    assert play.hospitals[5].keys_had() == 1, "never the key that the leaver sealed under"
    wait_until(lambda: not any(map(play.stored, play.hospitals)), "every part to be swept")
    for number in (1, 2, 3):
        hospital = play.hospitals[number]
        assert hospital.thread is not None
        hospital.thread.join(20)
        assert not list(hospital.home.keys.glob("*/*")), "a finished study needs no key"
        assert not list(hospital.home.path.glob("residuals/*.npy")), "nothing is added twice"
        assert not hospital.events("refusal")
        carried = [line["carried"] for line in hospital.events("plan-accepted") if "carried" in line]
        assert carried == [[str(play.site(4))]] * 2
        assert Ledger(hospital.home.ledger).verify()
    assert play.hospitals[4].events("counts-on"), "it was told when it joined"


def test_approach_1_goes_on_without_the_leaver(scene: Callable[..., Scene]) -> None:
    play = scene(2)
    play.create(carry=False, rounds=3, expected_sites=4)
    play.start(1, 2, 3, 4)
    play.await_break(2)
    assert "still counts" not in play.leave(4)
    play.act("resume")
    play.await_end()
    rows = play.rows()
    everyone = [TinyTrainer(number) for number in (1, 2, 3, 4)]
    tiny.check_model(play.model(rows[1]), play.first, rows[:2], everyone)
    assert [len(row["contributors"]) for row in rows] == [4, 4, 3, 3]
    assert all(row["carried"] == [] and "origin" not in row["plan"] for row in rows)


def test_leavers_under_two_keys_and_one_that_comes_back(scene: Callable[..., Scene]) -> None:
    play = scene(1, 2, 3)
    play.create(carry=True, rounds=4, expected_sites=5)
    play.start(1, 2, 3, 4, 5)
    for number, leaver in ((1, 5), (2, 4)):
        play.await_break(number)
        play.leave(leaver)
        play.act("resume")
    play.await_break(3)
    play.come_back(5)
    wait_until(lambda: play.hospitals[5].keys_had() == 2, "the key for who came back")
    wait_until(lambda: all(play.approves(one, 5) for one in (1, 2, 3)) and play.approves(5, 4), "approvals")
    play.act("resume")
    play.await_end()
    check_rounds(
        play,
        {
            1: all_of((1, 2, 3, 4, 5), 1),
            2: all_of((1, 2, 3, 4), 2) | {5: 1},
            3: all_of((1, 2, 3), 3) | {4: 2, 5: 1},
            4: all_of((1, 2, 3, 5), 4) | {4: 2},
        },
    )
    epochs = {carried["epoch"] for carried in play.completed()[3]["plan"]["carried"]}
    assert len(epochs | {play.completed()[3]["plan"]["epoch"]}) == 3


def test_who_leaves_in_the_middle_of_a_round_and_withdraws_later(scene: Callable[..., Scene]) -> None:
    play = scene(2, 3)
    play.create(carry=True, rounds=4, expected_sites=4)
    play.start(2, 3, 4)
    play.start(1)
    gone = threading.Event()

    def wait_for_leaver(number: int) -> None:
        play.in_training(number)
        if number == 2:
            gone.wait(60)

    play.hospitals[1].trainer.hook = wait_for_leaver
    wait_until(lambda: play.stored(4)[-1:] == [2], "the contribution to round 2")
    wait_until(lambda: len(play.rows()[-1]["contributors"]) == 3, "all but one contribution to round 2")
    play.leave(4)
    gone.set()
    play.await_break(2)
    wait_until(lambda: play.stored(4) == [2], "round 1, which is superseded, to be swept again")
    play.act("resume")
    play.await_break(3)
    assert "not summed any more" in play.leave(4, "--withdraw")
    assert play.dropped() == [(str(play.site(4)), "its site withdrew it")]
    wait_until(lambda: play.stored(4) == [], "what was withdrawn to be deleted")
    play.act("resume")
    play.await_end()
    check_rounds(
        play,
        {
            1: all_of((1, 2, 3, 4), 1),
            2: all_of((1, 2, 3, 4), 2),
            3: all_of((1, 2, 3), 3) | {4: 2},
            4: all_of((1, 2, 3), 4),
        },
    )


def test_a_leaver_counts_no_more_than_the_limit_allows(
    scene: Callable[..., Scene], monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its own round 1/3, in round 2 another; a third sum could be beside two fresh ones only."""
    monkeypatch.setattr(exposure, "CARRY_LIMIT", 1.0)
    play = scene(1)
    play.create(carry=True, rounds=3, expected_sites=4)
    play.start(1, 2, 3, 4)
    play.await_break(1)
    play.leave(4)
    play.act("resume")
    play.await_end()
    both = all_of((1, 2, 3), 2) | {4: 1}
    check_rounds(play, {1: all_of((1, 2, 3, 4), 1), 2: both, 3: all_of((1, 2, 3), 3)})
    ((site, reason),) = play.dropped()
    assert site == str(play.site(4))
    assert reason.startswith("the sums that it is in have an exposure of 0.667")
    for number in (1, 2, 3):
        assert not play.hospitals[number].events("refusal"), "the coordinator plans within what sites admit"


def test_a_stopped_study_keeps_nothing(scene: Callable[..., Scene]) -> None:
    play = scene(1)
    play.create(carry=True, rounds=3, expected_sites=3)
    play.start(1, 2, 3)
    play.await_break(1)
    wait_until(lambda: [play.stored(number) for number in (1, 2, 3)] == [[1]] * 3, "the sums of round 1 to be swept")
    play.act("stop")
    wait_until(lambda: not any(map(play.stored, play.hospitals)), "every part to be swept")
