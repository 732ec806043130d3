"""Bytes that are no part of a `ckks` contribution are refused wherever they arrive."""

from __future__ import annotations

import struct

import ckks_round
import numpy as np
import pytest
import tenseal as ts
from ckks_round import CKKS, COUNTS, frames_of

from crypto.ckks_body import write_frames
from crypto.errors import Malformed
from crypto.parameters import CKKS_SLOTS
from crypto.schemes import Recipients
from crypto.schemes.opening import open_bodies

study, updates, played = ckks_round.study, ckks_round.updates, ckks_round.played


def wrong_parts(played) -> dict[str, bytes]:
    honest, public = played.bodies[0][0], played.study.public
    first, *rest = frames_of(honest)
    ones = [1.0] * CKKS_SLOTS
    other_scale = ts.ckks_vector(public.context, ones, scale=2.0**39).serialize()
    short = ts.ckks_vector(public.context, ones[:-1], scale=2.0**40).serialize()
    foreign = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 40, 60], n_threads=1)
    return {
        "empty": b"",
        "a length alone": b"\x00\x00\x00\x00",
        "cut short": honest[:-1],
        "cut in a length": honest[: 4 + len(first) + 2],
        "longer": honest + b"\x00",
        "one ciphertext fewer": write_frames(rest),
        "one ciphertext more": write_frames([first, first, *rest]),
        "an endless length": b"\xff" * 4 + honest[4:],
        "a length beyond the end": struct.pack("<I", len(honest)) + honest[4:],
        "no ciphertext": write_frames([b"", *rest]),
        "random bytes": write_frames([np.random.default_rng(1).bytes(len(first)), *rest]),
        "random inside": write_frames([first[:9] + bytes(len(first) - 18) + first[-9:], *rest]),
        "another scale": write_frames([other_scale, *rest]),
        "another scale, said to be right": write_frames([other_scale[:-9] + first[-9:], *rest]),
        "the scale of key parts": write_frames([public.encrypt(np.ones(CKKS_SLOTS)), *rest]),
        "fewer slots": write_frames([short, *rest]),
        "slots overstated": write_frames([b"\x0a\x02\x81\x10" + first[4:], *rest]),
        "other parameters": write_frames([ts.ckks_vector(foreign, ones, scale=2.0**40).serialize(), *rest]),
    }


def refused(played, data: bytes) -> bool:
    try:
        CKKS.check_part(played.plan, played.layout, 0, data, played.study.public)
    except Malformed:
        return True
    return False


def test_what_is_no_part_is_refused_everywhere(played):
    secret = played.study.dealt.secret
    CKKS.check_part(played.plan, played.layout, 0, played.bodies[0][0], played.study.public)
    for name, data in wrong_parts(played).items():
        assert refused(played, data), f"{name} was taken for a part"
        adder = CKKS.adder(played.plan, played.layout, 0, played.study.public)
        adder.add(played.bodies[0][0])
        with pytest.raises(Malformed):
            adder.add(data)
        assert len(frames_of(adder.total())) == 3
        with pytest.raises(Malformed, match="summed part 0"):
            list(open_bodies(played.plan, played.layout, played.ballot, [data], secret))


def test_a_part_has_a_number(played):
    for call in (CKKS.check_part, lambda *given: CKKS.adder(*given[:3], given[4])):
        with pytest.raises(IndexError):
            call(played.plan, played.layout, 1, played.bodies[0][0], played.study.public)


def test_nothing_is_sealed_checked_or_added_without_the_public_context(played, updates):
    with pytest.raises(TypeError, match="public context"):
        CKKS.seal(
            played.plan, played.layout, updates[0], 40, COUNTS, Recipients(played.study.roster, played.study.sites[0])
        )
    with pytest.raises(TypeError, match="public context"):
        CKKS.check_part(played.plan, played.layout, 0, played.bodies[0][0])
    with pytest.raises(TypeError, match="public context"):
        CKKS.adder(played.plan, played.layout, 0)
    with pytest.raises(ValueError, match="no part was added"):
        CKKS.adder(played.plan, played.layout, 0, played.study.public).total()
