"""Sums under `ckks` that do not open, and opened ones that give no model."""

from __future__ import annotations

import ckks_round
import numpy as np
import pytest
from ckks_round import CKKS, COUNTS, Round, frames_of

from crypto.ckks_body import write_frames
from crypto.ckks_public import PublicContext
from crypto.ckks_secret import SecretContext
from crypto.errors import CanaryMismatch, Malformed, NegativeCount, OpeningRefused, OutOfRange, WrongDigest
from crypto.parameters import CKKS_SLOTS, N

study, updates, played = ckks_round.study, ckks_round.updates, ckks_round.played

# --- what does not open


def test_another_key_opens_nothing(played):
    with pytest.raises(OpeningRefused, match="another key"):
        played.open(secret=SecretContext.generate())


def test_one_contribution_under_another_key_spoils_the_sum(played, updates):
    foreign = PublicContext.load(SecretContext.generate().public_bytes())
    (part,) = CKKS.seal(played.plan, played.layout, updates[0], 40, COUNTS, foreign)
    total = played.add([played.bodies[0][0], part])  # no one can tell before the opening
    with pytest.raises(OpeningRefused, match="another key"):
        played.open(totals=[total])


def test_another_plans_ballot_is_not_opened(played):
    with pytest.raises(WrongDigest, match="another plan"):
        played.open(plan=played.study.with_plan(attempt=2).plan)


def test_missing_and_surplus_sums_are_noticed(played):
    with pytest.raises(Malformed, match="0 of 1"):
        played.open(totals=[])
    with pytest.raises(Malformed, match="more than 1"):
        played.open(totals=played.totals * 2)


def test_more_contributions_than_the_ballot_lists_may_show(played, study, updates):
    """A contribution that is in the sum and not in the ballot shows where slots exceed what those listed can reach."""
    two = Round(study, [np.full_like(update, 1.0) for update in updates[:2]], [100, 100])
    two.ballot = two.ballot.model_copy(update={"manifests": two.ballot.manifests[:1]})
    with pytest.raises(OpeningRefused, match="1 contributions never add up"):
        two.open()


# --- what is opened gives no model


def changed(opened: bytes, place: int, value: float) -> list[bytes]:
    slots = np.frombuffer(opened, "<f4").copy()
    slots[place] = value
    return [slots.tobytes()]


def test_canaries_outside_their_tolerance_give_no_mean(played):
    (opened,) = played.open()
    for place, value in ((2 * N, 2.0**-13), (2 * N + 63, -(2.0**-13))):
        with pytest.raises(CanaryMismatch):
            played.reveal(changed(opened, place, value))
    assert played.reveal(changed(opened, 2 * N + 5, 2.0**-15)).mean is not None


def test_a_canary_that_a_site_sealed_wrong_gives_no_mean(played):
    slots = np.zeros(CKKS_SLOTS)
    slots[17] = 0.01
    *values, _ = frames_of(played.bodies[1][0])
    forged = write_frames([*values, played.study.public.encrypt_slots(slots, 40)])
    total = played.add([played.bodies[0][0], forged, played.bodies[2][0]])
    with pytest.raises(CanaryMismatch, match="1 of 64"):
        played.reveal(played.open(totals=[total]))


def test_a_negative_digit_gives_no_mean(played):
    (opened,) = played.open()
    with pytest.raises(NegativeCount):
        played.reveal(changed(opened, 2 * N + 64, -1 / 256))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3.01, -3.01])
def test_values_out_of_reach_give_no_mean(played, value):
    (opened,) = played.open()
    with pytest.raises(OpeningRefused, match="never add up"):
        played.reveal(changed(opened, 7, value))


def test_opened_parts_of_another_size_or_number(played):
    (opened,) = played.open()
    for wrong, message in (([opened[:-4]], "does not fit"), ([], "0 of 1"), ([opened, opened], "part 1 of 1")):
        with pytest.raises(Malformed, match=message):
            played.reveal(wrong)


def test_weights_beyond_the_plan_are_refused(study, updates):
    played = Round(study.with_plan(n_max=1000), updates[:2], [900, 900])
    opened = played.open()
    played.plan = study.plan
    with pytest.raises(OpeningRefused, match="more than the plan admits"):
        played.reveal(opened)


@pytest.mark.parametrize("contributors", [0, 5])
def test_contributors_beyond_the_plan(played, contributors):
    with pytest.raises(OutOfRange, match="admits 1 to 4"):
        CKKS.reveal(played.plan, played.layout, played.open(), (), contributors)
