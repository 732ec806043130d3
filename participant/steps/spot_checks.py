"""After a round: open one part of it again, chosen at random, and compare it with the published model.

The part is drawn from the operating system and kept before anything is asked for, so the coordinator learns it only
once its model is out, and gets no second draw out of a crash. See `crypto.schemes.spot_check`.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable
from typing import TypeAlias, TypeVar
from uuid import UUID

from crypto.checks import check_manifest, check_reply, check_roster
from crypto.errors import CryptoError, Malformed, SharesDisagree
from crypto.layout import Layout, named_counts
from crypto.manifest import Ballot, ShareOpening
from crypto.outcome import SpotCheck
from crypto.plan import Plan, Roster
from crypto.schemes import scheme
from crypto.schemes.spot_check import OpenedPart, choices, open_part, parts_needed
from participant.documents import Ended, PooledCounts
from participant.policy import Refused
from participant.record_results import DueCheck, Head
from participant.session import Problem
from participant.steps.desk import Desk

T = TypeVar("T")
Chooser: TypeAlias = Callable[[int], int]  # of n parts one, below n


class Differs(Exception):
    """What was published is not what the sites signed for."""


class Uncheckable(Exception):
    """Something that a check needs is not there, or not there any more."""


def tend_spot_checks(desk: Desk, last: Ended | None, choose: Chooser = secrets.randbelow) -> None:
    """Check every round that ended and was not checked yet; also those of before a crash, as long as parts are kept."""
    for due in desk.site.record.due_checks(desk.study.id):
        plan = due.plan
        if last is None or (plan.round, plan.attempt) > (last.round, last.attempt):
            return
        state, model = _ending(desk, last, plan)
        if state == "failed":  # before its ballot was shown, another attempt may complete the round without this site
            over = desk.site.record.ballot(plan) is not None
            desk.site.record.end_check(plan, Head(plan.round if over else plan.round - 1, plan.base_model))
        elif state != "complete" or model is None:
            _give_up(desk, due, "the coordinator does not list the round as ended, or names no model of it")
        else:
            _check(desk, due, model, choose)


def check_base(desk: Desk, plan: Plan) -> bool:
    """Whether the plan starts from a model that this site may train on, as far as its checks go."""
    record, head = desk.site.record, desk.site.record.head(plan.study)
    if head is None or (head.doubt is None and plan.base_model == head.model):
        return True
    if head.doubt is None and plan.round > head.round + 1:
        _note_unseen(desk, plan)
        return True
    if plan.base_model in desk.site.policy.trusted_models:
        record.trust(plan.study)
        desk.note("model-trusted", plan, model=plan.base_model)
        return True
    how = f"To go on from {plan.base_model}, list it under `trusted_models` in policy.toml and start the agent again"
    if head.doubt is not None:
        code, words = "spot-check-failed", f"the spot check of round {head.round} failed: {head.doubt}"[:300]
    else:
        words = f"the last round ended with the model {head.model[:12]}..., and the plan starts from another one"
        code = "base-model-differs"
    desk.refuse(Refused(code, f"{words}. {how}"), plan.digest, "plan", plan)
    return False


def _note_unseen(desk: Desk, plan: Plan) -> None:
    """A round passed without this site, if the coordinator is to be believed."""
    words = f"round {plan.round} starts from a model that this site had no part in and could not check"
    desk.note_once(plan.digest, "base-not-checked", plan, model=plan.base_model)
    desk.say_once(f"{words}: {plan.base_model[:12]}...", logging.WARNING)


def examine(desk: Desk, plan: Plan, model: str, part: int) -> SpotCheck:
    """What comes out when this site opens one part of a completed round itself.

    Args:
        model: SHA-256 of the model that the round is said to have made.

    Raises:
        Uncheckable: something that it takes is withheld, or was deleted.
        Unreachable: the coordinator does not answer.
    """
    ballot = _fetched(lambda: desk.site.client.ballot(plan))
    seen = desk.site.record.ballot(plan) or ballot.digest
    try:
        _compare(desk, plan, model, _open(desk, plan, ballot, seen, part))
    except (Differs, Refused, CryptoError) as error:
        result, words = "mismatch", f"part {part}: {error}"
    else:
        what = "the published model and counts are" if plan.kind == "training" else "the published counts are"
        result, words = "match", f"part {part}: {what} what {len(ballot.manifests)} contributions add up to"
    said = {"ballot": seen, "site": desk.site.me, "model": model, "part": part}
    return SpotCheck.model_validate(said | {"result": result, "words": words[:500]})


def _check(desk: Desk, due: DueCheck, model: str, choose: Chooser) -> None:
    record, plan, signed = desk.site.record, due.plan, due.signed
    if signed is None:
        part = due.part if due.part is not None else record.choose_part(plan, choose(choices(plan, desk.layout)))
        try:
            check = examine(desk, plan, model, part)
        except Uncheckable as missing:
            _give_up(desk, due, f"part {part}: {missing}")
            return
        signed = record.keep_check(plan, desk.site.identity.sign(check))
    check = signed.message
    desk.note("spot-check", plan, part=check.part, result=check.result, model=check.model, words=check.words)
    if check.result == "match":
        desk.say(f"round {plan.round}: spot check: {check.words}")
    else:
        desk.say(
            f"round {plan.round}: SPOT CHECK FAILED: {check.words}. Do not train on, or use, the model "
            f"{check.model[:12]}...; ask the coordinator's operator and the other hospitals. This site takes no "
            "further plan of the study until policy.toml lists the model to go on from under `trusted_models`",
            logging.WARNING,
        )
    try:
        desk.site.client.spot_check(plan, signed)
    except Problem as problem:
        desk.note("not-taken", plan, code=problem.code, words=problem.detail[:500])
        desk.say(f"round {plan.round}: the coordinator did not take the spot check: {problem}", logging.WARNING)
    record.end_check(plan, Head(plan.round, check.model, check.words if check.result == "mismatch" else None))


def _give_up(desk: Desk, due: DueCheck, words: str) -> None:
    """Never silently: who withholds parts is in the ledgers of all sites that asked for them."""
    plan = due.plan
    desk.note("spot-check", plan, result="not checked", words=words[:500])
    desk.say(f"round {plan.round}: its model could not be checked: {words}", logging.WARNING)
    desk.site.record.end_check(plan, None)


def _ending(desk: Desk, last: Ended, plan: Plan) -> tuple[str | None, str | None]:
    """How an attempt ended and the model it made, as the coordinator says."""
    if (last.round, last.attempt) == (plan.round, plan.attempt):
        return last.state, last.model
    for row in desk.site.client.rounds(desk.study.id):
        if (row.round, row.attempt) == (plan.round, plan.attempt):
            return row.state, row.model
    return None, None


def _open(desk: Desk, plan: Plan, ballot: Ballot, seen: str, part: int) -> OpenedPart:
    """The part, added up here from what the contributors signed, and opened with what the members answered."""
    client, by_name, layout = desk.site.client, scheme(plan.scheme), desk.layout
    if ballot.digest != seen or ballot.plan != plan.digest:
        raise Differs("the coordinator shows another ballot of this round than it showed before, or another plan's")
    roster = check_roster(plan, _fetched(lambda: client.plan_roster(plan)))
    manifests = [check_manifest(signed, plan, roster) for signed in ballot.manifests]
    secret_sum = _secret_sum(desk, plan, roster, ballot)
    totals = {}
    for number in parts_needed(plan, layout, part):
        adder = by_name.adder(plan, layout, number)
        for manifest in manifests:
            if number >= len(manifest.parts):
                raise Differs(f"the manifest of site {manifest.site} lists {len(manifest.parts)} parts")
            adder.add(_octets(desk, plan, manifest.site, number, manifest.parts[number]))
        totals[number] = adder.total()
    return open_part(plan, layout, ballot, part, totals, secret_sum)


def _secret_sum(desk: Desk, plan: Plan, roster: Roster, ballot: Ballot) -> tuple[int, ...]:
    """From the members' signed answers to this very ballot. More than two thirds of them stand behind it."""
    by_name = scheme(plan.scheme)
    openings = _fetched(lambda: desk.site.client.openings(plan, ShareOpening))
    answers = [check_reply(signed, ballot.digest, roster) for signed in openings]
    if len(answers) < by_name.openings_needed(plan):
        raise Uncheckable(f"{len(answers)} answers to the ballot are served; it takes {by_name.openings_needed(plan)}")
    try:
        return by_name.combine(plan, roster, answers).values
    except SharesDisagree as error:  # a wrong one may have come in while the round was being opened with the others
        raise Uncheckable(str(error)) from None


def _compare(desk: Desk, plan: Plan, model: str, opened: OpenedPart) -> None:
    published = _fetched(lambda: desk.site.client.counts(plan))
    if published != pooled(opened, desk.layout):
        raise Differs("the counts that the coordinator published are not the contributors' sums")
    if plan.kind == "evaluation":
        if model != plan.base_model:
            raise Differs("an evaluation round makes no model, and another one was published after it")
        return
    site, layout = desk.site, desk.layout
    base = _asked(lambda: site.models.vector(site.client, plan.base_model, layout))
    new = _asked(lambda: site.models.vector(site.client, model, layout))
    wrong = opened.wrong_values(base, new)
    if wrong:
        raise Differs(f"{wrong} of its {opened.mean.size} values in the published model are not the contributors' mean")


def pooled(opened: OpenedPart, layout: Layout) -> PooledCounts:
    """The counts in the form in which the coordinator publishes them."""
    counts = opened.counts
    recipe = {name: values.tolist() for name, values in named_counts(counts.recipe, layout.counts).items()}
    return PooledCounts(
        samples=counts.samples, capped_samples=counts.capped_samples, clipped=counts.clipped, recipe=recipe
    )


def _octets(desk: Desk, plan: Plan, site: UUID, number: int, digest: str) -> bytes:
    return _asked(lambda: desk.site.client.body_part(plan, site, number, digest))


def _fetched(call: Callable[[], T]) -> T:
    """A document from the coordinator; one that nobody can read counts as withheld."""
    try:
        return _asked(call)
    except Malformed as error:
        raise Uncheckable(str(error)) from None


def _asked(call: Callable[[], T]) -> T:
    """What the coordinator serves.

    Raises:
        Uncheckable: it says no, and will again.
    """
    try:
        return call()
    except Problem as problem:
        if problem.passing:
            raise
        raise Uncheckable(str(problem)) from None
