"""What a worker of `simulation.controls` does: train a model as a site does, then evaluate it on everybody's cases."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator

from coordinator.metrics import measures
from coordinator.rounds.pace import pace
from crypto.layout import Layout, named_counts
from models.flatten import SavedModel, read_model
from models.pooled import figures_of_counts
from participant.case_data import CaseData
from participant.terms import RoundTerms
from participant.training import Machine, Trainer, TrainResult
from simulation.controls import Job, Outcome

log = logging.getLogger(__name__)


def work(job: Job, advance: Callable[[], None]) -> Outcome:
    """Run a job; `advance` is called after each round."""
    saved = read_model(job.model)
    cases = {name: CaseData.read(saved.recipe, p.data, p.cache, p.seed) for name, p in job.places.items()}
    joined, machine = CaseData.joined(list(cases.values())), Machine(threads=1)
    everyone = Trainer(saved.recipe, joined, job.state_dir, job.seed, machine=machine)
    vector = saved.vector
    curve: list[tuple[int, float]] = []
    if job.rounds:
        trained_on = CaseData.joined([cases[name] for name in job.trained_on])
        trainer = Trainer(saved.recipe, trained_on, job.state_dir, job.seed, continuous=True)
        for number, result in enumerate(train_rounds(trainer, saved, job.rounds), 1):
            vector = result.vector
            log.info("%s: round %d of %d, loss %.3f, %.1f s", job.name, number, job.rounds, result.loss, result.seconds)
            if job.is_point(number):
                curve.append((number, macro_auc(everyone.evaluate(vector, saved.layout, silent), saved.layout)))
            advance()
    probabilities = {
        name: everyone.probabilities(vector, saved.layout, of_site.test, silent) for name, of_site in cases.items()
    }
    labels = {name: of_site.test.labels for name, of_site in cases.items()}
    return Outcome(job.name, probabilities, labels, curve, {name: of_site.counted() for name, of_site in cases.items()})


def train_rounds(trainer: Trainer, saved: SavedModel, rounds: int) -> Iterator[TrainResult]:
    """What each round of training in one place gives, from the saved model on.

    The learning rate falls and training stops as a coordinator would decide it from these validation cases' losses.
    """
    vector, losses = saved.vector, list[float]()
    training = saved.recipe.training
    watched = training.plateau is not None or training.early_stopping is not None
    for number in range(1, rounds + 1):
        now = pace(losses, training.plateau, training.early_stopping)
        if now.stop:
            return
        # Only now: a round's counts come with its updates, so that a coordinator knows them one round later.
        losses += validation_losses(trainer, SavedModel(vector, saved.layout, saved.recipe)) if watched else []
        result = trainer.train(vector, saved.layout, RoundTerms(number, now.rate), silent)
        trainer.keep(result)
        vector = result.vector
        yield result


def validation_losses(trainer: Trainer, model: SavedModel) -> list[float]:
    """The mean loss on the trainer's validation cases, as pooled counts tell it; nothing without cases."""
    counts = named_counts(trainer.evaluate(model.vector, model.layout, silent), model.layout.counts)
    loss = measures(counts).get("loss")
    return [] if loss is None else [float(loss)]


def macro_auc(counts: Iterable[int], layout: Layout) -> float:
    """The mean of the classes' areas under the ROC curve, from pooled score histograms; 0.5 where there is none."""
    found = figures_of_counts(counts, layout.counts).macro_auc
    return found.value if found else 0.5


def silent(done: int, total: int) -> None:
    """No progress within a round."""
