"""Reading sets as they are published: COVIDx lists, an ieee8023 metadata.csv, a labels.csv, or a folder for each class.

train_COVIDx5.txt, test_COVIDx5.txt      "patient file class [source]" a line, images in train/ and test/
metadata.csv, images/                    the COVID-19 image data collection (ieee8023)
labels.csv                               path (or file) and label; patient (or patient_id), view, age, sex, source,
                                         split and subtype where known
CLASS/CASE                               a film, a volume, or a folder with a series of slices; or a patient's
                                         folder of films
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

import pydicom

from participant.data.cases import SPLITS, TABLE, Split
from participant.data.errors import DataProblems, UnreadableCase
from participant.data.readers import IMAGES, NIFTI, is_case, patient_of
from participant.data.volume import Modality
from simulation.datasets.dataset import Row, Sex

METADATA = "metadata.csv"
COVIDX_LIST = re.compile(r"(train|test)_COVIDx.*\.txt")
#: Diagnoses that older tables of the ieee8023 collection name without saying that they are pneumonias.
PNEUMONIAS = frozenset({"SARS", "MERS", "Streptococcus", "Klebsiella", "Chlamydophila", "Legionella", "E.Coli"})
CT_VIEWS = frozenset({"CT", "Axial", "Coronal"})  # what the collection writes as the view of a CT slice


def read_layout(root: Path) -> list[Row]:
    """The rows of the set under `root`, by whichever layout it has; in the order of their paths.

    A listed file may be absent: which are is for the caller to find (COVIDx lists name files of sets that not everybody
    may have).

    Raises:
        DataProblems: everything that is wrong with a list or table, or that there is no case.
    """
    if not root.is_dir():
        raise DataProblems(root, ["the folder does not exist; correct the path of the data"])
    read = next((read for found, read in LAYOUTS if found(root)), read_folders)
    rows = read(root)
    if not rows:
        raise DataProblems(root, [f"no case found; expected COVIDx lists, {METADATA}, {TABLE}, or a folder a class"])
    return sorted(rows, key=lambda row: row.path)


def covidx_lists(root: Path) -> list[Path]:
    return sorted(path for path in root.iterdir() if COVIDX_LIST.fullmatch(path.name))


def read_covidx(root: Path) -> list[Row]:
    """The cases of train_COVIDx*.txt and test_COVIDx*.txt.

    Views and CT slices are known where the collection's metadata.csv lies beside the lists. A patient's number is
    unique in his source only, so the two are joined.

    Raises:
        DataProblems: a line has too few or many words, two differ about a file, or there are lists of two versions.
    """
    lists = covidx_lists(root)
    splits = [path.name.split("_")[0] for path in lists]
    if len(set(splits)) < len(splits):
        raise DataProblems(root, [f"lists of several versions ({', '.join(path.name for path in lists)}); keep one"])
    known = {row.path.name: row for row in read_metadata(root)} if (root / METADATA).is_file() else {}
    rows: dict[str, Row] = {}
    problems = []
    for path, split in zip(lists, splits, strict=True):
        for number, words in enumerate(map(str.split, path.read_text(encoding="utf-8").splitlines()), 1):
            where = f"{path.name}, line {number}"
            if len(words) not in (3, 4):
                problems += [f'{where}: {len(words)} words, not "patient file class [source]"'] if words else []
                continue
            row = _covidx_row(root / split, words, "train" if split == "train" else "test", known)
            if rows.setdefault(words[1], row) != row:
                problems.append(f"{where}: {words[1]} is listed before, otherwise; keep one of the lines")
    if problems:
        raise DataProblems(root, problems)
    return list(rows.values())


def _covidx_row(folder: Path, words: list[str], split: Split, known: Mapping[str, Row]) -> Row:
    patient, name, label, source = (*words, "")[:4]
    found = known.get(name) if source in ("", "cohen") else None
    row = Row(folder / name, label, f"{source}-{patient}" if source else patient, "xray", source=source, split=split)
    if found is None:
        return row
    return replace(row, modality=found.modality, view=found.view, age=found.age, sex=found.sex, subtype=found.subtype)


def read_metadata(root: Path) -> list[Row]:
    """The cases of the ieee8023 collection's metadata.csv, old or new; classes covid-19, pneumonia, normal, other."""
    lines = _table(root / METADATA, ("filename", "finding", "view"))
    return [
        Row(
            path=root / (line.get("folder") or "images") / line["filename"],
            label=_label_of(line["finding"]),
            patient=line.get("patientid") or line.get("Patientid") or "",
            modality=_modality_of(line),
            view=line["view"],
            age=_age(line),
            sex=_sex(line),
            source="ieee8023",
            subtype=line["finding"],
        )
        for line in lines
    ]


def _label_of(finding: str) -> str:
    if "COVID-19" in finding:
        return "covid-19"
    if finding.startswith("Pneumonia") or finding in PNEUMONIAS:
        return "pneumonia"
    return "normal" if finding == "No Finding" else "other"


def _modality_of(line: Mapping[str, str]) -> Modality:
    return "ct" if line.get("modality", "") == "CT" or line["view"] in CT_VIEWS else "xray"


def read_table(root: Path) -> list[Row]:
    """The cases of a labels.csv, with as much about them as it tells."""
    path = root / TABLE
    lines = _table(path, ("label",))
    column = "path" if lines and "path" in lines[0] else "file"
    problems = [
        f"{TABLE}, line {number}: no {column} and label, or a split other than {', '.join(SPLITS)}"
        for number, line in enumerate(lines, 2)
        if not line.get(column) or not line["label"] or line.get("split", "") not in ("", *SPLITS)
    ]
    if problems:
        raise DataProblems(path, problems)
    return [_row_of(root / line[column], line) for line in lines]


def _row_of(path: Path, line: Mapping[str, str]) -> Row:
    return Row(
        path=path,
        label=line["label"],
        patient=line.get("patient") or line.get("patient_id") or _owner(path),
        modality="ct" if line.get("modality") == "ct" else modality_of(path),
        view=line.get("view", ""),
        age=_age(line),
        sex=_sex(line),
        source=line.get("source", ""),
        split=next((split for split in SPLITS if line.get("split") == split), None),
        subtype=line.get("subtype", ""),
        part=line.get("part", ""),
    )


def read_folders(root: Path) -> list[Row]:
    """A folder for each class; in it cases, or folders of films, one a patient."""
    folders = [folder for folder in _visible(root) if folder.is_dir()]
    rows = []
    for folder in folders or [root]:  # without folders it is all one, undiagnosed class
        label = folder.name if folders else "unlabelled"
        for path in filter(is_case, _visible(folder)):
            films = [film for film in _visible(path) if film.name.lower().endswith(IMAGES)] if path.is_dir() else []
            if films:
                rows += [Row(film, label, path.name, "xray") for film in films]
            elif not path.name.endswith(("-msk.nii", "-msk.nii.gz")):  # a mask of lungs beside its volume
                rows.append(_with_header(Row(path, label, _owner(path), modality_of(path))))
    return rows


def modality_of(path: Path) -> Modality:
    """By the form of the case: a folder of slices or a NIfTI volume is a CT."""
    return "ct" if path.is_dir() or path.name.lower().endswith(NIFTI) else "xray"


def _with_header(row: Row) -> Row:
    """A series' row with the patient's sex and age from its first slice."""
    first = next(iter(_visible(row.path)), None) if row.path.is_dir() else None
    if first is None:
        return row
    try:
        header = pydicom.dcmread(first, stop_before_pixels=True)
    except Exception:  # a damaged file makes pydicom raise nearly anything; whoever reads the case will tell of it
        return row
    years = re.fullmatch(r"(\d{3})Y", str(header.get("PatientAge", "")))
    sex = _sex({"sex": str(header.get("PatientSex", ""))})
    return replace(row, age=float(years[1]) if years else None, sex=sex)


def _owner(path: Path) -> str:
    """Whose case it is; of a file that is absent, its name."""
    try:
        return patient_of(path) if path.exists() else path.stem
    except UnreadableCase:
        return path.stem


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _table(path: Path, needed: Iterable[str]) -> list[dict[str, str]]:
    """The lines of a CSV file, their cells stripped."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = [{(k or "").strip(): (v or "").strip() for k, v in line.items()} for line in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error, AttributeError) as error:
        raise DataProblems(path, [f"the table cannot be read ({error}); save it as CSV in UTF-8"]) from error
    missing = [name for name in needed if lines and name not in lines[0]]
    if missing:
        raise DataProblems(path, [f"the table has no column {name}; add it" for name in missing])
    return lines


def _age(line: Mapping[str, str]) -> float | None:
    try:
        return float(line.get("age", ""))
    except ValueError:
        return None


def _sex(line: Mapping[str, str]) -> Sex:
    sex = line.get("sex", "").upper()
    return "F" if sex == "F" else "M" if sex == "M" else ""


#: How each layout is told from the others, the most particular first.
LAYOUTS: tuple[tuple[Callable[[Path], bool], Callable[[Path], list[Row]]], ...] = (
    (lambda root: bool(covidx_lists(root)), read_covidx),
    (lambda root: (root / METADATA).is_file(), read_metadata),
    (lambda root: (root / TABLE).is_file(), read_table),
)
