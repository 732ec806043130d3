"""DropBlock for volumes: dropout that takes out whole blocks (Ghiasi, Lin and Le 2018, arXiv:1810.12890)."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class DropBlock3d(nn.Module):
    """Zeroes blocks of a feature map while training, each channel on its own, and rescales what is left.

    `drop` is the share of a feature map to take out and `block` the side of a block, in voxels. An axis shorter than
    that is taken out over its whole length, so that small volumes lose as much as large ones.
    Input and output: [batch, channels, depth, height, width].
    """

    def __init__(self, drop: float, block: int = 5) -> None:
        super().__init__()
        if not 0 <= drop < 1 or block < 1:
            raise ValueError(
                f"DropBlock takes out a share in [0, 1) in blocks of 1 voxel or more, not {drop} and {block}"
            )
        self.drop = drop
        self.block = block

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return features
        return drop_blocks(features, self.drop, self.block)


class ScheduledDropBlock3d(DropBlock3d):
    """DropBlock whose share grows in equal steps from 0 to `drop` over `steps` forward passes in training.

    The count of passes is an integer buffer: it stays with the site that made them and is not averaged.
    """

    taken: Tensor

    def __init__(self, drop: float, steps: int, block: int = 5) -> None:
        super().__init__(drop, block)
        if steps < 1:
            raise ValueError(f"a schedule takes at least one step, not {steps}")
        self.steps = steps
        self.register_buffer("taken", torch.zeros((), dtype=torch.int64))

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return features
        self.taken += 1
        share = self.drop * min(int(self.taken) / self.steps, 1.0)
        return drop_blocks(features, share, self.block)


def drop_blocks(features: Tensor, drop: float, block: int) -> Tensor:
    """One application: blocks start at Bernoulli(gamma) points from which they fit into the map, gamma as published
    (its equation 1, with a side for each axis), and the sum over the whole batch is kept in expectation."""
    if drop == 0:
        return features
    sides = features.shape[2:]
    blocks = [min(block, side) for side in sides]
    starts = [side - length + 1 for side, length in zip(sides, blocks, strict=True)]
    gamma = drop * math.prod(sides) / (math.prod(blocks) * math.prod(starts))
    seeds = torch.rand((*features.shape[:2], *starts), device=features.device) < gamma
    kept = 1 - _grown(seeds.to(features.dtype), blocks)
    scale = kept.numel() / kept.sum(dtype=torch.float32).clamp(min=1)
    return features * (kept * scale.to(kept.dtype))


def _grown(seeds: Tensor, blocks: list[int]) -> Tensor:
    """1 wherever a block lies that starts at a seed. One axis after the other: 15 comparisons a voxel, not 125."""
    for axis, length in enumerate(blocks):
        kernel = [length if other == axis else 1 for other in range(3)]
        padding = [length - 1 if other == axis else 0 for other in range(3)]
        before_and_after = [side for width in reversed(padding) for side in (width, width)]
        seeds = functional.max_pool3d(functional.pad(seeds, before_and_after), kernel, stride=1)
    return seeds
