"""One round's steps in order, from the first one, or from where a crash broke them off."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import TypeAlias

from torch import Tensor, nn

from participant.case_data import Cases, batches, steps_per_epoch
from participant.optimise import seed_of
from participant.training.steps import Steps
from participant.training.unfinished import UnfinishedRound

log = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[int, int], None]
"""Called with (steps done, steps in all); may raise to end the work early."""

Batches: TypeAlias = Iterator[tuple[Tensor, Tensor]]


def training_batches(
    cases: Cases, batch: int, steps: int, seed: int, skip: int = 0, share: tuple[int, int] = (0, 1)
) -> Batches:
    """As many batches as a round has steps but the first `skip`, epoch after epoch, each in an order of its own.

    share: as for `batches`.
    """
    first, within = divmod(skip, steps_per_epoch(len(cases), batch))
    epochs = (
        batches(cases, batch, seed_of(seed, epoch), skip=within if epoch == first else 0, share=share)
        for epoch in itertools.count(first)
    )
    return itertools.islice(itertools.chain.from_iterable(epochs), steps - skip)


def run(
    steps: Steps,
    network: nn.Module,
    batches_after: Callable[[int], Batches],
    unfinished: UnfinishedRound | None,
    total: int,
    progress: Progress,
) -> list[float]:
    """Make the steps; the loss of each, those before a crash included.

    Args:
        batches_after: the batches of all steps but the first so many.
        unfinished: where checkpoints are; None keeps none.
    """
    found, losses = unfinished.read() if unfinished is not None else None, list[float]()
    if found is not None:
        found.put_into(network, steps.optimizer)
        losses = found.losses
        log.info("going on after %d of %d steps", len(losses), total)
    for inputs, labels in batches_after(len(losses)):
        if found is not None:
            found.go_on_drawing()  # not before: an epoch entered in its middle has drawn once more
            found = None
        elif unfinished is not None:
            unfinished.tend(network, steps.optimizer, losses)
        losses.append(steps.step(len(losses), inputs, labels))
        progress(len(losses), total)
    return losses
