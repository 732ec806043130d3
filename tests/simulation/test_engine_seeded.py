"""Keys come from the operating system everywhere but in a simulation that asked for other ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from crypto.sampling import fresh_key
from simulation.engine.seeded import seeded

ROOT = Path(__file__).parents[2]
PACKAGES = ("crypto", "models", "coordinator", "participant", "simulation", "migrations")


def keys(seed: int = 1, site: str = "a", number: int = 1, attempt: int = 1) -> list[bytes]:
    with seeded(seed, site, number, attempt):
        return [fresh_key() for _ in range(3)]


def test_keys_follow_from_seed_site_round_and_attempt() -> None:
    assert keys() == keys()
    others = [keys(seed=2), keys(site="b"), keys(number=2), keys(attempt=2)]
    drawn = [key for row in [keys(), *others] for key in row]
    assert len(set(drawn)) == len(drawn)
    assert {len(key) for key in drawn} == {32}


def test_afterwards_they_come_from_the_system_again() -> None:
    with pytest.raises(RuntimeError), seeded(1, "a", 1, 1):
        raise RuntimeError
    assert fresh_key() != fresh_key()
    assert fresh_key() not in keys()


def test_only_the_simulation_can_say_where_keys_come_from() -> None:
    """The import contract keeps agents and coordinators out; this keeps everybody else out, too."""
    users = {
        str(file.relative_to(ROOT))
        for package in PACKAGES
        for file in (ROOT / package).rglob("*.py")
        if re.search(r"crypto(\.|\s+import\s+)randomness", file.read_text())
    }
    assert users == {"crypto/sampling.py", "simulation/engine/seeded.py"}
