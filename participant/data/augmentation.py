"""Random changes of training inputs, so that a network does not learn one patient's exact position."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from torch import Tensor

_RATIO: Final = math.log(4 / 3)
_TRIES: Final = 10


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

        All that is random is drawn from `rng`, none from torch: threads that load ahead must not disturb dropout.

        Args:
            size: (height, width) that a crop is stretched to; without it that of the inputs.
        """
        if self.crop is not None:
            inputs = _cropped(inputs, self.crop, rng, size or (inputs.shape[-2], inputs.shape[-1]))
        if self.flip and rng.random() < 0.5:
            inputs = inputs.flip(-1)
        if self.rotation or self.shift:
            inputs = _moved(inputs, self.rotation, self.shift, rng)
        return inputs


def _cropped(inputs: Tensor, least: float, rng: np.random.Generator, size: tuple[int, int]) -> Tensor:
    import models.torchvision_shim  # noqa: F401  (before torchvision)

    # isort: split
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import resized_crop

    top, left, height, width = _part(inputs.shape[-2], inputs.shape[-1], least, rng)
    cropped: Tensor = resized_crop(
        inputs, top, left, height, width, list(size), interpolation=InterpolationMode.BILINEAR
    )
    return cropped


def _part(height: int, width: int, least: float, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a random part; the whole where ten draws are too wide or too high."""
    for _ in range(_TRIES):
        area = height * width * rng.uniform(least, 1)
        ratio = math.exp(rng.uniform(-_RATIO, _RATIO))
        high, wide = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 0 < high <= height and 0 < wide <= width:
            return int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1)), high, wide
    return 0, 0, height, width


def _moved(inputs: Tensor, rotation: float, shift: float, rng: np.random.Generator) -> Tensor:
    import models.torchvision_shim  # noqa: F401  (before torchvision)

    # isort: split
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2.functional import affine

    angle = float(rng.uniform(-rotation, rotation))
    across, down = (round(float(rng.uniform(-shift, shift)) * side) for side in (inputs.shape[-1], inputs.shape[-2]))
    moved: Tensor = affine(
        inputs,
        angle,
        translate=[across, down],
        scale=1.0,
        shear=[0.0, 0.0],
        interpolation=InterpolationMode.BILINEAR,
        fill=float(inputs.min()),
    )
    return moved
