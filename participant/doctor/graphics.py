"""The GPU that training is to use: there, known to this torch, with memory free."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from participant.doctor.findings import Finding, fail, ok, warn
from participant.settings import Config, Home

_GB: Final = 1e9
_LEAST: Final = 4 * _GB


def graphics(_: Home, config: Config) -> Iterator[Finding]:
    """The device that `device` asks for: there, understood by this torch, with memory free."""
    if config.device == "cpu":
        yield ok("gpu", 'device is "cpu": none is used')
        return
    import torch

    if config.device == "mps" or (config.device == "auto" and torch.backends.mps.is_available()):
        yield _apple(available=torch.backends.mps.is_available())
        return
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        there = torch.cuda.is_available()
    if there:
        yield from map(_one_gpu, range(torch.cuda.device_count()))
        return
    why = f": {said[0].message}" if said else ""
    level = fail if config.device == "cuda" else warn
    if nvidia_here() and torch.version.cuda is None:
        words = f"this machine has an NVIDIA GPU, and torch {torch.__version__} is built without CUDA"
        yield level("gpu", words, "Install the build of torch for CUDA (docs/hospital.md, Install).")
    elif nvidia_here():
        words = f"torch {torch.__version__} (CUDA {torch.version.cuda}) cannot use this machine's NVIDIA GPU{why}"
        yield level("gpu", words, "Update the driver to one for that CUDA, or install torch for the older one.")
    elif config.device == "cuda":
        words = 'device is "cuda", and no NVIDIA GPU is seen here'
        yield fail("gpu", words, 'Hand it to the service or container (docs/hospital.md), or set device = "auto".')
    else:
        yield ok("gpu", "none here: training is on the CPU, slower and right")


def nvidia_here() -> bool:
    """Whether a driver or its tool is here, whatever torch sees."""
    return Path("/proc/driver/nvidia/version").exists() or shutil.which("nvidia-smi") is not None


def _one_gpu(number: int) -> Finding:
    import torch

    free, total = torch.cuda.mem_get_info(number)
    words = f"{torch.cuda.get_device_name(number)}, {free / _GB:.1f} of {total / _GB:.1f} GB free"
    try:
        torch.ones(1, device=f"cuda:{number}").add_(1).item()
    except RuntimeError as error:
        first = str(error).splitlines()[0]
        words = f"{words}; torch {torch.__version__} (CUDA {torch.version.cuda}) computes nothing on it: {first}"
        return fail("gpu", words, "Install a torch that knows this GPU, or a driver that knows this torch.")
    if free < _LEAST:
        return warn(
            "gpu", words, "See with nvidia-smi who else uses it; gpu_share in policy.toml is a bound, no claim."
        )
    return ok("gpu", words)


def _apple(*, available: bool) -> Finding:
    if available:
        return ok("gpu", "Apple's, through Metal")
    return fail(
        "gpu", 'device is "mps", which this machine or this torch has not', 'Set device = "auto" in config.toml.'
    )
