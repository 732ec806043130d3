"""How fast `pleura-participant import folder` is beside the disk: synthetic DICOM series imported, and the same copied.

From the repository root, in a few minutes; it needs three times the bytes it imports in free space (6.5 GB):

    python -m benchmarks.importing

Both write with as many threads and wait until each file is on the disk. Importing reads every header and writes every
file anew without the patient; the copy just copies. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from participant.data.importing.collection import Collection
from participant.data.importing.folder import THREADS, import_found, look_through
from participant.data.importing.intake import Intake
from participant.data.importing.pseudonyms import Pseudonyms
from participant.data.importing.series import Wanted
from simulation.phantoms.files import PatientLabel, write_dicom_series
from simulation.phantoms.geometry import Grid


def write_export(folder: Path, series: int, slices: int, size: int) -> None:
    """Series of noise, a patient each, in folders as an archive names them."""
    hu = np.random.default_rng(0).normal(-800, 200, (slices, size, size))
    grid = Grid(hu.shape, (5.0, 0.7, 0.7), (0.0, 0.0, 0.0))
    for number in range(series):
        place = folder / f"DISK{number // 100:02}" / f"{number:05}"
        write_dicom_series(hu, grid, place, PatientLabel(f"P-{number}", "F", 61), "scanner", number)


def copy_synced(source: Path, target: Path) -> None:
    """Copy a folder's files, each on the disk before the next."""
    files = [path for path in source.rglob("*") if path.is_file()]
    for folder in {path.parent for path in files}:
        (target / folder.relative_to(source)).mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda path: _copy(path, target / path.relative_to(source)), files))


def _copy(path: Path, target: Path) -> None:
    with path.open("rb") as read, target.open("wb") as written:
        shutil.copyfileobj(read, written, 1 << 20)
        written.flush()
        os.fsync(written.fileno())


def import_export(source: Path, target: Path, slices: int) -> int:
    """Import the folder; how many series came in."""
    pseudonyms = Pseudonyms(bytes(32))
    with Collection.opened(target, pseudonyms) as collection:
        found = look_through(source, target, _silent)
        return len(import_found(found, Intake(collection, pseudonyms), Wanted(slices), _silent).imported)


@contextmanager
def _timed(seconds: dict[str, float], what: str) -> Iterator[None]:
    start = time.perf_counter()
    yield
    seconds[what] = time.perf_counter() - start


def _silent(done: int, total: int) -> None:
    """Nobody watches."""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--series", type=int, default=2000)
    parser.add_argument("--slices", type=int, default=8)
    parser.add_argument("--size", type=int, default=256, help="rows and columns of a slice")
    parser.add_argument("--folder", type=Path, help="where to work: on the disk to be measured")
    given = parser.parse_args()
    seconds: dict[str, float] = {}
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        write_export(folder / "export", given.series, given.slices, given.size)
        os.sync()
        size = sum(path.stat().st_size for path in (folder / "export").rglob("*") if path.is_file()) / 1e6
        with _timed(seconds, "copy"):
            copy_synced(folder / "export", folder / "copy")
        with _timed(seconds, "import"):
            imported = import_export(folder / "export", folder / "data", given.slices)
    rates = {what: size / taken for what, taken in seconds.items()}
    print(
        json.dumps(
            {
                "series": imported,
                "files": given.series * given.slices,
                "megabytes": round(size),
                **{f"{what}_seconds": round(taken, 1) for what, taken in seconds.items()},
                **{f"{what}_megabytes_per_second": round(rate, 1) for what, rate in rates.items()},
                "import_by_copy": round(rates["import"] / rates["copy"], 2),
            }
        )
    )


if __name__ == "__main__":
    main()
