"""A whole round of `ckks` in memory.

A module that uses its fixtures names them: other modules of this folder have fixtures of the same names.
"""

from __future__ import annotations

import numpy as np
import pytest

from crypto.canonical import sha256
from crypto.manifest import Ballot
from crypto.parameters import CKKS_OPENING_NOISE
from crypto.schemes import scheme
from crypto.schemes.opening import open_bodies

CKKS = scheme("ckks")
COUNTS = [5, 0, 1, 2**24 - 1]
NOISE = 7 * CKKS_OPENING_NOISE  # a few thousand Gaussian samples stay within seven deviations


@pytest.fixture
def study(federation):
    return federation.with_plan(scheme="ckks")


@pytest.fixture
def updates(federation, random):
    wide = np.repeat([0.9, 50.0], [2400, 7])
    return (random.uniform(-1, 1, (4, federation.layout.size)) * wide).astype(np.float32)


class Round:
    """A whole round in memory: who sealed what, and the coordinator's sums."""

    def __init__(self, study, updates, samples, counts=COUNTS):
        self.study, self.plan, self.layout = study, study.plan, study.layout
        self.sealed = [self.seal(update, n, counts) for update, n in zip(updates, samples, strict=False)]
        self.bodies = [list(sealed) for sealed in self.sealed]
        self.totals = [self.add(parts) for parts in zip(*self.bodies, strict=True)]
        signed = tuple(
            study.identities[site].sign(study.manifest(site, parts=tuple(map(sha256, body)), key_parts=()))
            for site, body in zip(study.sites, self.bodies, strict=False)
        )
        self.ballot = Ballot(plan=self.plan.digest, manifests=signed)

    def seal(self, update, samples, counts=COUNTS):
        return CKKS.seal(self.plan, self.layout, update, samples, counts, self.study.public)

    def add(self, parts, number=0):
        adder = CKKS.adder(self.plan, self.layout, number, self.study.public)
        for part in parts:
            CKKS.check_part(self.plan, self.layout, number, part, self.study.public)
            adder.add(part)
        return adder.total()

    def open(self, **changes):
        given = {"plan": self.plan, "layout": self.layout, "ballot": self.ballot, "totals": self.totals}
        return list(open_bodies(**(given | {"secret": self.study.dealt.secret} | changes)))

    def reveal(self, opened=None):
        opened = self.open() if opened is None else opened
        return CKKS.reveal(self.plan, self.layout, opened, (), len(self.ballot.manifests))


@pytest.fixture
def played(study, updates):
    return Round(study, updates[:3], [40, 250, 80])


def frames_of(part: bytes) -> list[bytes]:
    frames, place = [], 0
    while place < len(part):
        length = int.from_bytes(part[place : place + 4], "little")
        frames.append(part[place + 4 : place + 4 + length])
        place += 4 + length
    return frames
