"""Against client drift: what is added to the gradients at a site, so that sites with different cases part less."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Protocol

import torch
from torch import Tensor, nn

from crypto.layout import Layout
from models.flatten import Vector, controls


class Correction(Protocol):
    """Something that changes gradients between the backward pass and the optimiser's step."""

    def correct(self) -> None: ...


class Proximal:
    """FedProx (Li et al. 2020): the gradient of mu/2 ||w - w_0||^2, w_0 being the parameters' values at the start."""

    def __init__(self, parameters: Iterable[nn.Parameter], mu: float) -> None:
        self._starts = [(parameter, parameter.detach().clone()) for parameter in parameters]
        self._mu = mu

    def correct(self) -> None:
        for parameter, start in self._starts:
            if parameter.grad is not None:
                parameter.grad.add_(parameter.detach() - start, alpha=self._mu)


class ControlVariates:
    """SCAFFOLD (Karimireddy et al. 2020) at one site: each step follows g - c_i + c in place of the gradient g.

    Holds for gradient steps without momentum, at one learning rate for the whole round.

    Args:
        base: the round's base model, the shared control variates c in it.
        own: this site's c_i by parameter's name; 0 where it has none yet.
    """

    def __init__(self, network: nn.Module, layout: Layout, base: Vector, own: Mapping[str, Tensor]) -> None:
        self._parameters = {name: network.get_parameter(name) for name, _ in controls(layout)}
        self._places = dict(controls(layout))
        self._starts = {name: p.detach().clone() for name, p in self._parameters.items()}
        self._own = {name: own[name] if name in own else torch.zeros(p.shape) for name, p in self._parameters.items()}
        self._added = {name: self._difference(name, base) for name in self._parameters}

    def correct(self) -> None:
        for name, parameter in self._parameters.items():
            if parameter.grad is not None:
                parameter.grad.add_(self._added[name])

    def renewed(self, steps: int, lr: float) -> dict[str, Tensor]:
        """The site's next c_i after that many steps: c_i - c + (x - y) / (steps lr), x and y before and after (their
        option II)."""
        after = {name: parameter.detach() for name, parameter in self._parameters.items()}
        return {
            name: ((self._starts[name] - after[name]) / (steps * lr) - self._added[name]).cpu()
            for name in self._parameters
        }

    def put(self, vector: Vector, base: Vector, renewed: Mapping[str, Tensor], share: float) -> None:
        """Into a trained model's vector: c + share (new c_i - c_i), so that the update's mean over the sites that took
        part is what changes the mean over all sites, of which they are that share.

        Where all take part it is the new c_i, whose mean is the new c whatever c was: the published increments keep for
        ever what c lacks of the mean once a site has joined, left or failed to deliver.
        """
        for name, place in self._places.items():
            if share == 1:
                vector[place] = renewed[name].reshape(-1).numpy()
            else:
                change = (renewed[name] - self._own[name]).reshape(-1).numpy()
                vector[place] = base[place] + share * change

    def _difference(self, name: str, base: Vector) -> Tensor:
        """c - c_i, where the parameter is."""
        parameter = self._parameters[name]
        shared = torch.from_numpy(base[self._places[name]].copy()).reshape(parameter.shape)
        return (shared - self._own[name]).to(parameter.device)
