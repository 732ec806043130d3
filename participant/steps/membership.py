"""Becoming a member of a study, and ceasing to be one."""

from __future__ import annotations

import logging
from typing import Final

from crypto.errors import CryptoError
from crypto.manifest import StudyRefusal
from crypto.parameters import DEFAULT_MINIMUM_CONTRIBUTORS
from participant.documents import Study
from participant.policy import Refused, recipe_name
from participant.session import Problem, Unreachable
from participant.steps.carrying import COUNTS_ON
from participant.steps.desk import Desk, Site, code_of
from participant.steps.epochs import drop_keys
from participant.steps.privacy import check_figures_and_privacy

log = logging.getLogger(__name__)

OVER: Final = ("finished", "stopped")  # states that a study does not leave
_SMALL_SUMS: Final = (
    "sums of {least} contributors are opened in this study. Where two contribute, each can subtract its own part and "
    "learns the other's update and counts. To take no part in such sums: `minimum_contributors` = 3 in policy.toml"
)


def join(site: Site, study: Study) -> Desk | None:
    """Become a member, if the policy allows it, the study still takes sites, and nobody here left it."""
    if site.record.has_left(study.id):
        return None
    least = study.minimum_contributors
    try:
        site.policy.check_study(recipe_name(study.recipe), study.scheme, least)
        site.policy.check_release(study.release)
        desk = Desk(site, study)
        check_figures_and_privacy(site, desk)
        site.record.pin(study.id, study.recipe_digest, study.layout_digest, study.scheme, study.release)
        site.record.pin_minimum(study.id, least)
    except (Refused, CryptoError) as error:
        _refuse(site, study, error)
        return None
    refused_before = site.record.forget_refusals(_about(study))
    if study.member and not refused_before:
        return desk
    if study.state in OVER:
        return None
    _warn(desk, least)
    site.client.join(study.id)
    desk.note("joined", name=study.name, recipe=study.recipe_digest, minimum_contributors=least)
    desk.say(f"joined ({study.rounds} rounds, {desk.layout.size:,} values, {study.scheme})")
    if site.record.has_left(study.id):  # a person had it leave meanwhile
        site.client.leave(study.id)
        return None
    return desk


def _refuse(site: Site, study: Study, error: Refused | CryptoError) -> None:
    """Say no to a study, once: on the terminal, in the ledger, and to the coordinator."""
    code, words = code_of(error), str(error)[:500]
    if site.record.refused(_about(study), code):
        return
    log.warning("not joining %s: %s", study.name, words)
    site.ledger.append("refusal", study=str(study.id), code=code, words=words)
    site.record.keep_refusal(_about(study), code)
    refusal = StudyRefusal(study=study.id, site=site.me, code=code, words=words)
    try:
        site.client.refuse_study(site.identity.sign(refusal))
    except (Problem, Unreachable) as problem:
        log.warning("%s: the coordinator did not take the refusal: %s", study.name, problem)


def _about(study: Study) -> str:
    return f"study/{study.id}"


def _warn(desk: Desk, least: int) -> None:
    """What a hospital should know before it is a member."""
    if least < DEFAULT_MINIMUM_CONTRIBUTORS:
        words = _SMALL_SUMS.format(least=least)
        desk.note_once(f"small-sums/{desk.study.id}", "small-sums", None, minimum_contributors=least, words=words)
        desk.say(words, logging.WARNING)
    if desk.study.carries:
        desk.note_once(f"counts-on/{desk.study.id}", "counts-on", None, words=COUNTS_ON)
        desk.say(COUNTS_ON, logging.WARNING)


def leave(site: Site, study: Study, *, withdraw: bool = False) -> None:
    """Take part no longer; the study's keys are deleted here, and the others go on with a new one.

    Args:
        withdraw: where sites that left still count, this one does not.
    """
    site.record.leave(study.id)
    site.client.leave(study.id, withdraw=withdraw)
    site.ledger.append("left", study=str(study.id), name=study.name, withdrawn=withdraw or None)
    drop_keys(site, study.id)
