"""From a recipe's training settings to the things that apply them: optimiser, loss weights, precision, seeds."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from models.recipe import Recipe
from models.recipe_sections import Training
from participant.terms import RoundTerms

log = logging.getLogger(__name__)

# Seen with torch 2.13 on a CPU: in bf16 the weights' gradient of a 3x3x3 convolution takes in memory that nothing wrote
# (now and then NaN) where its input is shallower than the kernel. UCADI's network halves the depth twice.
SHALLOWEST_BF16 = 12

Precision = Literal["32-true", "bf16-mixed"]
Wish = Literal["auto", "32", "bf16"]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.modules.instancenorm._InstanceNorm)


def learning_rate(recipe: Recipe, terms: RoundTerms) -> float:
    """The learning rate of a round: it rises in equal steps over the warm-up rounds, and follows the schedule after.

    Cosine (Loshchilov and Hutter 2017) makes one step a round, and beyond the last one stays as in it: rounds that were
    lost do not make it rise again. A plateau's rate comes with the terms.
    """
    training, warmup = recipe.training, recipe.training.warmup_rounds
    lr = training.lr * terms.rate
    if terms.round <= warmup:
        return lr * terms.round / (warmup + 1)
    if training.schedule != "cosine":
        return lr
    rounds = recipe.federation.rounds - warmup
    done = min(terms.round - warmup - 1, rounds - 1) / rounds
    return lr * (1 + math.cos(math.pi * done)) / 2


def optimizer_for(network: nn.Module, training: Training, lr: float) -> torch.optim.Optimizer:
    """SGD or Adam over what is not frozen, at rate `lr`, with weight decay where the recipe wants it."""
    decayed, free = _by_decay(network, training.no_decay_on_norm_and_bias)
    groups = [{"params": decayed, "weight_decay": training.weight_decay}, {"params": free, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    if training.optimizer == "adam":
        return torch.optim.Adam(groups, lr=lr)
    return torch.optim.SGD(groups, lr=lr, momentum=training.momentum)


def go_on(optimizer: torch.optim.Optimizer, moments: dict[str, Any], lr: float) -> None:
    """Take over an earlier optimiser's state; the rate is the round's own."""
    optimizer.load_state_dict(moments)
    for group in optimizer.param_groups:
        group["lr"] = lr


def class_weights(recipe: Recipe, cases: Sequence[int]) -> Tensor | None:
    """Weight of each class in the cross entropy, shape (classes,); None where all are alike.

    Over the site's training cases, of which there are `cases` of each class, weights are 1 on average. Balanced ones go
    by 1 / n_k, and are 0 for a class without any.
    """
    wanted = recipe.training.class_weights
    if wanted == "none":
        return None
    weights = [1 / count if count else 0.0 for count in cases] if wanted == "balanced" else wanted
    total = sum(weight * count for weight, count in zip(weights, cases, strict=True))
    scale = sum(cases) / total if total else 0.0
    return torch.tensor([weight * scale for weight in weights])


def weighted_loss(scores: Tensor, labels: Tensor, weights: Tensor | None) -> Tensor:
    """The mean over the batch of each case's cross entropy times its class's weight; scores [n, classes].

    Divided by the cases, as in Keras, and not by the batch's own weights, as in torch: there a case that is the only
    one of weight 12 among eight counts for five.
    """
    if weights is None:
        return functional.cross_entropy(scores, labels)
    total = functional.cross_entropy(scores, labels, weight=weights.to(scores.device), reduction="sum")
    return total / len(labels)


def frozen_norms(network: nn.Module, frozen: Sequence[str]) -> Iterator[nn.Module]:
    """The norms that are frozen whole: in training, too, they have to use their statistics and not renew them.

    `frozen`: the recipe's patterns. A norm's parameters decide, or its buffers where it has none.
    """
    for prefix, module in network.named_modules():
        if isinstance(module, _NORMS):
            parameters, buffers = (
                module.named_parameters(prefix, recurse=False),
                module.named_buffers(prefix, recurse=False),
            )
            names = [name for name, _ in parameters] or [name for name, _ in buffers]
            if names and all(any(fnmatchcase(name, pattern) for pattern in frozen) for name in names):
                yield module


def precision_for(recipe: Recipe, device: torch.device, wish: Wish = "auto") -> Precision:
    """What Fabric computes in; `wish` is for recipes that leave it open.

    "auto" is bf16 beside float32 weights where the device multiplies bf16 itself, which is fastest wherever it was
    measured (docs/benchmarks.md). Gradients that are clipped case by case are always of float32.
    """
    wanted = wish if recipe.training.precision == "auto" else recipe.training.precision
    if recipe.training.dp_sgd is not None or wanted == "32" or (wanted == "auto" and not _has_bf16(device)):
        return "32-true"
    if device.type == "cpu" and recipe.input.modality == "ct" and recipe.input.size[0] < SHALLOWEST_BF16:
        if wanted == "bf16":
            log.warning(
                "torch has no sound bf16 on a CPU for volumes of fewer than %d slices: float32", SHALLOWEST_BF16
            )
        return "32-true"
    return "bf16-mixed"


def seed_of(seed: int, *purpose: str | int) -> int:
    """A seed of 63 bits of its own for each purpose, so that no two draws at a site go alike."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> 1


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's global generator, from which dropout draws, starts at `seed` within, and goes on as before after it."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def _by_decay(network: nn.Module, spare: bool) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Trained parameters with and without weight decay; with `spare`, biases and all of a norm go without."""
    decayed: list[nn.Parameter] = []
    free: list[nn.Parameter] = []
    for module in network.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.requires_grad:
                spared = spare and (name == "bias" or isinstance(module, _NORMS))
                (free if spared else decayed).append(parameter)
    return decayed, free


def _has_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
