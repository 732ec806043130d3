"""A case in the words and numbers of its page."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from participant.diagnosis.case import Case
from participant.diagnosis.look import Opinion

_FINE: Final = 1000  # widths are given in thousandths


@dataclass(frozen=True)
class Share:
    """A class with its probability; low and high: one deviation over the subsets to either side. `slice` is where its
    map is brightest, counted from the head."""

    name: str
    label: int
    mean: float
    spread: float
    likeliest: bool
    slice: int


@dataclass(frozen=True)
class OpinionView:
    """One model's opinion. shares: in the order of its classes."""

    title: str
    digest: str
    recipe: str
    subsets: int
    shares: tuple[Share, ...]

    @property
    def answer(self) -> Share:
        return next(share for share in self.shares if share.likeliest)


@dataclass(frozen=True)
class CaseView:
    """width, height: of a slice on the page, in the proportions that its spacing gives it."""

    opinions: tuple[OpinionView, ...]
    grade: OpinionView | None
    labels: tuple[str, ...]
    width: int
    height: int

    @property
    def first(self) -> Share:
        """What the page begins with: the first model's answer."""
        return self.opinions[0].answer


def case_view(case: Case) -> CaseView:
    opinions = tuple(_opinion(each) for each in case.opinions)
    labels = dict.fromkeys(share.name for each in opinions for share in each.shares)
    _, rows, columns = case.voxels.shape
    tall, wide = case.spacing[1:] if case.spacing else (1.0, 1.0)
    height = round(_FINE * rows * tall / (columns * wide))
    return CaseView(opinions, _opinion(case.grade) if case.grade else None, tuple(labels), _FINE, height)


def _opinion(opinion: Opinion) -> OpinionView:
    model, slices = opinion.model, opinion.maps.shape[1]
    loudest = np.asarray(opinion.maps.astype(np.float32).mean(axis=(2, 3))).argmax(axis=1)
    shares = tuple(
        Share(name, label, mean, spread, label == opinion.likeliest, slices - 1 - int(loudest[label]))
        for label, (name, mean, spread) in enumerate(
            zip(model.classes, opinion.mean.tolist(), opinion.spread.tolist(), strict=True)
        )
    )
    return OpinionView(model.file.title, model.file.digest, model.recipe.name, len(opinion.subsets), shares)
