"""From predictions to figures with intervals, patients being what was sampled."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from models.bootstrap import RESAMPLES, Figure, auc_of, bootstrap, confusion_of, macro_auc
from models.calibration import ReliabilityBin, brier, brier_of, calibration_error, cross_entropy, reliability
from models.roc import DRAWS, Curve, roc_band, roc_points
from models.statistics import Interval, log_odds, share_interval
from participant.evaluation import FORMAT
from participant.evaluation.predictions import Predictions, Split
from participant.evaluation.readers import Readers
from participant.evaluation.reading import ReaderPoints, reader_points


@dataclass(frozen=True, slots=True)
class Subject:
    """What was evaluated: a study's model, by digest and by the round that made it (0: the first), on a split."""

    study: str
    recipe: str
    recipe_digest: str
    model: str
    round: int
    split: Split
    written: str


@dataclass(frozen=True, slots=True)
class RocCurve:
    """Operating points [k], and the ends of the 95 % band at `models.roc.GRID`; NaN where no resample has both kinds
    of cases."""

    false_positive_rate: Curve
    sensitivity: Curve
    low: Curve
    high: Curve


@dataclass(frozen=True, slots=True)
class ClassResult:
    """One class against the rest; None: no such cases, or nothing but such."""

    name: str
    cases: int
    auc: Interval | None
    sensitivity: Interval | None
    specificity: Interval | None
    brier: Interval | None
    roc: RocCurve | None
    reliability: tuple[ReliabilityBin, ...]
    readers: ReaderPoints | None

    @property
    def called(self) -> tuple[float, float] | None:
        """(sensitivity, specificity) of calling each case what it most likely is."""
        if self.sensitivity is None or self.specificity is None:
            return None
        return self.sensitivity.value, self.specificity.value

    def to_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "cases": self.cases,
            **{name: _json(getattr(self, name)) for name in ("auc", "sensitivity", "specificity", "brier")},
            "reliability": [asdict(each) for each in self.reliability],
            "readers": [] if self.readers is None else [each.to_json() for each in self.readers.all],
        }


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A model on one split. Nothing in it is of a single case. confusion: rows are the truth, columns the likeliest."""

    subject: Subject
    cases: int
    patients: int
    accuracy: Interval | None
    macro_auc: Interval | None
    loss: Interval | None
    brier: Interval | None
    calibration_error: float | None
    confusion: tuple[tuple[int, ...], ...]
    classes: tuple[ClassResult, ...]
    reads_left_out: int = 0

    @property
    def read(self) -> bool:
        """Whether readers' points are in it."""
        return any(each.readers is not None for each in self.classes)

    def to_json(self) -> dict[str, Any]:
        """The content of evaluation.json."""
        whole = ("accuracy", "macro_auc", "loss", "brier")
        return {
            "format": FORMAT,
            **asdict(self.subject),
            "cases": self.cases,
            "patients": self.patients,
            **{name: _json(getattr(self, name)) for name in whole},
            "calibration_error": self.calibration_error,
            "confusion": self.confusion,
            "classes": [each.to_json() for each in self.classes],
        }


def evaluated(
    subject: Subject,
    predictions: Predictions,
    readers: Readers | None = None,
    *,
    resamples: int = RESAMPLES,
    draws: int = DRAWS,
) -> Evaluation:
    """The figures of predictions of at least one case.

    Shares have Wilson's intervals for clustered samples, everything else percentiles of `resamples` bootstrap samples
    of patients, ROC bands those of `draws`.
    """

    def resampled(figure: Figure) -> Interval | None:
        found = predictions
        return bootstrap(figure, found.probabilities, found.labels, found.patients, resamples=resamples)

    right = predictions.probabilities.argmax(axis=1) == predictions.labels
    return Evaluation(
        subject=subject,
        cases=len(predictions),
        patients=len(np.unique(predictions.patients)),
        accuracy=share_interval(right, predictions.patients),
        macro_auc=resampled(macro_auc),
        loss=resampled(cross_entropy),
        brier=resampled(brier),
        calibration_error=calibration_error(predictions.probabilities, predictions.labels),
        confusion=tuple(map(tuple, confusion_of(predictions.probabilities, predictions.labels).tolist())),
        classes=tuple(
            ClassResult(
                name=name,
                cases=int((predictions.labels == label).sum()),
                auc=resampled(auc_of(label)),
                **_shares(predictions, label),
                brier=resampled(brier_of(label)),
                roc=_roc(predictions, label, draws),
                reliability=reliability(
                    predictions.probabilities[:, label], predictions.labels == label, predictions.patients
                ),
                readers=reader_points(readers, predictions, label) if readers is not None else None,
            )
            for label, name in enumerate(predictions.classes)
        ),
        reads_left_out=readers.left_out if readers is not None else 0,
    )


def _shares(predictions: Predictions, label: int) -> dict[str, Interval | None]:
    positive, called = predictions.labels == label, predictions.probabilities.argmax(axis=1) == label
    return {
        "sensitivity": share_interval(called[positive], predictions.patients[positive]),
        "specificity": share_interval(~called[~positive], predictions.patients[~positive]),
    }


def _roc(predictions: Predictions, label: int, draws: int) -> RocCurve | None:
    positive = predictions.labels == label
    if positive.all() or not positive.any():
        return None
    false, hits = roc_points(log_odds(predictions.probabilities, label), positive)
    low, high = roc_band([predictions], label, draws)
    return RocCurve(false, hits, low, high)


def _json(interval: Interval | None) -> dict[str, float] | None:
    return None if interval is None else interval.to_json()
