"""Training at a site, and evaluation: on a CPU, one GPU or several, whole rounds or what a crash left of one."""

from __future__ import annotations

from participant.training.local_round import Progress
from participant.training.machine import Machine
from participant.training.parts import TooLittleMemory
from participant.training.site import site_trainer
from participant.training.steps import TrainingDiverged
from participant.training.trainer import EVALUATION_BATCH, Trainer, TrainResult

__all__ = [
    "EVALUATION_BATCH",
    "Machine",
    "Progress",
    "TooLittleMemory",
    "TrainResult",
    "Trainer",
    "TrainingDiverged",
    "site_trainer",
]
