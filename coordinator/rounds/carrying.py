"""Which contributions of sites that left a plan still counts (docs/decisions/0009)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from uuid import UUID

from crypto.exposure import may_carry
from crypto.plan import Carried, Member, Roster


@dataclass(frozen=True, slots=True)
class Leaver:
    """A site that left, with its last counted contribution.

    Attributes:
        carried: as a plan lists it.
        fingerprint: of the keys that the contribution was signed with.
        exposure: what the sums that it was in so far add up to.
        holders: sites that were given the key which its secret is sealed under.
        barred: why no plan may list it, whatever else is in it; None if one may.
    """

    carried: Carried
    fingerprint: str
    exposure: float
    holders: frozenset[UUID]
    barred: str | None = None

    @property
    def member(self) -> Member:
        return self.carried.member


@dataclass(frozen=True, slots=True)
class Selection:
    """What a plan carries, sorted by site, and why it does not carry the others."""

    carried: tuple[Carried, ...]
    dropped: Mapping[UUID, str]


def lasting(leavers: Iterable[Leaver], minimum: int) -> list[Leaver]:
    """Those that may be summed once more, beside so few fresh contributions as a plan admits."""
    return [leaver for leaver in leavers if leaver.barred is None and may_carry(leaver.exposure, minimum)]


def select(leavers: Iterable[Leaver], roster: Roster, room: int, minimum: int, ever: int) -> Selection:
    """As many as there is room for and some member of the roster can open, all of them; none for a roster of half of
    those that ever were members, carried ones apart, or fewer, as sites refuse that (docs/decisions/0009).

    Args:
        room: contributions that the plan admits beside the fresh ones.
        minimum: fewest fresh ones.
        ever: sites that were members at any time.
    """
    openers = frozenset(member.site for member in roster.members)
    carried: list[Carried] = []
    dropped: dict[UUID, str] = {}
    for leaver in sorted(leavers, key=lambda each: each.member.site.bytes):
        against = _against(leaver, openers, room - len(carried), minimum)
        if against is not None:
            dropped[leaver.member.site] = against
            continue
        openers &= leaver.holders
        carried.append(leaver.carried)
    if carried and 2 * len(roster.members) <= ever - len(carried):
        dropped |= {each.member.site: f"{len(roster.members)} members are half or fewer of {ever}" for each in carried}
        carried = []
    return Selection(tuple(carried), dropped)


def _against(leaver: Leaver, openers: frozenset[UUID], room: int, minimum: int) -> str | None:
    if leaver.barred is not None:
        return leaver.barred
    if not may_carry(leaver.exposure, minimum):
        return (
            f"the sums that it is in have an exposure of {leaver.exposure:.3g}; with one more, beside {minimum} fresh "
            "contributions, they could tell too much about it"
        )
    if not openers & leaver.holders:
        return "no member that is here holds the key that it is sealed under, and all others that are carried"
    return None if room > 0 else "the study's k_max has no room for it beside those that are asked to contribute"
