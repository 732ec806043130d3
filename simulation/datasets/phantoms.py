"""Sets of phantoms of any size, drawn once and kept in a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from crypto.canonical import digest
from participant.data.cases import TABLE
from simulation.datasets.dataset import Dataset, Row, Terms
from simulation.datasets.files import write_table
from simulation.datasets.layouts import read_folders, read_table
from simulation.phantoms import CT_CLASSES, SITES, XRAY_CLASSES, Difficulty, Scanner, make_hospital
from simulation.phantoms.hospital import Kind

FORM = 1  # of what is drawn: raise it when the phantoms change, so that old ones are not used
#: A fourth hospital unlike the three: thick, soft slices of large patients, its calibration so far off that lesions
#: look thin.
FOURTH = Scanner("site-4", slice_thickness=14.0, noise=26.0, blur=2.8, offset=-60, patient_size=1.1, field_of_view=340)
TERMS = Terms("Apache-2.0, as this program", "drawn by simulation/phantoms", "Phantoms: no patient, no disease.")


@dataclass(frozen=True)
class Phantoms:
    """What to draw: `cases` of each class from each scanner, which is the rows' source.

    matrix (pixels a side), slice_thickness (mm): of all scanners, in place of their own. difficulty: 0 to 1.
    """

    kind: Kind
    cases: int = 12
    scanners: tuple[Scanner, ...] = SITES
    difficulty: float = 0.5
    seed: int = 1
    matrix: int | None = None
    slice_thickness: float | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        return CT_CLASSES if self.kind == "ct" else XRAY_CLASSES

    def scanner(self, number: int) -> Scanner:
        """The scanner of that number, with the size that all share."""
        own = self.scanners[number]
        return replace(
            own, matrix=self.matrix or own.matrix, slice_thickness=self.slice_thickness or own.slice_thickness
        )


#: Those that `open_dataset` knows by name.
PHANTOMS = {"phantoms-ct": Phantoms("ct"), "phantoms-xray": Phantoms("xray")}


def phantom_dataset(
    root: Path,
    phantoms: Phantoms,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Dataset:
    """The set, drawn into a folder of its own under `root` by `workers` processes unless it is there already."""
    folder = root / f"phantoms-{phantoms.kind}-{digest([FORM, asdict(phantoms)])[:16]}"
    if not (folder / TABLE).is_file():
        write_table(folder, _drawn(folder, phantoms, workers, progress))
    return Dataset(f"phantoms-{phantoms.kind}", phantoms.classes, tuple(read_table(folder)), TERMS)


def _drawn(folder: Path, phantoms: Phantoms, workers: int, progress: Callable[[int, int], None]) -> list[Row]:
    each = phantoms.cases * len(phantoms.classes)
    rows = []
    for number in range(len(phantoms.scanners)):
        scanner, before = phantoms.scanner(number), number * each
        make_hospital(
            folder / scanner.name,
            dict.fromkeys(phantoms.classes, phantoms.cases),
            scanner,
            phantoms.seed * 1000 + number + 1,
            phantoms.kind,
            difficulty=Difficulty(phantoms.difficulty),
            workers=workers,
            progress=lambda done, _, before=before: progress(before + done, each * len(phantoms.scanners)),  # type: ignore[misc]
        )
        rows += [replace(row, source=scanner.name) for row in read_folders(folder / scanner.name)]
    return rows
