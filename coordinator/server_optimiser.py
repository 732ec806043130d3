"""Optimisers on the opened mean: what is added to a model in the place of the plain mean update.

FedAvgM (Hsu et al. 2019), FedAdam and FedYogi (Reddi et al., ICLR 2021, algorithm 2: the second moment begins at tau^2,
nothing is corrected for a bias). With D the mean update, m and v the moments of each parameter, b1 the momentum:

    fedavgm   m = b1 m + D                                              step = lr m
    fedadam   m = b1 m + (1 - b1) D   v = b2 v + (1 - b2) D^2           step = lr m / (sqrt(v) + tau)
    fedyogi   the same                v = v - (1 - b2) D^2 sign(v - D^2)   the same
    average                                                             step = lr D

Buffers (running statistics) are averaged: they have no gradient. Moments are kept in float32, between rounds as a
safetensors file, "momentum/NAME" and "second_moment/NAME"; the arithmetic is float64.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from coordinator.terms import Server
from crypto.errors import Malformed
from crypto.layout import Layout, Tensor

_MOMENTS: Final = {
    "average": (),
    "fedavgm": ("momentum",),
    "fedadam": ("momentum", "second_moment"),
    "fedyogi": ("momentum", "second_moment"),
}
_LENGTH_BYTES: Final = 8
_PIECE: Final = 1 << 16  # values at a time in doubles

Doubles = NDArray[np.float64]
Moments = list[NDArray[np.float32]]


def keeps_state(rule: Server) -> bool:
    """Whether a round's step depends on more than its mean."""
    return bool(_MOMENTS[rule.optimizer])


def first_state(rule: Server, layout: Layout) -> bytearray:
    """The moments before the first round, as a file."""
    header, start = {}, 0
    for tensor, _ in _parameters(layout):
        for name in _MOMENTS[rule.optimizer]:
            end = start + 4 * tensor.size
            header[f"{name}/{tensor.name}"] = {"dtype": "F32", "shape": tensor.shape, "data_offsets": (start, end)}
            start = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    state = bytearray(len(text).to_bytes(_LENGTH_BYTES, "little") + text) + bytearray(start)
    for _, moments in _moments(rule, layout, state):
        for second in moments[1:]:
            second.fill(rule.tau**2)
    return state


def take_step(rule: Server, layout: Layout, mean: NDArray[np.float32], state: bytearray) -> None:
    """Put the step in the mean's place, and the moments after it in the state's.

    Args:
        mean: float32 [layout.size], the opened mean update.
        state: as `first_state` or the former round's step left it.

    Raises:
        Malformed: a state of another rule or layout.
    """
    for place, moments in _moments(rule, layout, state):
        values = mean[place]
        for start in range(0, values.size, _PIECE):
            piece = slice(start, start + _PIECE)
            former = [moment[piece].astype(np.float64) for moment in moments]
            step, later = _step(rule, values[piece].astype(np.float64), former)
            values[piece] = step
            for moment, new in zip(moments, later, strict=True):
                moment[piece] = new


def _step(rule: Server, delta: Doubles, moments: list[Doubles]) -> tuple[Doubles, list[Doubles]]:
    """The step of some values, and their moments after it."""
    if rule.optimizer == "average":
        return rule.lr * delta, []
    if rule.optimizer == "fedavgm":
        momentum = rule.momentum * moments[0] + delta
        return rule.lr * momentum, [momentum]
    momentum, square = rule.momentum * moments[0] + (1 - rule.momentum) * delta, delta**2
    if rule.optimizer == "fedadam":
        second = rule.beta2 * moments[1] + (1 - rule.beta2) * square
    else:
        second = moments[1] - (1 - rule.beta2) * square * np.sign(moments[1] - square)
    return rule.lr * momentum / (np.sqrt(second) + rule.tau), [momentum, second]


def _moments(rule: Server, layout: Layout, state: bytearray) -> Iterator[tuple[slice, Moments]]:
    """Each parameter's place in the flat vector, and its moments [size] as they lie in the file, to be written to."""
    names, parameters = _MOMENTS[rule.optimizer], list(_parameters(layout))
    at = _LENGTH_BYTES + int.from_bytes(state[:_LENGTH_BYTES], "little")
    if len(state) != at + 4 * len(names) * sum(tensor.size for tensor, _ in parameters):
        raise Malformed(f"the server optimiser's state is not that of {rule.optimizer} for this layout")
    for tensor, place in parameters:
        moments = []
        for _ in names:
            moments.append(np.frombuffer(state, "<f4", tensor.size, at))
            at += 4 * tensor.size
        yield place, moments


def _parameters(layout: Layout) -> Iterator[tuple[Tensor, slice]]:
    return ((tensor, place) for tensor, place in layout.slices() if tensor.kind == "parameter")
