"""Makes `tiny_federation` importable, which tests/faults uses too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_federation as tiny


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tiny.Server]:
    with tiny.serving(tmp_path / "coordinator") as running:
        yield running
