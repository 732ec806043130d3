"""A whole round of `lwe-shamir` in memory, of seven sites.

A module that uses its fixtures names them: other modules of this folder have fixtures of the same names.
"""

from __future__ import annotations

import uuid

import numpy as np
import pytest

from crypto.canonical import sha256
from crypto.identity import Identity
from crypto.manifest import Ballot, Manifest
from crypto.plan import Member, Plan, Roster
from crypto.schemes import Recipients, scheme
from crypto.schemes.shares import open_shares

COUNTS = [5, 0, 1, 2**24 - 1]
SCHEME = scheme("lwe-shamir")
SITES = [uuid.UUID(int=number) for number in range(1, 8)]
IDENTITIES = {site: Identity.generate() for site in SITES}
STRANGER = Identity.generate()


class Round:
    """A whole round in memory, of seven sites of which five open: one wrong answer of seven can be told.

    Indices are not places: the roster is sorted by site id, and members joined in another order.
    """

    def __init__(self, federation, updates, samples, contributors=SITES, indices=(7, 3, 5, 1, 2, 6, 4), **changes):
        self.roster = Roster(
            study=federation.roster.study,
            members=tuple(
                Member(
                    site=site,
                    name=f"Hospital {index}",
                    index=index,
                    signing_key=IDENTITIES[site].public.signing_key.hex(),
                    hpke_key=IDENTITIES[site].public.hpke_key.hex(),
                )
                for site, index in zip(SITES, indices, strict=True)
            ),
        )
        ours = {"scheme": "lwe-shamir", "epoch": None, "threshold": 5, "k_max": 7, "roster": self.roster.digest}
        ours["expected"] = [str(site) for site in SITES]
        self.plan = Plan.from_json(federation.plan.to_json() | ours | changes)
        self.layout = federation.layout
        parts = range(len(SCHEME.part_sizes(self.plan, self.layout)))
        adders = [SCHEME.adder(self.plan, self.layout, number) for number in parts]
        self.key_parts, self.sealed, self.manifests = {}, {}, {}
        for site, update, number in zip(contributors, updates, samples, strict=False):
            sealed = self.seal(site, update, number)
            parts = []
            for adder, part in zip(adders, sealed, strict=True):
                adder.add(part)
                parts.append(sha256(part))
            self.sealed[site], self.key_parts[site] = sealed, sealed.key_parts
            self.manifests[site] = tuple(parts), tuple(map(sha256, sealed.key_parts))
        self.totals = [adder.total() for adder in adders]

    def seal(self, site, update, samples):
        return SCHEME.seal(self.plan, self.layout, update, samples, COUNTS, Recipients(self.roster, site))

    @property
    def ballot(self) -> Ballot:
        signed = [
            IDENTITIES[site].sign(Manifest(plan=self.plan.digest, site=site, parts=parts, key_parts=key_parts))
            for site, (parts, key_parts) in self.manifests.items()
        ]
        return Ballot(plan=self.plan.digest, manifests=tuple(signed))

    def replace_share(self, sender, recipient, data):
        """What a member does that seals something else, and signs for it."""
        place = SITES.index(recipient)
        mine = list(self.key_parts[sender])
        mine[place] = data
        self.key_parts[sender] = tuple(mine)
        self.manifests[sender] = self.manifests[sender][0], tuple(map(sha256, mine))

    def served(self, site):
        return {sender: mine[SITES.index(site)] for sender, mine in self.key_parts.items()}

    def answer(self, site, **changes):
        given = {"plan": self.plan, "roster": self.roster, "ballot": self.ballot, "sealed": self.served(site)}
        given |= {"identity": IDENTITIES[site], "me": site}
        return open_shares(**(given | changes))

    def answers(self, sites=SITES):
        return [self.answer(site) for site in sites]

    def combine(self, answers):
        return SCHEME.combine(self.plan, self.roster, answers)

    def reveal(self, values):
        return SCHEME.reveal(self.plan, self.layout, self.totals, values, len(self.manifests))


@pytest.fixture
def updates(federation, random):
    return random.normal(0, 0.2, (7, federation.layout.size)).astype(np.float32).clip(-0.9, 0.9)


@pytest.fixture
def played(federation, updates):
    return Round(federation, updates[:3], [40, 250, 80])
