"""A small federation whose members have real keys, for every test that checks what they sign.

Makes the modules beside it importable, too.
"""

from __future__ import annotations

import sys
import uuid
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from crypto.ckks_public import PublicContext
from crypto.epochs import Dealt, deal
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest
from crypto.plan import Carried, Member, Plan, Roster

sys.path.insert(0, str(Path(__file__).parent))

STUDY = uuid.UUID(int=77)


def member(identity: Identity, site: uuid.UUID, index: int) -> Member:
    public = identity.public
    return Member(
        site=site,
        name=f"Hospital {index}",
        index=index,
        signing_key=public.signing_key.hex(),
        hpke_key=public.hpke_key.hex(),
    )


@dataclass(frozen=True)
class Federation:
    identities: dict[uuid.UUID, Identity]
    roster: Roster
    layout: Layout
    plan: Plan
    dealt: Dealt
    public: PublicContext

    @property
    def sites(self) -> list[uuid.UUID]:
        return list(self.identities)

    def with_plan(self, **changes) -> Federation:
        return replace(self, plan=Plan.from_json(self.plan.to_json() | changes))

    def manifest(self, site: uuid.UUID, **changes) -> Manifest:
        fields = {"plan": self.plan.digest, "site": site, "parts": ("aa" * 32,), "key_parts": ("bb" * 32,)}
        return Manifest(**(fields | changes))

    def ballot(self, sites=None) -> Ballot:
        chosen = self.sites if sites is None else sites
        signed = tuple(self.identities[site].sign(self.manifest(site)) for site in chosen)
        return Ballot(plan=self.plan.digest, manifests=signed)


@pytest.fixture(scope="session")
def federation() -> Federation:
    sites = [uuid.UUID(int=number) for number in (1, 2, 3, 4)]
    identities = {site: Identity.generate() for site in sites}
    members = tuple(member(identities[site], site, index) for index, site in enumerate(sites, 1))
    roster = Roster(study=STUDY, members=members)
    layout = Layout(
        (Tensor("weight", (40, 60), "parameter"), Tensor("mean", (7,), "buffer")), (CountField("confusion", (2, 2)),)
    )
    dealt = deal(identities[sites[0]], sites[0], STUDY, 1, roster)
    plan = Plan(
        study=STUDY,
        round=3,
        attempt=1,
        kind="training",
        base_model="00" * 32,
        layout=layout.digest,
        recipe="11" * 32,
        roster=roster.digest,
        epoch=dealt.record.message.digest,
        scheme="lwe-ckks",
        release="open",
        weighting="samples",
        expected=tuple(sites),
        k_max=4,
        n_max=100,
        bounds=(1.0, 64.0),
        threshold=None,
        minimum_contributors=2,
        collect_until=1_900_000_000,
        vote_seconds=60,
        open_seconds=60,
    )
    return Federation(identities, roster, layout, plan, dealt, PublicContext.load(dealt.public_context))


@dataclass(frozen=True)
class Carrying:
    """The federation's plan, and in it a contribution of a site that left; three members contributed beside it."""

    leaver: Identity
    plan: Plan
    manifest: Manifest
    ballot: Ballot


@pytest.fixture(scope="session")
def carrying(federation: Federation) -> Carrying:
    leaver, site = Identity.generate(), uuid.UUID(int=9)
    manifest = Manifest(plan="dd" * 32, site=site, parts=("aa" * 32,), key_parts=("cc" * 32,))
    carried = Carried(manifest=manifest.digest, member=member(leaver, site, 9), epoch="ee" * 32)
    changed = federation.with_plan(carried=[carried.to_json()], origin="00" * 32, k_max=8)
    fresh = changed.ballot(changed.sites[:3]).manifests
    ballot = Ballot(plan=changed.plan.digest, manifests=(*fresh, leaver.sign(manifest)))
    return Carrying(leaver, changed.plan, manifest, ballot)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(5)
