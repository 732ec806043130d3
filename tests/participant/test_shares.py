"""What of the machine training may take."""

from __future__ import annotations

import pytest
import torch

from participant import shares


@pytest.mark.parametrize(
    ("share", "configured", "threads"),
    [(1.0, None, None), (1.0, 6, 6), (0.5, None, 4), (0.5, 2, 2), (0.5, 16, 4), (0.05, None, 1)],
)
def test_threads(monkeypatch: pytest.MonkeyPatch, share: float, configured: int | None, threads: int | None) -> None:
    monkeypatch.setattr(shares, "cores", lambda: 8)
    assert shares.threads_of(share, configured) == threads


def test_each_gpu_is_limited_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    limits: dict[int, float] = {}
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(
        torch.cuda, "set_per_process_memory_fraction", lambda share, device: limits.update({device: share})
    )
    shares.limit_gpu(1.0)
    assert limits == {}
    shares.limit_gpu(0.4)
    assert limits == {0: 0.4, 1: 0.4}


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_refuses_more_than_its_share() -> None:
    total = torch.cuda.get_device_properties(0).total_memory
    shares.limit_gpu(0.05)
    try:
        torch.empty(int(0.02 * total), dtype=torch.uint8, device="cuda")
        with pytest.raises(torch.cuda.OutOfMemoryError):
            torch.empty(int(0.1 * total), dtype=torch.uint8, device="cuda")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0, 0)
        torch.cuda.empty_cache()
