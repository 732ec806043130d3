"""What a site or the coordinator verifies about what others signed: one short function for each, that raises in words.

Nothing here needs a secret key, and nothing is remembered but which ballots' signatures were verified last: "one
plan, one ballot an attempt" is the caller's record.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from uuid import UUID

from crypto.canonical import sha256
from crypto.epoch import Approval, EpochRecord, WrapAddition
from crypto.errors import InvalidSignature, Malformed, WrongDigest
from crypto.identity import PublicIdentity, verify
from crypto.manifest import Answer, Ballot, BodyOpening, Manifest, Opening, ShareOpening, Vote
from crypto.outcome import Outcome, SealedAnswer
from crypto.plan import Carried, Plan, Roster, SchemeName, draw
from crypto.wire import Signed

_passed: Final[deque[tuple[str, ...]]] = deque(maxlen=8)  # digests of ballots whose manifests were verified

R = TypeVar("R", bound=Vote | Answer | SealedAnswer | Outcome)  # replies to a ballot


@dataclass(frozen=True, slots=True)
class CheckedBallot:
    """A ballot that passed every check that needs no memory.

    Attributes:
        digest: the ballot's, to vote on.
        contributors: site ids, sorted as in the ballot.
        fresh: how many of them contributed to this very plan; the others are carried.
        own_missing: this site sent a manifest that the ballot leaves out. It may still vote, and records it.
    """

    digest: str
    contributors: tuple[UUID, ...]
    fresh: int
    own_missing: bool


def check_roster(plan: Plan, roster: Roster) -> Roster:
    """The roster, if it is the plan's, its members' keys are keys, every expected site is a member and no carried one.

    Raises:
        WrongDigest: another roster than the plan names.
        Malformed: it does not fit the plan.
    """
    _check_named(plan, roster)
    if roster.study != plan.study:
        raise Malformed("the plan's roster belongs to another study")
    for member in roster.members:
        PublicIdentity.of_member(member)
    for site in plan.expected:
        if roster.member(site) is None:
            raise Malformed(f"the plan expects a contribution of site {site}, which is not on its roster")
    if plan.expected != draw(roster, plan.round, plan.attempt, len(plan.expected)):
        raise Malformed("the plan asks other members for contributions than those that its draw gives")
    if plan.threshold is not None and plan.threshold > len(roster.members):
        raise Malformed(f"the plan wants shares of {plan.threshold} sites; its roster has {len(roster.members)}")
    for carried in plan.carried:
        PublicIdentity.of_member(carried.member)
        if roster.member(carried.member.site) is not None:
            raise Malformed(f"the plan carries a contribution of {carried.member.name}, which is on its roster")
    return roster


def check_epoch(signed: Signed[EpochRecord], roster: Roster) -> EpochRecord:
    """The epoch record, if a member of its study dealt and signed it.

    Raises:
        InvalidSignature: another did.
        Malformed: it belongs to another study.
    """
    record = signed.message
    if record.study != roster.study:
        raise Malformed("this epoch record belongs to another study")
    return verify(_author(record.dealer, roster), signed)


def check_addition(signed: Signed[WrapAddition], record: EpochRecord, roster: Roster) -> WrapAddition:
    """The addition to `record`, if a member signed it.

    Whether that member holds the key shows when the wrap is opened: see `SecretContext.check_pair`.

    Raises:
        InvalidSignature: no member did.
        WrongDigest: it belongs to another epoch.
    """
    addition = verify(_author(signed.message.holder, roster), signed)
    if addition.epoch != record.digest:
        raise WrongDigest("this wrap was added to another epoch than the current one")
    return addition


def check_approval(signed: Signed[Approval], roster: Roster) -> Approval:
    """The approval, if the member it speaks for signed it, for this study.

    Raises:
        InvalidSignature: another did.
        Malformed: it is for another study.
    """
    if signed.message.study != roster.study:
        raise Malformed("this approval belongs to another study")
    return verify(_author(signed.message.site, roster), signed)


def check_manifest(signed: Signed[Manifest], plan: Plan, roster: Roster) -> Manifest:
    """The manifest, if an expected member signed it for this plan, or the plan carries it and its leaver signed it.

    Raises:
        WrongDigest: it is for another plan, and this one does not carry it.
        Malformed: its site is not expected, or it lists more or fewer key parts than the scheme has.
        InvalidSignature: another site signed it, or it was changed.
    """
    manifest = signed.message
    carried = carried_as(manifest, plan)
    author = _expected(manifest, plan, roster) if carried is None else PublicIdentity.of_member(carried.member)
    wanted = key_part_count(plan, roster)
    if len(manifest.key_parts) != wanted:
        raise Malformed(
            f"the manifest of site {manifest.site} lists {len(manifest.key_parts)} key parts, "
            f"a contribution under {plan.scheme} has {wanted}"
        )
    return verify(author, signed)


def carried_as(manifest: Manifest, plan: Plan) -> Carried | None:
    """The plan's entry for this very manifest; None for a contribution to the plan itself.

    Raises:
        Malformed: the plan carries it as another site's.
    """
    carried = next((each for each in plan.carried if each.manifest == manifest.digest), None)
    if carried is not None and carried.member.site != manifest.site:
        raise Malformed(f"the plan carries the manifest of site {manifest.site} as that of {carried.member.name}")
    return carried


def _expected(manifest: Manifest, plan: Plan, roster: Roster) -> PublicIdentity:
    if manifest.plan != plan.digest:
        raise WrongDigest(f"the manifest of site {manifest.site} is for another plan than this attempt's")
    if manifest.site not in plan.expected:
        raise Malformed(f"site {manifest.site} is not among those whose contribution the plan expects")
    return _author(manifest.site, roster)


def key_part_count(plan: Plan, roster: Roster) -> int:
    """How many key parts a contribution to this plan has."""
    return {"lwe-ckks": 1, "lwe-shamir": len(roster.members), "ckks": 0}[plan.scheme]


def check_ballot(
    ballot: Ballot, plan: Plan, roster: Roster, me: UUID, own_manifest: Manifest | None, own_minimum: int
) -> CheckedBallot:
    """What the ballot says, if it passes the checks of section 6, step 5 of the protocol.

    Args:
        own_manifest: the one that this site signed for this plan, or None.
        own_minimum: fewest contributors that this site's own policy accepts; the plan may demand more.

    Raises:
        WrongDigest: the ballot, or a manifest in it, is for another plan; or the roster is not the plan's.
        InvalidSignature: a manifest is not by the member it names.
        Malformed: too few contributors to this plan or too many in all, a site that is not expected, a carried
            contribution left out, or another manifest under this site's name than the one it signed.
    """
    _check_named(plan, roster)
    if ballot.plan != plan.digest:
        raise WrongDigest("this ballot is for another plan than the one this site accepted last")
    manifests = _checked_manifests(ballot, plan, roster)
    fresh = sum(carried_as(manifest, plan) is None for manifest in manifests)
    _check_numbers(plan, fresh, len(manifests) - fresh, own_minimum)
    listed = next((manifest for manifest in manifests if manifest.site == me), None)
    if listed is not None and listed != own_manifest:
        raise Malformed("the ballot lists a manifest under this site's name that is not the one it signed and kept")
    return CheckedBallot(
        ballot.digest,
        tuple(manifest.site for manifest in manifests),
        fresh,
        own_missing=listed is None and own_manifest is not None,
    )


def _checked_manifests(ballot: Ballot, plan: Plan, roster: Roster) -> list[Manifest]:
    """The manifests, each of which passes `check_manifest`. What passed once need not be verified with every look.

    Raises: as `check_manifest`.
    """
    signatures = "".join(signed.signature for signed in ballot.manifests).encode()
    passed = (plan.digest, roster.digest, ballot.digest, sha256(signatures))
    if passed not in _passed:
        for signed in ballot.manifests:
            check_manifest(signed, plan, roster)
        _passed.append(passed)
    return [signed.message for signed in ballot.manifests]


def _check_numbers(plan: Plan, fresh: int, carried: int, own_minimum: int) -> None:
    """What is carried hides nobody's update of this round, so the minimum is one of the fresh contributions."""
    demanded = max(plan.minimum_contributors, own_minimum)
    if fresh < demanded or fresh + carried > plan.k_max:
        also = f", and {carried} carried" if carried else ""
        raise Malformed(
            f"the ballot has {fresh} contributors{also}; at least {demanded} are demanded "
            f"(plan {plan.minimum_contributors}, this site {own_minimum}) and at most {plan.k_max} admitted"
        )
    if carried != len(plan.carried):
        raise Malformed(f"the ballot lists {carried} of the {len(plan.carried)} contributions that its plan carries")


def check_reply(signed: Signed[R], ballot_digest: str, roster: Roster) -> R:
    """The vote, answer or outcome, if the member it names signed it, for this ballot.

    Raises:
        WrongDigest: it is for another ballot.
        InvalidSignature: no member signed it.
    """
    reply = verify(_author(signed.message.site, roster), signed)
    if reply.ballot != ballot_digest:
        raise WrongDigest(f"the {reply.kind_name} of site {reply.site} is for another ballot")
    return reply


def check_votes(votes: Sequence[Signed[Vote]], ballot_digest: str, roster: Roster) -> int:
    """How many members voted for this ballot. Opening takes `votes_needed` of them.

    Raises:
        WrongDigest: a vote is for another ballot.
        InvalidSignature: a vote is not by the member it names.
        Malformed: a member is counted twice.
    """
    voters = {check_reply(signed, ballot_digest, roster).site for signed in votes}
    if len(voters) != len(votes):
        raise Malformed("a site's vote was handed in twice")
    return len(voters)


def votes_needed(roster: Roster) -> int:
    """More than half of the members, so that two different ballots of one attempt cannot both be voted through."""
    return len(roster.members) // 2 + 1


def takes_votes(scheme: SchemeName) -> bool:
    """Whether a ballot is voted on before anyone opens. Under lwe-shamir every answer is one site's vote already."""
    return scheme != "lwe-shamir"


def answer_kind(plan: Plan) -> type[Answer]:
    """What answers a ballot of this plan."""
    kinds: dict[str, type[Answer]] = {"lwe-ckks": Opening, "lwe-shamir": ShareOpening, "ckks": BodyOpening}
    return kinds[plan.scheme]


def _check_named(plan: Plan, roster: Roster) -> None:
    if roster.digest != plan.roster:
        raise WrongDigest("this roster is not the one that the plan names by its digest")


def _author(site: UUID, roster: Roster) -> PublicIdentity:
    member = roster.member(site)
    if member is None:
        raise InvalidSignature(f"site {site} is not on the roster, so nothing vouches for its signature")
    return PublicIdentity.of_member(member)
