"""Makes the modules beside it importable, and has what the samples are held against."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))
sys.path.insert(0, str(Path(__file__).parent))

import samples

from coordinator.app import create_app, open_services
from coordinator.settings import Settings


@pytest.fixture(scope="session")
def calls(tmp_path_factory: pytest.TempPathFactory) -> Iterator[samples.Calls]:
    """Every path of the service with its methods, as it describes itself."""
    services = open_services(Settings(data_dir=tmp_path_factory.mktemp("coordinator")))
    yield create_app(services).openapi()["paths"]
    services.store.close()


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, and no settings but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in samples.COORDINATOR_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path
