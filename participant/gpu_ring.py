"""Ring products on a GPU by torch, the very same as `crypto.ring.FftMultiplier` makes: for `seal`'s `multiplier`."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray

from crypto.parameters import N
from crypto.ring import TWIST, FftMultiplier, MakeMultiplier, spectrum

_HALF = N // 2


def multiplier_on(device: torch.device | str) -> MakeMultiplier:
    """What makes multipliers that compute on that device.

    Raises:
        ValueError: the device has no double precision (Apple's "mps"), without which products would not be exact.
    """
    device = torch.device(device)
    if device.type == "mps":
        raise ValueError("sealing on this GPU is not possible: it has no double precision. Seal on the processor")
    return partial(TorchMultiplier, device=device)


def multiplier_for(device: str) -> MakeMultiplier:
    """What seals soonest where training runs on `device`, as config.toml names it: CUDA where it is there."""
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    return multiplier_on("cuda") if cuda else FftMultiplier


class TorchMultiplier:
    """See `crypto.ring.Multiplier`; the method is that module's, with torch's transforms in double precision.

    Args and Raises: as `crypto.ring.spectrum`.
    """

    def __init__(self, small: NDArray[np.int64], device: torch.device) -> None:
        self._device = device
        self._spectrum = torch.from_numpy(spectrum(small)).to(device)
        self._twist = torch.from_numpy(TWIST).to(device)

    def __repr__(self) -> str:
        return f"TorchMultiplier(on {self._device}, polynomial hidden)"

    @torch.inference_mode()
    def __call__(self, polynomials: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """See `crypto.ring.Multiplier`."""
        words = torch.tensor(polynomials.view(np.int32), device=self._device)
        low, high = self._product(words & 0xFFFF), self._product((words >> 16) & 0xFFFF)
        low += high << 16
        products: NDArray[np.uint32] = low.to(torch.int32).cpu().numpy().view(np.uint32)
        return products

    def _product(self, limb: torch.Tensor) -> torch.Tensor:
        """The product of 16-bit coefficients, int64 [k, 2048]: its size stays below 2^42."""
        values = torch.complex(limb[:, :_HALF].double(), limb[:, _HALF:].double())
        values = torch.fft.fft(values * self._twist) * self._spectrum
        values = torch.fft.ifft(values, norm="forward") * self._twist.conj()
        return torch.cat([values.real, values.imag], dim=1).round().long()
