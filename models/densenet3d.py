"""UCADI's 3D-DenseNet (doi:10.1101/2020.05.10.20096073): 726,972 parameters at four classes.

What the paper's text leaves out, as in its code: batch norm and activation come before each convolution but the first,
and every convolution has a bias.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.dropblock import DropBlock3d, ScheduledDropBlock3d

SMALLEST_SIDE = 4  # the two transitions halve each side


class DenseLayer(nn.Module):
    """A bottleneck layer of Huang et al. 2017: its output is the input with `growth` channels added."""

    def __init__(self, channels: int, growth: int, bottleneck: int) -> None:
        super().__init__()
        inner = bottleneck * growth
        self.layers = nn.Sequential(
            *_norm_and_act(channels),
            nn.Conv3d(channels, inner, kernel_size=1),
            *_norm_and_act(inner),
            nn.Conv3d(inner, growth, kernel_size=3, padding=1),
        )

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([features, self.layers(features)], dim=1)


class DenseNet3d(nn.Module):
    """Scores (logits) [batch, classes] of volumes [batch, channels, depth, height, width].

    Each side is 4 voxels or more. The options are the published ones; `stem_drop` and `final_drop` are the shares that
    DropBlock takes out after the stem and, growing over `final_drop_steps` training steps, before the pool.

    Raises:
        ValueError: options that make no network, or, in use, an input of another form.
    """

    dimensions = 3
    # What the pool averages. The stage before it ends in convolutions, whose values of either sign the rule of
    # Grad-CAM++ was not made for: of 15 phantoms its maps missed the lesion's lung in 2, these in none.
    heat_map_layer = "head.1"

    def __init__(
        self,
        classes: int,
        channels: int = 1,
        *,
        width: int = 32,
        growth: int = 32,
        bottleneck: int = 4,
        stem_drop: float = 0.1,
        final_drop: float = 0.5,
        final_drop_steps: int = 5000,
        drop_block: int = 5,
    ) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            nn.Conv3d(channels, width, kernel_size=3, padding=1),
            *_norm_and_act(width),
            DropBlock3d(stem_drop, drop_block),
        )
        self.stages = nn.Sequential()
        for stage in range(3):
            if stage:
                self.stages.append(_transition(width))
                width //= 2
            self.stages.append(nn.Sequential(*(DenseLayer(width + i * growth, growth, bottleneck) for i in range(2))))
            width += 2 * growth
        self.head = nn.Sequential(
            *_norm_and_act(width),
            ScheduledDropBlock3d(final_drop, final_drop_steps, drop_block),
            nn.AdaptiveAvgPool3d(1),
            nn.Flatten(),
            nn.Linear(width, classes),
        )
        self.apply(_initialise)

    def forward(self, volumes: Tensor) -> Tensor:
        if volumes.ndim != 5 or min(volumes.shape[2:]) < SMALLEST_SIDE:
            raise ValueError(
                f"densenet3d takes [batch, channels, depth, height, width] with sides of {SMALLEST_SIDE} or more, "
                f"not {list(volumes.shape)}"
            )
        scores: Tensor = self.head(self.stages(self.stem(volumes)))
        return scores


def _norm_and_act(channels: int) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm3d(channels), nn.LeakyReLU(0.1, inplace=True)


def _transition(channels: int) -> nn.Sequential:
    return nn.Sequential(*_norm_and_act(channels), nn.Conv3d(channels, channels // 2, kernel_size=1), nn.AvgPool3d(2))


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv3d | nn.Linear):
        nn.init.kaiming_uniform_(module.weight)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
