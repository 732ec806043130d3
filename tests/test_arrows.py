"""The arrows between packages hold, and would be seen if they did not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

BLOCKED = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        refused = {"torch", "torchvision", "monai", "models", "participant"}
        numbers = {"models", "models.pooled", "models.statistics"}
        if name.split(".")[0] in refused and name not in numbers or name == "crypto.ckks_secret":
            raise ImportError("refused: " + name)

sys.meta_path.insert(0, Refuse())
"""


def _python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_the_coordinator_imports_without_torch_and_without_secret_keys() -> None:
    done = _python(BLOCKED + "import coordinator.app, coordinator.cli, coordinator.conductor, migrations")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["participant", "models.evaluation", "crypto.ckks_secret"])
def test_the_block_would_be_noticed(module: str) -> None:
    assert f"refused: {module}" in _python(BLOCKED + f"import {module}").stderr


def test_import_contracts_hold() -> None:
    lint_imports = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([lint_imports, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout
