"""Random changes of training inputs, so that a network does not learn one patient's exact position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What may be changed, each input by a random amount.

    flip: left and right change places, in half the inputs (this also moves the heart).
    rotation: up to so many degrees in plane. shift: up to so large a share of a side, in each direction.
    """

    flip: bool = False
    rotation: float = 0.0
    shift: float = 0.0

    def __call__(self, inputs: Tensor, rng: np.random.Generator) -> Tensor:
        """`inputs` [..., height, width] changed; where nothing moves in, the darkest value is put."""
        if self == Augmentation():
            return inputs
        import models.torchvision_shim  # noqa: F401  (before torchvision)

        # isort: split
        from torchvision.transforms import v2

        steps: list[v2.Transform] = [v2.RandomHorizontalFlip()] if self.flip else []
        if self.rotation or self.shift:
            shift = (self.shift, self.shift) if self.shift else None
            bilinear = v2.InterpolationMode.BILINEAR
            steps.append(v2.RandomAffine(self.rotation, shift, interpolation=bilinear, fill=float(inputs.min())))
        # These transforms draw from torch's global generator, which others use too: it is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            changed: Tensor = v2.Compose(steps)(inputs)
        return changed
