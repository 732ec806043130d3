"""Predictions of made-up cases, as tests of evaluation take them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import softmax

from participant.evaluation.predictions import Predictions
from participant.evaluation.result import Subject

ROOT = Path("/data")
CLASSES = ("healthy", "covid-19", "bacterial")
SUBJECT = Subject("ct-1", "ucadi", "cd" * 32, "ab" * 32, 3, "test", "2026-11-22")


def predictions(number: int = 60, classes: tuple[str, ...] = CLASSES, each: int = 1) -> Predictions:
    """Of so many patients with `each` cases, each case called ROOT/CLASS/P007-0."""
    rng = np.random.default_rng(number)
    labels = np.repeat(np.arange(number) % len(classes), each)
    probabilities = softmax(rng.normal(0, 1, (len(labels), len(classes))) + 1.2 * np.eye(len(classes))[labels], axis=1)
    places = [(place // each, place % each) for place in range(len(labels))]
    return Predictions(
        classes=classes,
        probabilities=probabilities.astype(np.float32),
        labels=labels,
        patients=np.array([f"GEHEIM-{patient}" for patient, _ in places]),
        paths=tuple(
            ROOT / classes[label] / f"P{patient:03}-{number}"
            for (patient, number), label in zip(places, labels.tolist(), strict=True)
        ),
        elsewhere=(ROOT / "healthy" / "P900-0.nii.gz", ROOT / "bacterial" / "twice", ROOT / "healthy" / "twice"),
    )
