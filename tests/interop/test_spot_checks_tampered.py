"""A model of which some parts were altered before it was published: what a check of each part finds."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import numpy as np
import pytest
import tiny_federation as tiny
from numpy.typing import NDArray
from spot_checked import Played, altering, killed, lied_to, started
from tiny_federation import Hospital

from coordinator import aggregation
from coordinator.store.blobs import part_key
from crypto.layout import Layout, Tensor
from crypto.manifest import Ballot, ShareOpening
from crypto.parameters import PART_VALUES
from crypto.schemes.spot_check import choices
from participant.steps.spot_checks import Uncheckable, examine, tend_spot_checks

PARTS, ALTERED = 5, frozenset({1, 3})  # of the model in `tampered`
BIG = Layout(
    (
        Tensor("early", (2, PART_VALUES - 100), "parameter"),
        Tensor("middle", (PART_VALUES + 200,), "buffer"),
        Tensor("late", (PART_VALUES + 50_000,), "parameter"),
    ),
    tiny.LAYOUT.counts,
)


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


def test_a_check_takes_one_part_that_nobody_else_chose(tampered: Played) -> None:
    """The default is the operating system's: over many draws each part comes up, and no two sites draw alike."""
    assert tend_spot_checks.__defaults__ is not None
    (choose,) = tend_spot_checks.__defaults__
    draws = [choose(PARTS) for _ in range(1000)]
    assert set(draws) == set(range(PARTS))
    assert draws != [choose(PARTS) for _ in range(1000)]


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
    assert {lucky.site.me: (0, "match"), unlucky.site.me: (3, "mismatch")}.items() <= shown.items()
    for desk in (lucky, unlucky):
        assert desk.site.record.due_checks(desk.study.id) == []
    assert tampered.hospitals[0].events("spot-check")[-1]["part"] == 3


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
