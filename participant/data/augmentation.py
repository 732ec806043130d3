"""Random changes of training inputs, so that a network does not learn one patient's exact position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Augmentation:
    """What may be changed, each input by a random amount.

    crop: a part is cut out and stretched to the wanted size (a random resized crop, Szegedy et al. 2015): at least this
    share of the area, its sides' ratio changed by up to 4 to 3; None cuts nothing.
    flip: left and right change places, in half the inputs (this also moves the heart).
    rotation: up to so many degrees in plane. shift: up to so large a share of a side, in each direction.
    All slices of a CT are changed alike.
    """

    flip: bool = False
    rotation: float = 0.0
    shift: float = 0.0
    crop: float | None = None

    def __call__(self, inputs: Tensor, rng: np.random.Generator, size: tuple[int, int] | None = None) -> Tensor:
        """`inputs` [..., height, width] changed; where nothing moves in, the darkest value is put.

        Args:
            size: (height, width) that a crop is stretched to; without it that of the inputs.
        """
        if self == Augmentation():
            return inputs
        import models.torchvision_shim  # noqa: F401  (before torchvision)

        # isort: split
        from torchvision.transforms import v2

        bilinear = v2.InterpolationMode.BILINEAR
        steps: list[v2.Transform] = []
        if self.crop is not None:
            steps.append(
                v2.RandomResizedCrop(list(size or inputs.shape[-2:]), (self.crop, 1.0), interpolation=bilinear)
            )
        if self.flip:
            steps.append(v2.RandomHorizontalFlip())
        if self.rotation or self.shift:
            shift = (self.shift, self.shift) if self.shift else None
            steps.append(v2.RandomAffine(self.rotation, shift, interpolation=bilinear, fill=float(inputs.min())))
        # These transforms draw from torch's global generator, which others use too: it is put back.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**63)))
            changed: Tensor = v2.Compose(steps)(inputs)
        return changed
