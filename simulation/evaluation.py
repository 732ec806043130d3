"""What is compared in the end: each hospital alone, federated, pooled, all on every hospital's held-out cases."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.evaluation import Metrics, metrics_of


@dataclass(frozen=True)
class Scores:
    """A model's exact figures on the held-out cases of all hospitals together, and its macro AUC on each one's."""

    name: str
    pooled: Metrics
    by_site: Mapping[str, float | None]

    @property
    def macro_auc(self) -> float:
        """Mean of the one-against-rest AUCs of the classes that have held-out cases."""
        if self.pooled.macro_auc is None:
            raise ValueError("the held-out cases are all of one class, so there is no AUC: hold out more")
        return self.pooled.macro_auc

    def to_json(self) -> dict[str, Any]:
        return {
            "macro_auc": self.macro_auc,
            "accuracy": self.pooled.accuracy,
            "loss": self.pooled.loss,
            "auc": list(self.pooled.auc),
            "sensitivity": list(self.pooled.sensitivity),
            "specificity": list(self.pooled.specificity),
            "macro_auc_by_site": dict(self.by_site),
        }


def score(
    name: str, probabilities: Mapping[str, NDArray[np.floating]], labels: Mapping[str, NDArray[np.int64]]
) -> Scores:
    """The figures of a model from its probabilities [n, C] and the labels [n] of each hospital's held-out cases."""
    sites = sorted(labels)
    pooled = metrics_of(np.concatenate([probabilities[s] for s in sites]), np.concatenate([labels[s] for s in sites]))
    by_site = {s: metrics_of(probabilities[s], labels[s]).macro_auc for s in sites if len(labels[s])}
    return Scores(name, pooled, by_site)


@dataclass(frozen=True)
class Comparison:
    """The last-round models side by side; nothing was chosen by these cases."""

    classes: Sequence[str]
    alone: Mapping[str, Scores]
    federated: Scores
    pooled: Scores

    @property
    def alone_mean(self) -> float:
        """Macro AUC of the average hospital that trains alone."""
        return float(np.mean([scores.macro_auc for scores in self.alone.values()]))

    @property
    def gain(self) -> float:
        """By how much the federated model beats the average hospital alone, in macro AUC."""
        return self.federated.macro_auc - self.alone_mean

    @property
    def auc(self) -> dict[str, Any]:
        """Macro AUCs in the form of summary.json."""
        return {
            "alone": {site: scores.macro_auc for site, scores in self.alone.items()},
            "federated": self.federated.macro_auc,
            "pooled": self.pooled.macro_auc,
        }
