"""What a worker of `simulation.controls` does: train a model as a site does, then evaluate it on everybody's cases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

import numpy as np

from crypto.layout import Layout
from models.flatten import read_model
from models.pooled import auc_of_histograms, split_counts
from participant.case_data import CaseData
from participant.training import Trainer
from simulation.controls import Job, Outcome

log = logging.getLogger(__name__)


def work(job: Job, advance: Callable[[], None]) -> Outcome:
    """Run a job; `advance` is called after each round."""
    saved = read_model(job.model)
    cases = {name: CaseData.read(saved.recipe, p.data, p.cache, p.seed) for name, p in job.places.items()}
    everyone = Trainer(saved.recipe, CaseData.joined(list(cases.values())), job.state_dir, job.seed, threads=1)
    vector = saved.vector
    curve: list[tuple[int, float]] = []
    if job.rounds:
        trained_on = CaseData.joined([cases[name] for name in job.trained_on])
        trainer = Trainer(saved.recipe, trained_on, job.state_dir, job.seed)
    for number in range(1, job.rounds + 1):
        result = trainer.train(vector, saved.layout, number, _silent)
        vector = result.vector
        log.info("%s: round %d of %d, loss %.3f, %.1f s", job.name, number, job.rounds, result.loss, result.seconds)
        if job.is_point(number):
            curve.append((number, macro_auc(everyone.evaluate(vector, saved.layout, _silent), saved.layout)))
        advance()
    probabilities = {
        name: everyone.probabilities(vector, saved.layout, of_site.test, _silent) for name, of_site in cases.items()
    }
    labels = {name: of_site.test.labels for name, of_site in cases.items()}
    return Outcome(job.name, probabilities, labels, curve, {name: of_site.counted() for name, of_site in cases.items()})


def macro_auc(counts: Iterable[int], layout: Layout) -> float:
    """The mean of the classes' areas under the ROC curve, from pooled score histograms; 0.5 where there is none."""
    scores = split_counts(counts, layout.counts)["scores"]
    areas = [area for positives, negatives in scores if (area := auc_of_histograms(positives, negatives)) is not None]
    return float(np.mean(areas)) if areas else 0.5


def _silent(done: int, total: int) -> None:
    """No progress within a round."""
