"""Which slices of a CT the network is given, and how what it makes of them is laid back on the scan's own slices.

In training a subset begins anywhere. Here as many begin at even distances as cover every slice, at least the recipe's
number: what is shown is of the whole scan, and the same at every look.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from participant.data.preprocessing import CTSettings, slice_step


@dataclass(frozen=True, eq=False)
class Window:
    """One input of the network. places [depth]: the scan's slices that it is made of, each repeated in short scans."""

    places: NDArray[np.int64]

    def inputs(self, prepared: NDArray[np.float16], settings: CTSettings) -> Tensor:
        """float32 [1, 1, depth, height, width], z-scored."""
        taken = torch.from_numpy(prepared[self.places].astype(np.float32))
        return ((taken - settings.mean) / settings.std)[None, None]

    def weights(self, slices: int) -> NDArray[np.float32]:
        """[slices, depth]: what each slice of the scan takes from each place; slices between two take from both."""
        own = np.arange(len(self.places))
        if slices < len(self.places):
            shared = self.places == np.arange(slices)[:, None]
            return np.asarray(shared / shared.sum(axis=1, keepdims=True), np.float32)
        tent = [np.interp(np.arange(slices), self.places, own == each, left=0, right=0) for each in own]
        return np.stack(tent, axis=1).astype(np.float32)


def windows(slices: int, settings: CTSettings, least: int) -> list[Window]:
    """`least` windows on a scan of so many slices, or more where those would not cover it; 1 on a short scan."""
    depth = settings.size[0]
    if slices < depth:
        return [Window(np.arange(depth) * slices // depth)]
    step = slice_step(slices, settings)
    span = (depth - 1) * step + 1
    count = max(least, -(-slices // span))
    starts = np.unique(np.rint(np.linspace(0, slices - span, count)).astype(np.int64))
    return [Window(start + step * np.arange(depth)) for start in starts]
