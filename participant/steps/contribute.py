"""Accept a plan, train, seal, upload (protocol section 6, steps 1 and 2)."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from http import HTTPStatus

import numpy as np
from numpy.typing import NDArray

from crypto.checks import check_roster
from crypto.errors import CryptoError
from crypto.plan import Plan, Roster
from crypto.privacy import length
from crypto.schemes import Recipients, scheme
from crypto.schemes.shares import check_sharing
from participant.job import Cancelled, Job
from participant.policy import Refused
from participant.sealed import StoredContribution
from participant.session import Problem
from participant.steps.carrying import check_carried, names
from participant.steps.desk import Desk
from participant.steps.epochs import check_plan_key
from participant.steps.evaluation import share_evaluation
from participant.steps.peers import check_members, check_plan_scope
from participant.steps.privacy import check_private_plan
from participant.terms import RoundTerms

log = logging.getLogger(__name__)


def accept(desk: Desk, plan: Plan, roster: Roster) -> bool:
    """Whether this site takes part in the plan; the acceptance is on the disk before anything is sealed for it."""
    site = desk.site
    try:
        check_roster(plan, roster)  # at every look: signatures and the majority are judged by what came with this task
        if site.record.accepted(plan):
            return True
        if plan.threshold is not None:
            check_sharing(plan, roster)
        check_members(desk, roster)
        check_plan_scope(desk, plan)
        site.policy.check_plan(plan, desk.study.recipe)
        check_terms(desk, plan)
        check_private_plan(desk, plan)
        check_plan_key(desk, plan)
        check_carried(desk, plan, roster)
        site.record.accept(plan)
    except (Refused, CryptoError) as error:
        desk.refuse(error, plan.digest, "plan", plan)
        return False
    carried = [str(each.member.site) for each in plan.carried] or None
    desk.note("plan-accepted", plan, digest=plan.digest, kind=plan.kind, members=len(roster.members), carried=carried)
    also = f"; {names(plan)} left and counts" if plan.carried else ""
    desk.say(f"round {plan.round}, attempt {plan.attempt}: accepted ({plan.kind}, {len(roster.members)} sites{also})")
    return True


def check_terms(desk: Desk, plan: Plan) -> None:
    """Raise unless sums are opened, and models released, as the study said when this site joined.

    Raises:
        Refused: naming what changed: a study of members must not become one whose coordinator reads the models.
    """
    joined = (desk.study.scheme, desk.study.release)
    if (plan.scheme, plan.release) != joined:
        words = f"the plan is for {plan.scheme}, release {plan.release}; this site joined for {joined[0]}, {joined[1]}"
        raise Refused("terms-changed", words)
    if plan.minimum_contributors < desk.study.minimum_contributors:
        words = f"the plan opens sums of {plan.minimum_contributors}; the study says {desk.study.minimum_contributors}"
        raise Refused("terms-changed", words)


def contribute(desk: Desk, plan: Plan, roster: Roster, job: Job) -> None:
    """Deliver this site's contribution. What goes wrong is said and ledgered here; the loop goes on."""
    try:
        stored = desk.site.sealed.find(plan) or _make(desk, plan, roster, job)
        _upload(desk, plan, stored, job)
    except Cancelled:
        why = "the round closed, the site left, its hours for training are over or the agent ends"
        desk.say(f"round {plan.round}, attempt {plan.attempt}: stopped; {why}")
    except (Refused, CryptoError) as error:
        if job.called_off:
            raise  # what it worked with is being cleared away: the job has that end in silence
        desk.refuse(error, plan.digest, "plan", plan)
    except Problem as problem:
        desk.note("not-taken", plan, code=problem.code, words=problem.detail[:500])
        late = problem.status == HTTPStatus.CONFLICT and problem.code == "round-closed"
        what = "came too late" if late else "was not taken"
        desk.say(f"round {plan.round}, attempt {plan.attempt}: the contribution {what}: {problem}", logging.WARNING)
    except Exception as error:  # a full disk here, a bug: the site sits the attempt out and stays in the study
        if job.called_off:
            raise
        log.exception("%s: round %d failed here", desk.study.name, plan.round)
        words = f"the contribution failed here ({type(error).__name__}); this site's own log says more"
        desk.refuse(Refused("contribution-failed", words), plan.digest, "plan", plan)


def _make(desk: Desk, plan: Plan, roster: Roster, job: Job) -> StoredContribution:
    """Train and seal, one contribution at a time on this machine."""
    site = desk.site
    job.hold(site.bench)
    try:
        base = site.models.vector(site.client.pausing(job.pause), plan.base_model, desk.layout)
        work = _train(desk, plan, roster, base, job)
        _check_wanted(desk, job)
        share_evaluation(desk, plan, work.counts, job)
        start = time.perf_counter()
        to = site.keyring.public(plan.study, plan.epoch) if plan.epoch is not None else Recipients(roster, site.me)
        counted = bool(desk.layout.counts) or plan.weighting != "equal"
        samples = work.samples if counted else 0  # nobody needs their number, so it does not leave
        sealed = scheme(plan.scheme).seal(plan, desk.layout, work.update, samples, work.counts, to, site.multiplier())
        stored = site.sealed.write(
            plan, site.me, sealed, site.identity.sign, work.state, residuals=desk.privacy is None
        )
    finally:
        site.bench.release()
    site.record.note_figures(
        plan,
        train_seconds=work.seconds,
        seal_seconds=time.perf_counter() - start,
        upload_bytes=stored.upload_bytes,
        fp32_bytes=4 * desk.layout.size,
    )
    return stored


@dataclass(frozen=True, slots=True)
class _Work:
    """What a round's work here gave: the update float32 [layout.size] (None where the model is only evaluated),
    training cases, counts of the base model, seconds of training, what stays at the site."""

    update: NDArray[np.float32] | None
    samples: int
    counts: list[int]
    seconds: float = 0.0
    state: bytes = b""


def _train(desk: Desk, plan: Plan, roster: Roster, base: NDArray[np.float32], job: Job) -> _Work:
    """Evaluate the base model, and train it.

    Raises:
        Refused: training failed. The words name the error's kind only: its text may name files or patients.
    """
    site, name = desk.site, f"{desk.study.name} round {plan.round}"
    try:
        trainer = desk.trainer()
        counts = list[int]()
        if desk.layout.counts:
            with site.reporter.work(f"{name}: evaluating the global model", job.check) as advance:
                counts = trainer.evaluate(base, desk.layout, advance)
        if plan.kind == "evaluation":
            return _Work(None, trainer.samples, counts)
        terms = RoundTerms(plan.round, plan.rate, len(plan.expected) / len(roster.members), plan.attempt)
        with site.reporter.work(f"{name}: training", job.check) as advance:
            result = trainer.train(base, desk.layout, terms, advance)
    except Cancelled:
        raise
    except Exception as error:
        log.exception("%s: training failed", name)
        words = f"training failed here ({type(error).__name__}); this site's own log says more"
        raise Refused("training-failed", words) from error
    if result.samples < 1 or not np.isfinite(result.vector).all():
        raise Refused("training-failed", "training gave no usable model: no cases, or weights that are no numbers")
    desk.say(f"round {plan.round}: trained in {result.seconds:.1f} s, loss {result.loss:.4f}")
    update = _update(desk, plan, base, result.vector, job)
    return _Work(update, result.samples, counts, result.seconds, result.state)


def _update(
    desk: Desk, plan: Plan, base: NDArray[np.float32], trained: NDArray[np.float32], job: Job
) -> NDArray[np.float32]:
    """What training added to the base model, with what clipping cut off before; float32 [layout.size].

    Not of buffers: what a running mean lacks, the next round's training sees for itself, and added to that it would
    carry the mean too far, and a variance below zero. Where sites that left still count, what it added to the study's
    first model, and nothing that would be summed twice. Under differential privacy, what may be summed of it.
    """
    site = desk.site
    if desk.privacy is not None:
        update = trained - base
        desk.say(f"round {plan.round}: an update of length {length(update):.3g}, clipped to {desk.privacy.clip:g}")
        return desk.privacy.protected(update, plan.minimum_contributors)
    if plan.origin is None:
        residual = site.sealed.residual(desk.study.id, desk.layout.size)
        for tensor, place in desk.layout.slices():
            if tensor.kind == "buffer":
                residual[place] = 0
        update = trained - base + residual
    else:
        update = trained - site.models.vector(site.client.pausing(job.pause), plan.origin, desk.layout)
    return update.astype(np.float32, copy=False)


def _check_wanted(desk: Desk, job: Job) -> None:
    """Raise unless the contribution is still wanted, by the round and by this hospital: a person may have left the
    study in another process.

    Raises:
        Cancelled: it is not.
    """
    job.check()
    if desk.site.record.has_left(desk.study.id):
        raise Cancelled


def _upload(desk: Desk, plan: Plan, stored: StoredContribution, job: Job) -> None:
    """Send what is not there yet, the manifest last."""
    client = desk.site.client.pausing(job.pause)
    there = client.delivered(plan)
    for kind, digests, delivered in (
        ("parts", stored.parts, there.parts),
        ("key-parts", stored.key_parts, there.key_parts),
    ):
        for number, digest in enumerate(digests):
            _check_wanted(desk, job)
            if delivered.get(str(number)) != digest:
                client.put_part(plan, kind, number, stored.octets(kind, number))
    _check_wanted(desk, job)
    client.put_manifest(plan, stored.manifest)
    desk.say(f"round {plan.round}, attempt {plan.attempt}: delivered {stored.upload_bytes / 1e6:.1f} MB, encrypted")
