"""Spot checks between real agents and the real coordinator, also one that publishes something else than it opened."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tiny_federation as tiny
from numpy.typing import NDArray
from pydantic import TypeAdapter
from safetensors.numpy import load, save
from tiny_federation import Hospital, Server, wait_until

from coordinator import aggregation
from coordinator.store import models
from coordinator.store.blobs import model_key, part_key, parts_prefix
from coordinator.store.tables import Round
from crypto.canonical import sha256
from crypto.layout import Layout, Tensor
from crypto.manifest import Ballot, ShareOpening
from crypto.outcome import SpotCheck
from crypto.parameters import PART_VALUES
from crypto.plan import Plan
from crypto.schemes.spot_check import choices
from participant.documents import Ended, PooledCounts, read
from participant.record_results import Head
from participant.steps.desk import Desk
from participant.steps.spot_checks import Uncheckable, check_base, examine, tend_spot_checks

Enrol = Callable[..., Hospital]
PARTS, ALTERED = 5, frozenset({1, 3})  # of the model in `tampered`
BIG = Layout(
    (
        Tensor("early", (2, PART_VALUES - 100), "parameter"),
        Tensor("middle", (PART_VALUES + 200,), "buffer"),
        Tensor("late", (PART_VALUES + 50_000,), "parameter"),
    ),
    tiny.LAYOUT.counts,
)


@pytest.fixture
def enrol(server: Server, tmp_path: Path) -> Iterator[Enrol]:
    made: list[Hospital] = []

    def make(number: int, **trainer: Any) -> Hospital:
        made.append(tiny.make_hospital(tmp_path, server.url, server.invite(), number, **trainer))
        return made[-1]

    yield make
    for hospital in made:
        hospital.stop()


def new_study(server: Server, folder: Path, layout: Layout = tiny.LAYOUT, **wishes: Any) -> str:
    tiny.save_first_model(folder / "first.safetensors", layout)
    return str(server.create_study(folder / "first.safetensors", scheme="lwe-shamir", **wishes)["id"])


def altering(change: Callable[[NDArray[np.float32]], None]) -> Callable[..., Any]:
    """In place of the coordinator's making of a model file: one that changes the mean before."""
    honest = aggregation._write_model

    def write(blobs: Any, work: Any, mean: NDArray[np.float32]) -> Any:
        change(mean)
        return honest(blobs, work, mean)

    return write


@dataclass
class Played:
    """A study whose first round is complete, with three sites that have not checked it."""

    server: Server
    study: str
    hospitals: list[Hospital]
    desks: list[Desk] = field(default_factory=list)

    def play(self, stack: ExitStack) -> None:
        """No site looks again once all have answered, so none checks by itself."""
        loops = [stack.enter_context(hospital.loop()) for hospital in self.hospitals]

        def step() -> bool:
            for loop in loops:
                if len(self.row["openings"]) == len(loops):
                    return True
                loop.look()
            return False

        wait_until(step, "all answers")
        wait_until(lambda: self.row["state"] == "complete", "the round to complete")
        self.desks = [loop.desk for loop in loops]

    @property
    def row(self) -> dict[str, Any]:
        return next(iter(self.server.rounds(self.study)), {"openings": [], "state": "none"})

    @property
    def plan(self) -> Plan:
        return Plan.from_json(self.row["plan"])

    @property
    def last(self) -> Ended:
        row = self.row
        ended = {key: row[key] for key in ("round", "attempt", "state", "reason", "contributors", "model")}
        return Ended.model_validate(ended | {"contributors": tuple(map(UUID, row["contributors"]))})

    @property
    def blobs(self) -> Any:
        return self.server.services.blobs

    @property
    def round_id(self) -> UUID:
        return self.server.services.store.read(
            "find round", lambda s: s.query(Round).filter_by(study_id=UUID(self.study), number=1).one().id
        )

    def results(self, desk: Desk, model: str | None = None) -> dict[int, str]:
        """What the check of each part finds."""
        parts = range(choices(self.plan, desk.layout))
        return {part: examine(desk, self.plan, model or self.row["model"], part).result for part in parts}

    def publish(self, change: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]) -> str:
        """Another model in the place of the round's: `change` makes it of the base and the right one."""
        plan, layout = self.plan, self.desks[0].layout
        base, right = (load(self.blobs.read(model_key(digest))) for digest in (plan.base_model, self.row["model"]))
        data = save({t.name: change(base[t.name], right[t.name]) for t in layout.tensors})
        digest = sha256(data)
        self.blobs.put_bytes(model_key(digest), data)
        origin = models.Origin(plan.study, 1, plan.base_model)
        self.server.services.store.run(
            "publish", lambda s: models.register(s, digest, len(data), plan.layout, plan.recipe, 1.0, origin).digest
        )
        return digest


def started(server: Server, folder: Path, make: Enrol, layout: Layout = tiny.LAYOUT) -> Played:
    return Played(server, new_study(server, folder, layout, expected_sites=3), [make(number) for number in (1, 2, 3)])


@pytest.fixture(scope="module")
def tampered(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    """A model of five parts, of which the coordinator altered two before it published them."""

    def change(mean: NDArray[np.float32]) -> None:
        for part in ALTERED:
            mean[part * PART_VALUES + 7] += np.float32(0.01)

    folder = tmp_path_factory.mktemp("tampered")
    with ExitStack() as stack:
        server = stack.enter_context(tiny.serving(folder / "coordinator"))

        def make(number: int) -> Hospital:
            return tiny.make_hospital(folder, server.url, server.invite(), number, scale=0.01)

        played = started(server, folder, make, BIG)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(aggregation, "_write_model", altering(change))
            played.play(stack)
        yield played


@pytest.fixture
def small(server: Server, enrol: Enrol, tmp_path: Path) -> Iterator[Played]:
    """An honest round of one part."""
    with ExitStack() as stack:
        played = started(server, tmp_path, enrol)
        played.play(stack)
        yield played


# --- an honest coordinator


def test_every_site_checks_every_round(server: Server, enrol: Enrol, tmp_path: Path) -> None:
    study = new_study(server, tmp_path, expected_sites=4)
    hospitals = [enrol(number) for number in (1, 2, 3, 4)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish")
    wait_until(lambda: all(len(row["spot_checks"]) == 4 for row in server.rounds(study)), "all checks to be in")
    rows = server.rounds(study)
    assert [row["kind"] for row in rows] == ["training", "training", "evaluation"]
    for row in rows:
        assert [check["result"] for check in row["spot_checks"]] == ["match"] * 4
        assert "what 4 contributions add up to" in row["spot_checks"][0]["words"]
    wait_until(lambda: not list(server.services.settings.blobs.rglob("body-*")), "the parts to be deleted")
    for hospital in hospitals:
        assert hospital.thread is not None
        hospital.thread.join(20)
        checks = hospital.events("spot-check")
        assert [(check["round"], check["result"]) for check in checks] == [(1, "match"), (2, "match"), (3, "match")]
        assert [check["model"] for check in checks] == [row["model"] for row in rows]
        assert len([event for event in hospital.events("sent") if event["what"] == "spot-check"]) == 3
        assert not hospital.events("refusal")
        assert not hospital.events("base-not-checked")


def test_a_check_takes_one_part_that_nobody_else_chose(tampered: Played) -> None:
    """The default is the operating system's: over many draws each part comes up, and no two sites draw alike."""
    assert tend_spot_checks.__defaults__ is not None
    (choose,) = tend_spot_checks.__defaults__
    draws = [choose(PARTS) for _ in range(1000)]
    assert set(draws) == set(range(PARTS))
    assert draws != [choose(PARTS) for _ in range(1000)]


# --- one that publishes something else


def test_an_altered_fraction_goes_unnoticed_as_rarely_as_promised(tampered: Played) -> None:
    """Each part of one round is checked for real; what many sites would have chosen is drawn with a fixed seed."""
    assert choices(tampered.plan, BIG) == PARTS
    results = tampered.results(tampered.desks[0])
    assert results == {part: "mismatch" if part in ALTERED else "match" for part in range(PARTS)}
    choose, trials, fraction = random.Random(20).randrange, 20_000, len(ALTERED) / PARTS
    for checks in (1, 2, 3, 6, 12):
        caught = sum(any(results[choose(PARTS)] == "mismatch" for _ in range(checks)) for _ in range(trials))
        promised = 1 - (1 - fraction) ** checks
        deviation = math.sqrt(promised * (1 - promised) / trials)
        assert abs(caught / trials - promised) < 4 * deviation, checks


def test_dividing_by_other_weights_shows_in_every_part(tampered: Played) -> None:
    model = tampered.publish(lambda base, right: base + (right - base) * np.float32(1.01))
    assert set(tampered.results(tampered.desks[1], model).values()) == {"mismatch"}


def test_one_bit_anywhere_in_a_part_shows(tampered: Played) -> None:
    model = tampered.publish(lambda base, right: np.nextafter(right, np.float32(9), dtype=np.float32))
    found = examine(tampered.desks[1], tampered.plan, model, 4)
    assert found.result == "mismatch"
    size = BIG.size - 4 * PART_VALUES
    assert found.words == f"part 4: {size} of its {size} values in the published model are not the contributors' mean"


def test_a_model_of_another_form_is_no_match(tampered: Played) -> None:
    model = tampered.publish(lambda base, right: right.astype(np.float64))
    found = examine(tampered.desks[1], tampered.plan, model, 0)
    assert (found.result, "as float32" in found.words) == ("mismatch", True)


class Lying:
    """A client whose coordinator answers some calls otherwise."""

    def __init__(self, client: Any, **answers: Callable[..., Any]) -> None:
        self._client, self._answers = client, answers

    def __getattr__(self, name: str) -> Any:
        return self._answers.get(name) or getattr(self._client, name)


def lied_to(desk: Desk, **answers: Callable[..., Any]) -> Desk:
    return Desk(replace(desk.site, client=Lying(desk.site.client, **answers)), desk.study)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["samples", "capped_samples", "clipped", "recipe"])
def test_altered_counts_show_in_every_check(tampered: Played, name: str) -> None:
    desk = tampered.desks[1]
    counts = desk.site.client.counts(tampered.plan)
    altered: dict[str, Any] = {
        "samples": counts.samples + 1,
        "capped_samples": counts.capped_samples - 1,
        "clipped": (counts.clipped[0] + 1, *counts.clipped[1:]),
        "recipe": counts.recipe | {"cases": counts.recipe["cases"] + 1},
    }
    liar = lied_to(desk, counts=lambda plan: counts.model_copy(update={name: altered[name]}))
    assert tampered.results(liar) == dict.fromkeys(range(PARTS), "mismatch")
    assert "counts" in examine(liar, tampered.plan, tampered.row["model"], 0).words


def test_another_ballot_than_before_is_no_match(tampered: Played) -> None:
    desk = tampered.desks[1]
    ballot = desk.site.client.ballot(tampered.plan)
    fewer = Ballot(plan=ballot.plan, manifests=ballot.manifests[:2])
    found = examine(lied_to(desk, ballot=lambda plan: fewer), tampered.plan, tampered.row["model"], 0)
    assert (found.result, found.ballot) == ("mismatch", ballot.digest)
    assert "another ballot" in found.words


def test_forged_answers_are_no_match_and_too_few_are_no_check(tampered: Played) -> None:
    desk, plan, model = tampered.desks[1], tampered.plan, tampered.row["model"]
    first, *others = desk.site.client.openings(plan, ShareOpening)
    forged = first.model_copy(update={"message": first.message.model_copy(update={"share_sum": (0,) * 2048})})
    found = examine(lied_to(desk, openings=lambda plan, kind: [forged, *others]), plan, model, 0)
    assert (found.result, "signature" in found.words) == ("mismatch", True)
    with pytest.raises(Uncheckable, match="2 answers to the ballot are served; it takes 3"):
        examine(lied_to(desk, openings=lambda plan, kind: others), plan, model, 0)


def test_other_bytes_for_a_part_are_caught_by_their_digest(tampered: Played) -> None:
    desk, other = tampered.desks[1], tampered.desks[0].site.me
    key = part_key(tampered.round_id, other, "body", 2)
    right = tampered.blobs.read(key)
    try:
        tampered.blobs.put_bytes(key, right[:-1] + bytes([right[-1] ^ 1]))
        found = examine(desk, tampered.plan, tampered.row["model"], 2)
        assert (found.result, examine(desk, tampered.plan, tampered.row["model"], 0).result) == ("mismatch", "match")
        assert f"part 2 of site {other}" in found.words
        tampered.blobs.delete(key)
        with pytest.raises(Uncheckable, match="deleted already"):
            examine(desk, tampered.plan, tampered.row["model"], 2)
    finally:
        tampered.blobs.put_bytes(key, right)


def test_what_is_found_is_said_reported_and_kept(tampered: Played, caplog: pytest.LogCaptureFixture) -> None:
    unlucky, lucky, _ = tampered.desks
    caplog.set_level(logging.INFO)
    tend_spot_checks(lucky, tampered.last, lambda parts: 0)
    assert "part 0: the published model and counts are what 3 contributions add up to" in caplog.text
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    tend_spot_checks(unlucky, tampered.last, lambda parts: 3)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "SPOT CHECK FAILED: part 3: 1 of its 1048576 values" in warning
    assert "ask the coordinator's operator" in warning
    shown = {UUID(check["site"]): (check["part"], check["result"]) for check in tampered.row["spot_checks"]}
    assert shown == {lucky.site.me: (0, "match"), unlucky.site.me: (3, "mismatch")}
    for desk in (lucky, unlucky):
        assert desk.site.record.due_checks(desk.study.id) == []
    assert tampered.hospitals[0].events("spot-check")[-1]["part"] == 3


# --- what comes of a mismatch


def test_a_site_that_found_a_mismatch_goes_no_further_until_its_operator_says_so(
    server: Server, enrol: Enrol, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def double(mean: NDArray[np.float32]) -> None:
        mean *= 2

    monkeypatch.setattr(aggregation, "_write_model", altering(double))
    study = new_study(server, tmp_path, expected_sites=3)
    hospitals = [enrol(number) for number in (1, 2, 3)]
    for hospital in hospitals:
        hospital.start()
    wait_until(lambda: [len(row["refusals"]) for row in server.rounds(study)] == [0, 3], "three refusals")
    first, second = server.rounds(study)[:2]
    assert [check["result"] for check in first["spot_checks"]] == ["mismatch"] * 3
    assert {refusal["code"] for refusal in second["refusals"]} == {"spot-check-failed"}
    assert "list it under `trusted_models` in policy.toml" in second["refusals"][0]["words"]
    assert first["model"] in second["refusals"][0]["words"]
    assert second["contributors"] == []

    hospital = hospitals[0]
    hospital.stop()
    with hospital.loop() as loop:
        loop.look()
    assert not [event for event in hospital.events("plan-accepted") if event["round"] == 2], "a restart changes nothing"
    text = hospital.home.policy.read_text()
    assert "trusted_models = []" in text
    hospital.home.policy.write_text(text.replace("trusted_models = []", f'trusted_models = ["{first["model"]}"]'))
    with hospital.loop() as loop:
        loop.look()
    assert [event["model"] for event in hospital.events("model-trusted")] == [first["model"]]
    assert [event for event in hospital.events("plan-accepted") if event["round"] == 2]


def test_the_next_plan_starts_from_the_model_that_was_checked(small: Played) -> None:
    """Else a coordinator would show one model to be checked, and let sites train on another."""
    desk, plan = small.desks[0], small.plan
    tend_spot_checks(desk, small.last)
    model = small.row["model"]
    assert desk.site.record.head(plan.study) == Head(1, model)

    def after(number: int, base: str) -> bool:
        return check_base(desk, plan.model_copy(update={"round": number, "base_model": base}))

    assert after(2, model)
    assert not after(2, plan.base_model)
    assert not after(1, "ab" * 32)
    assert after(3, "ab" * 32), "a round may have passed without this site"
    hospital = small.hospitals[0]
    assert {event["code"] for event in hospital.events("refusal")} == {"base-model-differs"}
    assert [event["model"] for event in hospital.events("base-not-checked")] == ["ab" * 32]
    trusting = replace(desk.site, policy=desk.site.policy.model_copy(update={"trusted_models": ["ab" * 32]}))
    assert check_base(Desk(trusting, desk.study), plan.model_copy(update={"round": 2, "base_model": "ab" * 32}))
    assert after(2, plan.base_model), "which model is right, this site knows no more"


def test_a_round_that_failed_leaves_the_model_as_it_was(small: Played) -> None:
    desk = small.desks[0]
    tend_spot_checks(desk, small.last.model_copy(update={"state": "failed"}))
    assert desk.site.record.head(small.plan.study) == Head(1, small.plan.base_model)
    assert not small.hospitals[0].events("spot-check")


def test_an_attempt_that_failed_before_its_ballot_may_be_followed_by_one_without_this_site(small: Played) -> None:
    desk, plan = small.desks[0], small.plan.model_copy(update={"round": 2})
    desk.site.record.end_check(small.plan, None)
    desk.site.record.accept(plan)
    tend_spot_checks(desk, small.last.model_copy(update={"state": "failed", "round": 2}))
    assert desk.site.record.head(plan.study) == Head(1, plan.base_model)
    assert check_base(desk, plan.model_copy(update={"round": 3, "base_model": "ab" * 32}))
    assert not check_base(desk, plan.model_copy(update={"attempt": 2, "base_model": "ab" * 32}))


# --- killed, late, withheld


def killed(*_: Any) -> Any:
    raise KeyboardInterrupt


def test_killed_after_its_choice_a_site_checks_that_part(tampered: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    desk = tampered.desks[2]
    with monkeypatch.context() as patch:
        patch.setattr("participant.steps.spot_checks.examine", killed)
        with pytest.raises(KeyboardInterrupt):
            tend_spot_checks(desk, tampered.last, lambda parts: 4)
    assert desk.site.record.due_checks(desk.study.id)[0].part == 4
    lying = lied_to(desk, spot_check=killed)
    with pytest.raises(KeyboardInterrupt):
        tend_spot_checks(lying, tampered.last, lambda parts: 1)
    (due,) = desk.site.record.due_checks(desk.study.id)
    assert due.signed is not None
    assert (due.signed.message.part, due.signed.message.result) == (4, "match")
    with monkeypatch.context() as patch:
        patch.setattr("participant.steps.spot_checks.examine", killed)
        tend_spot_checks(desk, tampered.last, lambda parts: 1)
    found = {UUID(check["site"]): (check["part"], check["result"]) for check in tampered.row["spot_checks"]}
    assert found[desk.site.me] == (4, "match")
    assert desk.site.record.due_checks(desk.study.id) == []


def test_a_site_that_was_away_checks_an_older_round(small: Played) -> None:
    desk = small.desks[0]
    later = small.last.model_copy(update={"round": 2, "state": "failed"})
    tend_spot_checks(desk, later)
    assert [check["result"] for check in small.row["spot_checks"]] == ["match"]


def test_nothing_is_checked_before_the_attempt_has_ended(small: Played) -> None:
    desk = small.desks[0]
    for last in (None, small.last.model_copy(update={"round": 0})):
        tend_spot_checks(desk, last, killed)
    assert len(desk.site.record.due_checks(desk.study.id)) == 1


def test_withheld_parts_are_noted(small: Played, caplog: pytest.LogCaptureFixture) -> None:
    small.blobs.delete_prefix(parts_prefix(small.round_id))
    desk = small.desks[0]
    tend_spot_checks(desk, small.last)
    (event,) = small.hospitals[0].events("spot-check")
    assert (event["result"], "deleted already" in event["words"]) == ("not checked", True)
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "its model could not be checked: part 0" in warning
    assert small.row["spot_checks"] == []
    assert desk.site.record.due_checks(desk.study.id) == []
    assert desk.site.record.head(desk.study.id) is None


def test_a_round_that_is_not_listed_is_noted(small: Played) -> None:
    desk = lied_to(small.desks[0], rounds=lambda study: [])
    tend_spot_checks(desk, small.last.model_copy(update={"round": 2}))
    assert "does not list the round" in small.hospitals[0].events("spot-check")[0]["words"]


def test_a_report_that_is_not_taken_is_noted(small: Played) -> None:
    desk = small.desks[0]
    other = {"site": desk.site.me, "ballot": small.desks[1].site.record.ballot(small.plan), "model": small.row["model"]}
    earlier = SpotCheck.model_validate(other | {"part": 0, "result": "mismatch", "words": "another"})
    desk.site.client.spot_check(small.plan, desk.site.identity.sign(earlier))
    tend_spot_checks(desk, small.last)
    (event,) = small.hospitals[0].events("not-taken")
    assert event["code"] == "answer-differs"
    assert desk.site.record.head(desk.study.id) == Head(1, small.row["model"])


def test_an_unreadable_answer_counts_as_withheld(small: Played) -> None:
    liar = lied_to(small.desks[0], counts=lambda plan: read(TypeAdapter(PooledCounts), b"<html>a proxy</html>"))
    with pytest.raises(Uncheckable, match="not as documented"):
        examine(liar, small.plan, small.row["model"], 0)


def test_a_doubt_outlasts_what_is_learnt_later(small: Played) -> None:
    record, plan = small.desks[0].site.record, small.plan
    record.end_check(plan, Head(1, "ab" * 32, "part 3: not the mean"))
    record.end_check(plan, Head(2, "cd" * 32))
    record.end_check(plan, None)
    assert record.head(plan.study) == Head(1, "ab" * 32, "part 3: not the mean")
