"""Makes `small_volumes` and `lying_coordinator` importable, and a site of such volumes for all tests of training."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import small_volumes


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_volumes.write_site(tmp_path_factory.mktemp("site"), (10, 10, 10))
