"""How good a model is on labelled cases: counts that travel, and exact figures that stay at the site."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

import models.torchvision_shim  # noqa: F401  (torchmetrics imports torchvision)
from crypto.parameters import COUNT_LIMIT, LOSS_UNIT

# isort: split
from torchmetrics.functional.classification import binary_auroc, multiclass_stat_scores

from models.bootstrap import confusion_of
from models.calibration import losses
from models.pooled import score_edges
from models.statistics import log_odds

__all__ = ["Metrics", "counts_of", "metrics_of"]

Probabilities = NDArray[np.floating]
Labels = NDArray[np.integer]


@dataclass(frozen=True, slots=True)
class Metrics:
    """Exact figures, one a class where there are several; None where a class has no cases (AUC: or nothing but cases).

    `macro_auc` is the mean over the classes that have one.
    """

    cases: int
    loss: float
    accuracy: float
    macro_auc: float | None
    auc: tuple[float | None, ...]
    sensitivity: tuple[float | None, ...]
    specificity: tuple[float | None, ...]


def counts_of(probabilities: Probabilities, labels: Labels, bins: int) -> list[int]:
    """The counts of `count_fields(C, bins)`, flat, of probabilities [n, C] and labels [n]; n may be 0.

    The loss stops growing at the largest count that can travel (2^24 - 1 thousandths): a thousand cases of the worst
    loss, or fifteen thousand as bad as guessing among three classes.

    Raises:
        ValueError: shapes that do not belong together, values outside [0, 1], labels outside 0..C-1, or too many cases.
    """
    _check(probabilities, labels)
    classes = probabilities.shape[1]
    if len(labels) >= COUNT_LIMIT:
        raise ValueError(f"{len(labels)} cases are more than a count can carry ({COUNT_LIMIT - 1})")
    loss = min(round(LOSS_UNIT * losses(probabilities, labels).sum()), COUNT_LIMIT - 1)
    confusion = confusion_of(probabilities, labels)
    scores = np.zeros((classes, 2, bins), np.int64)
    edges = score_edges(classes, bins)[1:-1]
    for name in range(classes):
        places = np.searchsorted(edges, log_odds(probabilities, name), side="right")
        np.add.at(scores[name], ((labels != name).astype(np.int64), places), 1)
    return [len(labels), loss, *confusion.ravel().tolist(), *scores.ravel().tolist()]


def metrics_of(probabilities: Probabilities, labels: Labels) -> Metrics:
    """Exact figures of probabilities [n, C] and labels [n], n at least 1; the prediction is the likeliest class.

    Raises:
        ValueError: no cases, or as in `counts_of`.
    """
    _check(probabilities, labels)
    if len(labels) == 0:
        raise ValueError("there are no cases to evaluate")
    classes = probabilities.shape[1]
    truth = torch.from_numpy(labels.astype(np.int64))
    predicted = torch.from_numpy(probabilities.argmax(axis=1))
    tallies = multiclass_stat_scores(predicted, truth, num_classes=classes, average=None).tolist()
    auc = tuple(_auc(log_odds(probabilities, name), truth == name) for name in range(classes))
    defined = [area for area in auc if area is not None]
    return Metrics(
        cases=len(labels),
        loss=float(losses(probabilities, labels).mean()),
        accuracy=sum(tp for tp, *_ in tallies) / len(labels),
        macro_auc=sum(defined) / len(defined) if defined else None,
        auc=auc,
        sensitivity=tuple(_share(tp, fn) for tp, _, _, fn, _ in tallies),
        specificity=tuple(_share(tn, fp) for _, fp, tn, _, _ in tallies),
    )


def _auc(scores: NDArray[np.float64], positive: torch.Tensor) -> float | None:
    if positive.all() or not positive.any():
        return None
    # As ranks within [0, 1), where torchmetrics takes scores as they are.
    ranks = np.unique(scores, return_inverse=True)[1] / len(scores)
    return float(binary_auroc(torch.from_numpy(ranks), positive.int()))


def _share(right: int, wrong: int) -> float | None:
    return right / (right + wrong) if right + wrong else None


def _check(probabilities: Probabilities, labels: Labels) -> None:
    if probabilities.ndim != 2 or labels.shape != probabilities.shape[:1]:
        raise ValueError(
            f"probabilities [n, C] and labels [n] do not have shapes {probabilities.shape} and {labels.shape}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError("probabilities lie in [0, 1]; these do not, or are not numbers")
    if len(labels) and not (labels.min() >= 0 and labels.max() < probabilities.shape[1]):
        raise ValueError(
            f"labels lie in 0..{probabilities.shape[1] - 1}; these reach {labels.min()} and {labels.max()}"
        )
