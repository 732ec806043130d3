"""The stage itself: an honest round goes through on it, and what the attacks' tests look for would be found."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import uuid4

from staged import ANSWERS, CONTRIBUTIONS

from crypto.identity import Identity

if TYPE_CHECKING:
    from conftest import Stage


def test_control_an_honest_round_completes(stage: Stage, scheme: str) -> None:
    federation = stage(scheme, "collected")
    start = federation.mark()
    federation.until_complete()
    assert len(federation.hostile.sent(CONTRIBUTIONS.format(1, 1))) == 4 * (3 if scheme == "lwe-ckks" else 6)
    answers = [each.path.rsplit("/", 1)[1] for each in federation.hostile.sent(ANSWERS, since=start)]
    assert sorted(answers) == (["opening"] + ["vote"] * 4 if scheme == "lwe-ckks" else ["opening"] * 4)
    assert [seat.ledgered("refusal") for seat in federation.seats] == [[]] * 4


def test_control_what_is_sealed_to_a_stranger_is_found(stage: Stage) -> None:
    federation, thief, name = stage("lwe-shamir", "collected"), Identity.generate(), uuid4()
    assert federation.opened_by(thief, name) == []
    for seat in federation.seats:
        assert len(federation.opened_by(seat.identity)) == 4, "a share of each contributor"
