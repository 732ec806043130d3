"""Answers under `lwe-shamir` that are wrong, missing, or of another sum."""

from __future__ import annotations

import uuid

import numpy as np
import pytest
import shamir_round
from shamir_round import IDENTITIES, SCHEME, SITES, Round

from crypto import envelope, shamir
from crypto.errors import CanaryMismatch, Malformed, OpeningRefused, SharesDisagree, TooFewShares
from crypto.lwe import draw_secret
from crypto.manifest import ShareOpening
from crypto.schemes.shares import SHARE_LABEL
from crypto.shamir import P

updates, played = shamir_round.updates, shamir_round.played


def changed(answer: ShareOpening, columns=slice(None), by=1) -> ShareOpening:
    values = np.array(answer.share_sum)
    values[columns] = (values[columns] + by) % P
    return answer.model_copy(update={"share_sum": tuple(values.tolist())})


def test_a_wrong_answer_is_named_and_the_round_opens(played, updates):
    right = played.combine(played.answers()).values
    for columns in (slice(None), slice(5, 6)):
        answers = played.answers()
        answers[2] = changed(answers[2], columns)
        combined = played.combine(answers)
        assert combined.wrong == (SITES[2],)
        assert combined.values == right
    assert played.reveal(right).mean is not None


def test_a_share_dealt_wrongly_names_who_got_it(played):
    """What a contributor did wrong looks like the answerer's doing; the round opens all the same."""
    sender, victim = SITES[1], SITES[4]
    other = shamir.write_share(shamir.split(draw_secret(), 5, range(1, 8))[2])
    public = IDENTITIES[victim].public
    played.replace_share(sender, victim, envelope.seal(public, other, SHARE_LABEL, played.plan.digest, sender, victim))
    combined = played.combine(played.answers())
    assert combined.wrong == (victim,)
    played.reveal(combined.values)


def test_wrong_answers_are_named_in_the_rosters_order(played):
    """One of seven for each coefficient; hospitals 7 and 1 are the first and the fourth of the roster."""
    answers = played.answers()
    answers[3], answers[0] = changed(answers[3], slice(0, 1)), changed(answers[0], slice(1, 2))
    assert played.combine(answers).wrong == (SITES[0], SITES[3])


def test_two_wrong_answers_of_seven_are_too_many(played):
    answers = played.answers()
    answers[1], answers[4] = changed(answers[1], by=3), changed(answers[4], by=8)
    with pytest.raises(SharesDisagree, match="at most 1 wrong"):
        played.combine(answers)


def test_a_wrong_answer_among_five_shows_when_the_sum_is_opened(played):
    for columns in (slice(None), slice(5, 6)):
        answers = played.answers(SITES[:5])
        answers[0] = changed(answers[0], columns)
        combined = played.combine(answers)
        assert combined.wrong == ()
        with pytest.raises(OpeningRefused):
            played.reveal(combined.values)


def test_too_few_answers(played):
    for number in (0, 1, 4):
        with pytest.raises(TooFewShares, match="it takes 5"):
            played.combine(played.answers(SITES[:number]))


def test_answers_that_do_not_belong_together(played, federation, updates):
    answers = played.answers()
    other = Round(federation, updates[:3], [40, 250, 80], attempt=2).answer(SITES[0])
    with pytest.raises(Malformed, match="two ballots"):
        played.combine([other, *answers[1:]])
    with pytest.raises(Malformed, match=f"{SITES[0]} answered twice"):
        played.combine([*answers, answers[0]])
    stranger = answers[0].model_copy(update={"site": uuid.UUID(int=50)})
    with pytest.raises(Malformed, match="not on the plan's roster"):
        played.combine([*answers, stranger])


def test_another_sum_gives_no_mean(played):
    """Answers for fewer contributors than were added up."""
    del played.manifests[SITES[1]]
    combined = played.combine(played.answers())
    with pytest.raises(CanaryMismatch):
        SCHEME.reveal(played.plan, played.layout, played.totals, combined.values, 3)
