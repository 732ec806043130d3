"""Where a network looked: Grad-CAM++ (Chattopadhay et al. 2018, arXiv:1710.11063), in 2D and 3D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.functional import interpolate

import models.torchvision_shim  # noqa: F401  (pytorch_grad_cam imports torchvision)

# isort: split
from pytorch_grad_cam import GradCAMPlusPlus


@dataclass(frozen=True, eq=False)
class Explained:
    """One input's scores [classes] (logits) and what speaks for each class: [classes, *size] in [0, 1]."""

    scores: NDArray[np.float32]
    maps: NDArray[np.float32]


def heat_map(model: nn.Module, inputs: torch.Tensor, target_class: int) -> NDArray[np.float32]:
    """What speaks for `target_class` in one input [1, channels, *size]: [*size] in [0, 1], 1 where it speaks loudest.

    As `heat_maps`; raises the same, and IndexError for a class that there is not.
    """
    found: NDArray[np.float32] = heat_maps(model, inputs, (target_class,)).maps[0]
    return found


def heat_maps(model: nn.Module, inputs: torch.Tensor, classes: tuple[int, ...] | None = None) -> Explained:
    """Scores, and the maps of these classes (all unless given), from one pass through the network.

    The maps are those of the submodule that the model names in `heat_map_layer`, interpolated to the input's size.
    Where nothing there speaks for a class, all of its map is zero. The model stays as it is, mode and gradients too.

    Raises:
        ValueError: more than one input, or a model that names no such layer.
    """
    if len(inputs) != 1:
        raise ValueError(f"a heat map is of one input, not of {len(inputs)}")
    if not hasattr(model, "heat_map_layer"):
        raise ValueError(f"{type(model).__name__} names no layer for heat maps; give it an attribute heat_map_layer")
    scores, seen, gradients = _forward_and_back(model, inputs, classes)
    maps = [_map(seen, gradient, inputs.shape[2:]) for gradient in gradients]
    return Explained(np.asarray(scores.cpu().numpy(), np.float32), np.stack(maps))


def _forward_and_back(
    model: nn.Module, inputs: torch.Tensor, classes: tuple[int, ...] | None
) -> tuple[torch.Tensor, torch.Tensor, list[torch.Tensor]]:
    """Scores [classes], the layer's activations, and the gradient of each class's score by them."""
    seen: list[torch.Tensor] = []

    def begin_here(module: nn.Module, given: Any, output: torch.Tensor) -> torch.Tensor:
        # Gradients are asked for from here on only: the way back to the input would take most of the time.
        seen.append(output.detach().requires_grad_())
        return seen[0].clone()  # what comes next may write in place

    was_training = model.training
    hook = model.get_submodule(str(model.heat_map_layer)).register_forward_hook(begin_here)
    try:
        model.eval()
        with torch.inference_mode(False), torch.enable_grad():
            scores = model(inputs.detach().clone())[0].float()
            wanted = range(len(scores)) if classes is None else classes
            gradients = [torch.autograd.grad(scores[each], seen[0], retain_graph=True)[0] for each in wanted]
    finally:
        hook.remove()
        model.train(was_training)
    return scores.detach(), seen[0].detach(), gradients


def _map(activations: torch.Tensor, gradients: torch.Tensor, size: torch.Size) -> NDArray[np.float32]:
    """The activations [1, channels, *their size], weighted by the library's rule, without what speaks against."""
    seen, slopes = activations.cpu().numpy(), gradients.cpu().numpy()
    weights = GradCAMPlusPlus.get_cam_weights(None, None, None, None, seen, slopes)  # looks at these two only
    found = torch.from_numpy(np.einsum("nc,nc...->n...", weights, seen)).float().clamp(min=0)[None]
    mode = "trilinear" if len(size) == 3 else "bilinear"
    fine = interpolate(found, size=size, mode=mode, align_corners=False)[0, 0]
    return np.asarray((fine / fine.max().clamp(min=torch.finfo(fine.dtype).tiny)).numpy(), np.float32)
