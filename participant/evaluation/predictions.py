"""What a model says of one split of this site's cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, TypeAlias, cast, get_args

import numpy as np
from numpy.typing import NDArray

from crypto.layout import Layout
from participant.policy import Refused
from participant.progress import Advance
from participant.steps.desk import Desk

if TYPE_CHECKING:
    from participant.case_data import CaseData, Cases

Split: TypeAlias = Literal["validation", "test"]
SPLITS: Final[tuple[Split, ...]] = get_args(Split)


@dataclass(frozen=True)
class Predictions:
    """Class probabilities [n, C] of cases with labels [n], and whose they are [n]: the patients never leave this value.

    paths: of the cases. elsewhere: of the site's other cases, in other splits.
    """

    classes: tuple[str, ...]
    probabilities: NDArray[np.float32]
    labels: NDArray[np.int64]
    patients: NDArray[np.str_]
    paths: tuple[Path, ...]
    elsewhere: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        return f"Predictions({len(self)} cases)"


class ImageTrainer(Protocol):
    """What of `participant.training.Trainer` is needed here."""

    cases: CaseData

    def probabilities(
        self, vector: NDArray[np.float32], layout: Layout, split: Any, progress: Advance
    ) -> NDArray[np.float32]: ...


def predictions_of(desk: Desk, digest: str, split: Split) -> Predictions:
    """The model's predictions of the split's cases.

    Raises:
        Refused: the model is none of the study's layout, or the split has no cases.
    """
    site, study = desk.site, desk.study
    vector = site.models.vector(site.client, digest, desk.layout)
    trainer = cast(ImageTrainer, desk.trainer())  # the only kind there is, tests apart
    chosen = trainer.cases.validation if split == "validation" else trainer.cases.test
    if not len(chosen):
        words = f"there are no {split} cases here: name some in the column split of labels.csv, or add cases"
        raise Refused("no-cases", words)
    with site.reporter.work(f"{study.name}: {split} cases", lambda: None) as advance:
        probabilities = trainer.probabilities(vector, desk.layout, chosen, advance)
    everything = _paths([trainer.cases.training, trainer.cases.validation, trainer.cases.test])
    here = _paths([chosen])
    return Predictions(
        classes=chosen.classes,
        probabilities=probabilities,
        labels=chosen.labels,
        patients=np.array([case.patient for part in chosen.parts for case in part.cases]),
        paths=here,
        elsewhere=tuple(sorted(set(everything) - set(here))),
    )


def _paths(splits: Sequence[Cases]) -> tuple[Path, ...]:
    return tuple(case.path for split in splits for part in split.parts for case in part.cases)
