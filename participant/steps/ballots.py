"""Check a ballot, vote on it, and answer it when asked (protocol section 6, steps 5 to 7)."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Final

from crypto.checks import answer_kind, check_ballot, check_votes, takes_votes, votes_needed
from crypto.errors import CryptoError, SharesRefused
from crypto.manifest import Answer, Ballot, BodyOpening, Opening, ShareOpening, Vote
from crypto.plan import Plan, Roster
from crypto.schemes import scheme
from crypto.schemes.opening import open_ballot, open_bodies
from crypto.schemes.shares import open_shares
from crypto.wire import Signed
from participant.documents import Task
from participant.policy import Refused
from participant.session import Problem
from participant.steps.desk import Desk, code_of


def tend_ballot(desk: Desk, task: Task, plan: Plan, roster: Roster) -> Ballot | None:
    """Vote if this site has not and votes are taken; answer if it is asked to.

    Returns:
        The ballot, where its members open the sum themselves and this site's outcome is not in yet.
    """
    by_members = plan.release == "members"
    asked = desk.site.me in task.openers and not (task.derived if by_members else task.opened)
    vote = takes_votes(plan.scheme) and not task.voted
    if task.ballot is None or not (vote or asked):
        return None
    try:
        ballot = _checked(desk, plan, roster)
    except (Refused, CryptoError) as error:
        desk.refuse(error, task.ballot, "ballot", plan)
        return None
    if vote:
        _vote(desk, plan, ballot)
    if asked and not by_members:
        _open(desk, plan, roster, ballot)
    return ballot if asked and by_members else None


def _vote(desk: Desk, plan: Plan, ballot: Ballot) -> None:
    vote = desk.site.record.keep_vote(desk.site.identity.sign(Vote(ballot=ballot.digest, site=desk.site.me)))
    desk.site.client.vote(plan, vote)
    desk.say(f"round {plan.round}: voted for the ballot of {len(ballot.manifests)} contributors")


def _checked(desk: Desk, plan: Plan, roster: Roster) -> Ballot:
    """The attempt's ballot, after every check and with its place in the record.

    Raises:
        Refused, CryptoError: a check failed.
    """
    site = desk.site
    ballot, own = site.client.ballot(plan), site.record.manifest(plan)
    floor = site.policy.minimum_contributors
    checked = check_ballot(ballot, plan, roster, site.me, own.message if own else None, floor)
    first, sets = site.record.see_ballot(plan, ballot, site.policy.reattempts)
    if first:
        listed = len(checked.contributors)
        fields = {"carried": listed - checked.fresh or None, "own_missing": True if checked.own_missing else None}
        desk.note("ballot", plan, ballot=ballot.digest, contributors=listed, **fields)
    if first and sets > 1:
        desk.note("another-set", plan, ballot=ballot.digest, sets=sets, base_model=plan.base_model)
        desk.say(f"round {plan.round}: set {sets} of contributors on one base model", logging.WARNING)
    return ballot


def _open(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> None:
    """Answer with what opens the sum, or this site's part in it: computed once, the same ever after."""
    site = desk.site
    try:
        signed = own_answer(desk, plan, roster, ballot)
    except SharesRefused as error:
        names = ", ".join(member.name for member in roster.members if member.site in error.senders)
        desk.refuse(Refused(code_of(error), f"{names}: {error}"), ballot.digest, "opening", plan, error.senders)
        return
    except CryptoError as error:
        desk.refuse(error, ballot.digest, "opening", plan)
        return
    if signed is None:  # should more votes come, it answers when it is asked again
        words = f"asked to open a ballot without the votes of {votes_needed(roster)} of {len(roster.members)} members"
        desk.refuse(Refused("votes-missing", words), ballot.digest, "opening", plan)
        return
    try:
        if isinstance(signed.message, BodyOpening):
            _upload_opened(desk, plan, signed.message)
        site.client.open(plan, signed)
    except Refused as refused:
        desk.refuse(refused, ballot.digest, "opening", plan)
        return
    except Problem as problem:
        if problem.status != HTTPStatus.CONFLICT:
            raise
        desk.say(f"round {plan.round}: the opening was not taken: {problem.detail}")
        return
    desk.say(f"round {plan.round}: answered the ballot of {len(ballot.manifests)} contributors")


def _upload_opened(desk: Desk, plan: Plan, opening: BodyOpening) -> None:
    for number, digest in enumerate(opening.parts):
        desk.site.client.put_part(plan, "opened", number, desk.site.opened.octets(plan, number, digest))


def own_answer(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> Signed[Answer] | None:
    """This site's answer, signed and kept, the same ever after; None while too few members voted for the ballot.

    Raises:
        CryptoError: there is none to give; `SharesRefused` names whose shares are to blame.
    """
    site, start = desk.site, time.perf_counter()
    kept = site.record.opening(ballot.digest, answer_kind(plan))
    if kept is not None:
        return kept
    if takes_votes(plan.scheme) and check_votes(site.client.votes(plan), ballot.digest, roster) < votes_needed(roster):
        return None
    opening = _ANSWERS[plan.scheme](desk, plan, roster, ballot)
    signed = site.record.keep_opening(site.identity.sign(opening))
    site.record.note_figures(plan, open_seconds=time.perf_counter() - start)
    return signed


def _secret_sum(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> Opening:
    """lwe-ckks: the contributors' key parts, added up here and decrypted."""
    site = desk.site
    key_parts = {
        manifest.site: [
            site.client.key_part(plan, manifest.site, n, digest) for n, digest in enumerate(manifest.key_parts)
        ]
        for manifest in (entry.message for entry in ballot.manifests)
    }
    epochs = {carried.epoch for carried in plan.carried if site.keyring.holds(plan.study, carried.epoch)}
    former = {epoch: site.keyring.secret(plan.study, epoch) for epoch in epochs}
    return open_ballot(plan, ballot, key_parts, site.keyring.secret(plan.study, plan.epoch or ""), site.me, former)


def _share_sum(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> ShareOpening:
    """lwe-shamir: the shares that the contributors sealed to this site, added up."""
    site = desk.site
    place = next(place for place, member in enumerate(roster.members) if member.site == site.me)
    shares = {
        manifest.site: site.client.key_part(plan, manifest.site, place, manifest.key_parts[place])
        for manifest in (entry.message for entry in ballot.manifests)
    }
    return open_shares(plan, roster, ballot, shares, site.identity, site.me)


def _opened_body(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> BodyOpening:
    """ckks: the sum that the coordinator serves, decrypted part by part, with noise; kept before any of it leaves."""
    site = desk.site
    number = len(scheme(plan.scheme).part_sizes(plan, desk.layout))
    sums = (site.client.summed_part(plan, part) for part in range(number))
    parts = open_bodies(plan, desk.layout, ballot, sums, site.keyring.secret(plan.study, plan.epoch or ""))
    return BodyOpening(ballot=ballot.digest, site=site.me, parts=site.opened.write(plan, parts))


_ANSWERS: Final[Mapping[str, Callable[[Desk, Plan, Roster, Ballot], Answer]]] = MappingProxyType(
    {"lwe-ckks": _secret_sum, "lwe-shamir": _share_sum, "ckks": _opened_body}
)
