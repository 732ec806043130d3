"""The sets that are known by name, with their terms, and opening any set that has a known layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from participant.data.errors import DataProblems
from simulation.datasets.dataset import Dataset, Terms
from simulation.datasets.layouts import METADATA, covidx_lists, read_layout
from simulation.datasets.phantoms import PHANTOMS, phantom_dataset

COHEN = "Cohen et al., COVID-19 Image Data Collection, arXiv:2003.11597 and arXiv:2006.11988"
NIH = "Wang et al., ChestX-ray8, CVPR 2017, doi:10.1109/CVPR.2017.369 (labels text-mined from reports)"
CLASS_IS_SOURCE = (
    "The class is also the source: COVID-19 films are scraped figures with letters and arrows, the others one "
    "hospital's, so high COVID-19 accuracy is partly source detection. Nothing here is clinical performance."
)
TESTING = "for testing only"

#: What is said of a set that goes by this name.
TERMS: dict[str, Terms] = {
    "xray-3class": Terms(f"mixed or unstated, {TESTING}", f"{COHEN}; {NIH}", CLASS_IS_SOURCE),
    "xray-originals": Terms(f"mixed or unstated, {TESTING}", f"{COHEN}; {NIH}", "Nine films, for the readers."),
    "xray-2class": Terms(
        "CC BY 4.0",
        "Kermany et al., Cell 172 (2018), doi:10.1016/j.cell.2018.02.010",
        "Children aged 1 to 5 of one hospital, 224 pixels, strongly compressed. Nothing here is clinical performance.",
    ),
    "ct-dicom": Terms(
        f"not stated with the sample, {TESTING}",
        "Afshar et al., COVID-CT-MD, Scientific Data 8 (2021), doi:10.1038/s41597-021-00900-3",
        "Three patients test a pipeline, not accuracy: slabs of one series are near-copies of each other.",
    ),
    "ct-nifti": Terms(
        f"not stated, {TESTING}",
        "imlab-uiip, lung-segmentation-3d (demonstration volumes)",
        "Two patients without a diagnosis: they test the reader.",
    ),
    "covidx": Terms(
        "mixed: each film's own source states it",
        "Wang, Lin and Wong, COVID-Net, Scientific Reports 10 (2020), doi:10.1038/s41598-020-76550-z",
        CLASS_IS_SOURCE,
    ),
    "ieee8023": Terms(
        "each film's own, in metadata.csv",
        COHEN,
        "Figures scraped from publications, with letters and arrows; severe and unusual cases are published more.",
    ),
}
UNKNOWN = Terms("unknown: ask who gave you the data", "unknown")

#: Other spellings of the classes' names.
SPELLINGS = {"covid": "covid-19", "covid19": "covid-19", "covid_19": "covid-19"}
#: The order of classes in tables; those that are not here come after, by name.
ORDER = ("normal", "healthy", "pneumonia", "covid-19", "other-viral", "bacterial", "cap")


def open_dataset(name_or_path: str | Path, root: Path | None = None) -> Dataset:
    """A set by its name under `root`, or by the path of its folder.

    "phantoms-ct" and "phantoms-xray" are made (once) under `root`. Labels are in lower case, and one spelling of
    COVID-19. Listed files that are absent are left out, and remembered as that.

    Raises:
        DataProblems: no folder, no case, no listed file present, or a list that is wrong.
    """
    if str(name_or_path) in PHANTOMS:
        if root is None:
            raise DataProblems(Path(name_or_path), ["phantoms are made in a folder: say under which root"])
        return phantom_dataset(root, PHANTOMS[str(name_or_path)])
    folder = root / name_or_path if root is not None else Path(name_or_path)
    rows = [replace(row, label=_spelt(row.label)) for row in read_layout(folder)]
    listed = Dataset(folder.name, ordered(row.label for row in rows), tuple(rows), terms_of(folder))
    present = listed.without("is listed, but the file is absent", lambda row: not row.path.exists())
    if not present.rows:
        raise DataProblems(folder, [f"none of the {len(rows):,} listed files is there, such as {rows[0].path}"])
    return present


def terms_of(folder: Path) -> Terms:
    """By the folder's name, or by its layout."""
    if folder.name in TERMS:
        return TERMS[folder.name]
    if covidx_lists(folder):
        return TERMS["covidx"]
    return TERMS["ieee8023"] if (folder / METADATA).is_file() else UNKNOWN


def ordered(labels: Iterable[str]) -> tuple[str, ...]:
    """The classes' names in the order of tables."""
    return tuple(sorted(Counter(labels), key=lambda name: (ORDER.index(name) if name in ORDER else len(ORDER), name)))


def _spelt(label: str) -> str:
    plain = label.strip().lower().replace(" ", "-")
    return SPELLINGS.get(plain, plain)


def describe(dataset: Dataset) -> str:
    """The set's name, size, terms and warning, as a person is to read them before any figure."""
    counts = ", ".join(f"{name} {count:,}" for name, count in dataset.count_by_class().items())
    lines = [
        f"{dataset.name}: {len(dataset.rows):,} cases of {len(dataset.patients):,} patients ({counts})",
        f"Licence: {dataset.terms.licence}",
        f"Source: {dataset.terms.citation}",
    ]
    return "\n".join([*lines, dataset.terms.warning] if dataset.terms.warning else lines)
