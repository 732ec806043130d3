"""Check a ballot, vote on it, and open it when asked (protocol section 6, steps 5 to 7)."""

from __future__ import annotations

import logging
import time
from http import HTTPStatus

from crypto.checks import check_ballot, check_votes, votes_needed
from crypto.errors import CryptoError
from crypto.manifest import Ballot, Opening, Vote
from crypto.plan import Plan, Roster
from crypto.schemes.opening import open_ballot
from crypto.wire import Signed
from participant.documents import Task
from participant.policy import Refused
from participant.session import Problem
from participant.steps.desk import Desk


def tend_ballot(desk: Desk, task: Task, plan: Plan, roster: Roster) -> None:
    """Vote if this site has not, open if it is asked to."""
    asked = desk.site.me in task.openers and not task.opened
    if task.ballot is None or (task.voted and not asked):
        return
    try:
        ballot = _checked(desk, plan, roster)
    except (Refused, CryptoError) as error:
        desk.refuse(error, task.ballot, "ballot", plan)
        return
    if not task.voted:
        vote = desk.site.record.keep_vote(desk.site.identity.sign(Vote(ballot=ballot.digest, site=desk.site.me)))
        desk.site.client.vote(plan, vote)
        desk.say(f"round {plan.round}: voted for the ballot of {len(ballot.manifests)} contributors")
    if asked:
        _open(desk, plan, roster, ballot)


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
        missing = True if checked.own_missing else None
        desk.note("ballot", plan, ballot=ballot.digest, contributors=len(checked.contributors), own_missing=missing)
    if first and sets > 1:
        desk.note("another-set", plan, ballot=ballot.digest, sets=sets, base_model=plan.base_model)
        desk.say(f"round {plan.round}: set {sets} of contributors on one base model", logging.WARNING)
    return ballot


def _open(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> None:
    """Answer with the sum of the contributors' secrets: computed once, the same ever after."""
    site = desk.site
    try:
        signed = site.record.opening(ballot.digest) or _answer(desk, plan, roster, ballot)
    except CryptoError as error:
        desk.refuse(error, ballot.digest, "opening", plan)
        return
    if signed is None:
        return  # too few votes yet; the task brings news when there are more
    try:
        site.client.open(plan, signed)
    except Problem as problem:
        if problem.status != HTTPStatus.CONFLICT:
            raise
        desk.say(f"round {plan.round}: the opening was not taken: {problem.detail}")
        return
    desk.say(f"round {plan.round}: opened the sum of {len(ballot.manifests)} contributors")


def _answer(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> Signed[Opening] | None:
    """Add the contributors' key parts up here and decrypt, once more than half of the roster voted for the ballot."""
    site, start = desk.site, time.perf_counter()
    if check_votes(site.client.votes(plan), ballot.digest, roster) < votes_needed(roster):
        return None
    key_parts = {
        manifest.site: [
            site.client.key_part(plan, manifest.site, n, digest) for n, digest in enumerate(manifest.key_parts)
        ]
        for manifest in (entry.message for entry in ballot.manifests)
    }
    opening = open_ballot(plan, ballot, key_parts, site.keyring.secret(plan.epoch or ""), site.me)
    signed = site.record.keep_opening(site.identity.sign(opening))
    site.record.note_figures(plan, open_seconds=time.perf_counter() - start)
    return signed
