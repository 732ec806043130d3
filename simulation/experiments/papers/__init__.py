"""The papers' experiments, each as a value: what is run, and what stands in the paper beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from simulation.experiments.describe import Experiment, ScaleName
from simulation.experiments.papers import chexnet_transfer, fl_cxr, intermittent, ucadi, vgg16_transfer

EXPERIMENTS: Mapping[str, Callable[[ScaleName], Experiment]] = {
    "ucadi": ucadi.describe,
    "fl-cxr": fl_cxr.describe,
    "intermittent": intermittent.describe,
    "vgg16-transfer": vgg16_transfer.describe,
    "chexnet-transfer": chexnet_transfer.describe,
}
