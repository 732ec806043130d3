"""What of this machine training may take, where it has other work, too."""

from __future__ import annotations

import math

from crypto.parallel import cores


def threads_of(share: float, configured: int | None) -> int | None:
    """CPU threads for training: of the cores that this process may use, that share, at least one.

    Args:
        configured: `threads` of config.toml, which may ask for fewer.

    Returns:
        None where nothing limits them.
    """
    if share == 1:
        return configured
    allowed = max(1, math.floor(share * cores()))
    return allowed if configured is None else min(allowed, configured)


def limit_gpu(share: float) -> None:
    """Let this process have that share of each GPU's memory at most; more is refused as if the GPU were full."""
    if share == 1:
        return
    import torch

    for device in range(torch.cuda.device_count()):
        torch.cuda.set_per_process_memory_fraction(share, device)
