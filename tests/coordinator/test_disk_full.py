"""A disk that really is full: a file system of two megabytes. The round is put off, and goes on once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import conducted_federation
import pytest
from sqlalchemy.exc import OperationalError

from coordinator.store import audit

Federation = conducted_federation.Federation


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, 2 MB large."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", folder], capture_output=True).returncode:
        pytest.skip("only root may mount a file system of two megabytes")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.fixture
def fill(small_disk: Path) -> Callable[[], Path]:
    """`fill()` leaves not a byte free; deleting the file that it gives makes room again."""

    def fill() -> Path:
        ballast = small_disk / "ballast"
        with ballast.open("ab", buffering=0) as file, suppress(OSError):
            while file.write(bytes(4096)):
                pass
        room = os.statvfs(small_disk)
        assert room.f_bavail == 0
        return ballast

    return fill


@pytest.fixture(params=["blobs", "database"])
def federation(request: pytest.FixtureRequest, small_disk: Path, tmp_path: Path) -> Iterator[Federation]:
    """Blobs, or the database, lie on the small disk, and the other beside it."""
    made = Federation.fresh(tmp_path / "data")
    made.store.close()
    for name in ("blobs",) if request.param == "blobs" else ("c.db",):
        shutil.move(tmp_path / "data" / name, small_disk / name)
        (tmp_path / "data" / name).symlink_to(small_disk / name)
    moved = Federation(tmp_path / "data", made.clock)
    yield moved
    moved.store.close()


def test_a_full_disk_puts_every_step_off_and_fails_none(federation, fill, caplog) -> None:
    """Before the sums are written, and before the model is."""

    def stuck(state: str) -> None:
        caplog.clear()
        ballast = fill()
        for _ in range(3):
            with suppress(OperationalError):  # the conductor's loop logs it
                federation.conductor.advance_once()
        assert federation.newest().state == state, "nothing is lost"
        assert "full" in caplog.text
        ballast.unlink()
        federation.clock.advance(61)  # longer than any rest after an error
        federation.advance()

    federation.advance()
    federation.contribute()
    stuck("collecting" if _database(federation) else "aggregating")
    assert federation.newest().state == "opening"
    federation.vote()
    federation.advance()
    federation.open()
    stuck("opening")
    row = federation.newest() if federation.newest().kind == "training" else federation.rounds()[0]
    assert (row.state, row.reason) == ("complete", None)
    assert federation.store.read("verify", audit.verify) > 0


def _database(federation: Federation) -> bool:
    return (federation.root / "c.db").is_symlink()
