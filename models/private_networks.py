"""Which networks can be trained with example-level differential privacy: what Opacus says of their layers."""

from __future__ import annotations

from opacus import GradSampleModule
from opacus.validators import ModuleValidator
from torch import nn


def refused_layers(network: nn.Module) -> list[str]:
    """Names of the layers that mix the cases of a batch, or keep statistics of them, while they train.

    A batch norm whose parameters are all frozen uses the statistics that it has, and is none of these.
    """
    return [name for name, module in network.named_modules() if _refused(module)]


def _refused(module: nn.Module) -> bool:
    own = list(module.parameters(recurse=False))
    if isinstance(module, nn.modules.batchnorm._BatchNorm):  # without parameters, too, which Opacus does not look at
        return not own or any(parameter.requires_grad for parameter in own)
    if any(module.children()) or not any(parameter.requires_grad for parameter in own):
        return False
    return bool(ModuleValidator.validate(module.train()) or GradSampleModule.validate(module))
