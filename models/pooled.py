"""From counts pooled over sites back to figures; numpy alone.

Counts lie flat in the order of `count_fields`, as a layout names them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from crypto.layout import CountField

Counts = NDArray[np.int64]


def count_fields(classes: int, bins: int) -> tuple[CountField, ...]:
    """What each site counts on its validation cases, C classes and B bins:

    - `cases` ()
    - `loss` (): summed cross entropy of the cases, unweighted, in thousandths
    - `confusion` (C, C): rows are the truth, columns the prediction
    - `scores` (C, 2, B): histograms over [0, 1] of each class's probability, first for the cases of that class,
      then for all others
    """
    return (
        CountField("cases", ()),
        CountField("loss", ()),
        CountField("confusion", (classes, classes)),
        CountField("scores", (classes, 2, bins)),
    )


def split_counts(counts: Iterable[int], fields: Sequence[CountField]) -> dict[str, Counts]:
    """Flat counts as arrays by name, each in its field's shape.

    Raises:
        ValueError: another number of counts than the fields have.
    """
    flat = np.fromiter(counts, np.int64)
    sizes = [field.size for field in fields]
    if flat.size != sum(sizes):
        raise ValueError(f"{flat.size} counts do not fit fields of {sum(sizes)}")
    pieces = np.split(flat, np.cumsum(sizes)[:-1])
    return {field.name: piece.reshape(field.shape) for field, piece in zip(fields, pieces, strict=True)}


def auc_of_histograms(positives: Counts, negatives: Counts) -> float | None:
    """Area under the ROC curve of two score histograms [bins]: a pair in one bin counts one half, as a tie does.

    None where either is empty. The error against exact scores is at most half the share of such pairs.
    """
    pairs = int(positives.sum()) * int(negatives.sum())
    if pairs == 0:
        return None
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + negatives / 2)).sum() / pairs)
