"""The one judge of all arms' learning curves: all members' validation cases, whoever trained the model."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.metrics import measures
from crypto.layout import named_counts
from models.flatten import SavedModel
from participant.case_data import CaseData
from participant.training import Machine, Trainer
from simulation.control_worker import silent
from simulation.experiments.results import Point
from simulation.experiments.task import Task


class Judge:
    """Gives points of a curve. A unit makes one; what it takes is no part of what training took."""

    def __init__(self, task: Task, model: SavedModel, cases: Mapping[str, CaseData]) -> None:
        joined = CaseData.joined([cases[name] for name in task.members])
        # Its folder stays empty: a judge keeps nothing from round to round.
        state, checkpoints = task.folder / "state" / "judge", task.checkpoints
        machine = Machine(threads=1)
        self._trainer = Trainer(model.recipe, joined, state, task.seed, checkpoints=checkpoints, machine=machine)

    def point(self, number: int, model: SavedModel, training_loss: float | None = None) -> Point:
        """The model after so many rounds; 0 is the first model."""
        counts = self._trainer.evaluate(model.vector, model.layout, silent)
        found = measures(named_counts(counts, model.layout.counts))
        loss, accuracy, auc = (found.get(name) for name in ("loss", "accuracy", "macro_auc"))
        return Point(round=number, loss=loss, accuracy=accuracy, auc=auc, training_loss=training_loss)
