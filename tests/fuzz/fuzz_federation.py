"""A federation of three whose members have real keys, and one genuine message of each kind that is checked."""

from __future__ import annotations

import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Final
from uuid import UUID

from crypto.epochs import Dealt, deal
from crypto.identity import Identity
from crypto.layout import CountField, Layout, Tensor
from crypto.manifest import Ballot, Manifest
from crypto.plan import Member, Plan, Roster
from crypto.wire import Signed

STUDY: Final = UUID(int=77)
SITES: Final = tuple(UUID(int=number) for number in (1, 2, 3))
LAYOUT: Final = Layout(
    (Tensor("weight", (3, 5), "parameter"), Tensor("mean", (3,), "buffer"), Tensor("scale", (), "parameter")),
    (CountField("cases", ()), CountField("confusion", (2, 2))),
)


@dataclass(frozen=True)
class Federation:
    identities: dict[UUID, Identity]
    roster: Roster
    dealt: Dealt
    plan: Plan
    ballot: Ballot

    def sign(self, message: Any, site: UUID = SITES[0]) -> Signed[Any]:
        return self.identities[site].sign(message)

    def plan_for(self, scheme: str) -> Plan:
        shares = {"epoch": None, "threshold": 3} if scheme == "lwe-shamir" else {}
        return Plan.from_json(self.plan.to_json() | {"scheme": scheme} | shares)


@cache
def federation() -> Federation:
    identities = {site: Identity.generate() for site in SITES}
    roster = Roster(
        study=STUDY,
        members=tuple(
            Member(
                site=site,
                name=f"Hospital {index}",
                index=index,
                signing_key=identity.public.signing_key.hex(),
                hpke_key=identity.public.hpke_key.hex(),
            )
            for index, (site, identity) in enumerate(identities.items(), 1)
        ),
    )
    dealt = deal(identities[SITES[0]], SITES[0], STUDY, 1, roster)
    plan = Plan(
        study=STUDY,
        round=3,
        attempt=1,
        kind="training",
        base_model="00" * 32,
        layout=LAYOUT.digest,
        recipe="11" * 32,
        roster=roster.digest,
        epoch=dealt.record.message.digest,
        scheme="lwe-ckks",
        release="open",
        weighting="samples",
        expected=SITES,
        k_max=4,
        n_max=100,
        bounds=(1.0, 64.0, 1.0),
        threshold=None,
        minimum_contributors=2,
        collect_until=1_900_000_000,
        vote_seconds=60,
        open_seconds=60,
    )
    chance = random.Random(1)
    manifests = tuple(
        identities[site].sign(
            Manifest(plan=plan.digest, site=site, parts=(chance.randbytes(32).hex(),), key_parts=("bb" * 32,))
        )
        for site in SITES
    )
    return Federation(identities, roster, dealt, plan, Ballot(plan=plan.digest, manifests=manifests))
