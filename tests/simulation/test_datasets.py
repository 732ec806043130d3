"""Opening sets by their layout, leaving cases out, sampling, splitting, and the tables that tell of it."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

import simulation.datasets as d
from participant.data.errors import DataProblems
from simulation.datasets.command import data
from simulation.datasets.dataset import Row, Terms
from simulation.datasets.files import write_table
from simulation.datasets.tables import age_group

TERMS = Terms("CC0", "nobody")


def film(path: Path, seed: int, size: int = 96) -> Path:
    """A smooth random picture, unlike that of any other seed."""
    pixels = gaussian_filter(np.random.default_rng(seed).standard_normal((size, size)), size / 12)
    low, high = pixels.min(), pixels.max()
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.rint((pixels - low) / (high - low) * 255).astype(np.uint8)).save(path)
    return path


def table(root: Path, header: str, *lines: str) -> Path:
    (root / "labels.csv").write_text("\n".join([header, *lines]) + "\n")
    return root


def some_set(counts: dict[str, int], per_patient: int = 1) -> d.Dataset:
    """Rows without files."""
    rows = tuple(
        Row(Path(f"/nowhere/{label}-{number}.png"), label, f"{label}-{number // per_patient}", "xray")
        for label, count in counts.items()
        for number in range(count)
    )
    return d.Dataset("some", tuple(counts), rows, TERMS)


def covidx(root: Path, metadata: bool = True) -> Path:
    """A COVIDx set of five films, one of them missing, two of them not frontal films."""
    (root).mkdir(parents=True, exist_ok=True)
    train = ["3 a.png pneumonia cohen", "3 b.png COVID-19 rsna", "7 side.png COVID-19 cohen", "9 ct.png normal cohen"]
    (root / "train_COVIDx5.txt").write_text("\n".join([*train, "8 gone.png normal rsna", ""]))
    (root / "test_COVIDx5.txt").write_text("x1 c.png normal\n")
    for number, name in enumerate(("a", "b", "side", "ct")):
        film(root / "train" / f"{name}.png", number)
    film(root / "test/c.png", 9)
    if metadata:
        lines = [
            "patientid,finding,view,modality,age,sex,filename",
            "3,Pneumonia/Viral/SARS,PA,X-ray,74,M,a.png",
            "7,Pneumonia/Viral/COVID-19,L,X-ray,,F,side.png",
            "9,No Finding,Axial,CT,,,ct.png",
        ]
        (root / "metadata.csv").write_text("\n".join(lines))
    return root


def test_covidx_lists_are_read_with_what_the_metadata_beside_them_know(tmp_path: Path) -> None:
    found = d.open_dataset(covidx(tmp_path / "covidx"))
    assert found.classes == ("normal", "pneumonia", "covid-19")
    assert {row.path.name: (row.label, row.patient, row.split) for row in found.rows} == {
        "a.png": ("pneumonia", "cohen-3", "train"),
        "b.png": ("covid-19", "rsna-3", "train"),
        "side.png": ("covid-19", "cohen-7", "train"),
        "ct.png": ("normal", "cohen-9", "train"),
        "c.png": ("normal", "x1", "test"),
    }
    known = {row.path.name: row for row in found.rows}
    assert (known["a.png"].view, known["a.png"].age, known["a.png"].sex) == ("PA", 74, "M")
    assert [each.row.path.name for each in found.excluded] == ["gone.png"]
    frontal = d.without_ct_slices(d.without_laterals(found))
    assert {row.path.name for row in frontal.rows} == {"a.png", "b.png", "c.png"}
    assert d.exclusions(frontal).rows == (
        ("is listed, but the file is absent", "normal", 1, 1),
        ("is a lateral view", "covid-19", 1, 1),
        ("is a slice of a CT", "normal", 1, 1),
    )


def test_everything_wrong_with_a_list_is_told_at_once(tmp_path: Path) -> None:
    covidx(tmp_path, metadata=False)
    (tmp_path / "test_COVIDx5.txt").write_text("x1 c.png normal\nx1 a.png normal\nonly two\n\nx1 c.png normal\n")
    with pytest.raises(
        DataProblems, match=r"(?s)2 problems.*test_.* line 3: 2 words.*train_.* line 1: a.png is listed before"
    ):
        d.open_dataset(tmp_path)
    (tmp_path / "test_COVIDx6.txt").write_text("x1 c.png normal\n")
    with pytest.raises(DataProblems, match="several versions"):
        d.open_dataset(tmp_path)


def test_the_ieee8023_collection_is_read_old_and_new(tmp_path: Path) -> None:
    lines = [
        "patientid,offset,sex,age,finding,view,modality,folder,filename",
        "1,0,F,51,Pneumonia/Viral/COVID-19,PA,X-ray,images,a.png",
        "1,3,F,51,Pneumonia/Viral/COVID-19,L,X-ray,images,b.png",
        "2,0,M,,Pneumonia/Bacterial/Streptococcus,AP Supine,X-ray,images,c.png",
        "3,0,,,todo,Axial,CT,images,e.png",
    ]
    for number, name in enumerate("abce"):
        film(tmp_path / "ieee8023/images" / f"{name}.png", number)
    (tmp_path / "ieee8023/metadata.csv").write_text("\n".join(lines))
    found = d.open_dataset("ieee8023", tmp_path)
    assert [row.label for row in found.rows] == ["covid-19", "covid-19", "pneumonia", "other"]
    assert [row.modality for row in found.rows] == ["xray", "xray", "xray", "ct"]
    assert found.rows[0].subtype == "Pneumonia/Viral/COVID-19"
    assert "metadata.csv" in d.describe(found)
    old = ["Patientid,sex,age,finding,view,filename", "1,F,51,SARS,PA,a.png", '2,,,"COVID-19, ARDS",CT,b.png']
    (tmp_path / "ieee8023/metadata.csv").write_text("\n".join(old))
    found = d.open_dataset(tmp_path / "ieee8023")
    assert [(row.label, row.modality, row.patient) for row in found.rows] == [
        ("pneumonia", "xray", "1"),
        ("covid-19", "ct", "2"),
    ]


def test_a_folder_a_class_may_hold_films_volumes_and_patients(tmp_path: Path) -> None:
    film(tmp_path / "COVID/one.png", 1)
    film(tmp_path / "COVID/patient-7/first.png", 2)
    film(tmp_path / "COVID/patient-7/second.png", 3)
    (tmp_path / "Normal/p1").mkdir(parents=True)
    (tmp_path / "Normal/p1/slice.dcm").write_bytes(b"not DICOM")
    (tmp_path / "Normal/lung.nii.gz").touch()
    (tmp_path / "Normal/lung-msk.nii.gz").touch()
    found = d.open_dataset(tmp_path)
    assert found.classes == ("normal", "covid-19")
    assert [(row.path.name, row.label, row.patient, row.modality) for row in found.rows] == [
        ("one.png", "covid-19", "one", "xray"),
        ("first.png", "covid-19", "patient-7", "xray"),
        ("second.png", "covid-19", "patient-7", "xray"),
        ("lung.nii.gz", "normal", "lung", "ct"),
        ("p1", "normal", "p1", "ct"),
    ]
    assert found.terms.licence.startswith("unknown")


def test_a_table_tells_all_it_knows(tmp_path: Path) -> None:
    film(tmp_path / "a.png", 1)
    header = "file,label,patient_id,view,age,sex,source,split,subtype"
    found = d.open_dataset(table(tmp_path, header, "a.png,Pneumonia,p1,PA,40,f,here,test,virus"))
    assert found.rows == (Row(tmp_path / "a.png", "pneumonia", "p1", "xray", "PA", 40.0, "F", "here", "test", "virus"),)
    with pytest.raises(DataProblems, match=r"line 2.*no file and label"):
        d.open_dataset(table(tmp_path, header, ",normal,p1,,,,,,"))
    with pytest.raises(DataProblems, match=r"line 2.*a split other than"):
        d.open_dataset(table(tmp_path, header, "a.png,normal,p1,,,,,exam,"))
    with pytest.raises(DataProblems, match="no column label"):
        d.open_dataset(table(tmp_path, "file,class", "a.png,normal"))
    with pytest.raises(DataProblems, match="none of the 1 listed files"):
        d.open_dataset(table(tmp_path, "file,label", "b.png,normal"))


def test_what_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataProblems, match="does not exist"):
        d.open_dataset("nowhere", tmp_path)
    with pytest.raises(DataProblems, match="no case found"):
        d.open_dataset(tmp_path)
    with pytest.raises(DataProblems, match="say under which root"):
        d.open_dataset("phantoms-ct")


def saved_again(path: Path, as_path: Path, side: int, quality: int) -> Path:
    as_path.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(path) as picture:
        picture.resize((side, side)).save(as_path, quality=quality)
    return as_path


def test_copies_are_found_by_content_and_told_by_reason(tmp_path: Path) -> None:
    first = film(tmp_path / "covid/1.png", 1)
    saved_again(first, tmp_path / "covid/2.jpg", 48, 40)  # a second copy: one stays
    both = film(tmp_path / "normal/1.png", 2)
    saved_again(both, tmp_path / "pneumonia/1.jpg", 80, 60)  # in two classes: both go
    film(tmp_path / "normal/2.png", 3)
    (tmp_path / "normal/3.png").write_bytes(b"no picture")
    clear = d.without_duplicates(d.open_dataset(tmp_path))
    assert {row.path.relative_to(tmp_path).as_posix() for row in clear.rows} == {"covid/1.png", "normal/2.png"}
    assert Counter(each.reason for each in clear.excluded) == {
        "is a copy of another case": 1,
        "is in two classes as the same picture": 2,
        "cannot be read": 1,
    }


def test_copies_of_series_are_found_by_their_files(tmp_path: Path) -> None:
    for label, patient, content in (("covid", "a", b"1"), ("covid", "b", b"1"), ("covid", "c", b"2")):
        (tmp_path / label / patient).mkdir(parents=True)
        (tmp_path / label / patient / f"{patient}.dcm").write_bytes(content)
    clear = d.without_duplicates(d.open_dataset(tmp_path))
    assert [row.patient for row in clear.rows] == ["a", "c"]


def test_patients_and_sources_are_left_out() -> None:
    rows = [
        Row(Path(f"{number}.png"), label, patient, "xray", source=source)
        for number, (label, patient, source) in enumerate((("a", "1", "x"), ("b", "1", "x"), ("a", "2", "y")))
    ]
    both = d.Dataset("some", ("a", "b"), tuple(rows), TERMS)
    assert [row.patient for row in d.without_patients_in_two_classes(both).rows] == ["2"]
    assert [row.source for row in d.without_sources(both, {"x"}).rows] == ["y"]


def test_classes_are_renamed_merged_and_left_out() -> None:
    found = some_set({"normal": 2, "pneumonia": 3, "covid-19": 1, "other": 4})
    two = found.of_classes(("rest", "covid-19"), {"normal": "rest", "pneumonia": "rest"})
    assert two.count_by_class() == {"rest": 5, "covid-19": 1}
    assert len(two.excluded) == 4


def test_samples_are_balanced_capped_and_seeded() -> None:
    found = some_set({"a": 9, "b": 4, "c": 6})
    assert d.balanced(found, 1).count_by_class() == {"a": 4, "b": 4, "c": 4}
    assert d.capped(found, {"a": 2}, 1).count_by_class() == {"a": 2, "b": 4, "c": 6}
    assert len(d.balanced(found, 1).excluded) == 7
    assert d.balanced(found, 1).rows == d.balanced(found, 1).rows
    assert d.balanced(found, 1).rows != d.balanced(found, 2).rows


def test_covidx_mini_is_sampled_from_the_published_counts() -> None:
    """Tables 1 and 2 of the VGG-16 paper: COVIDxPLUS and COVIDxMINI."""
    plus = {
        "train": {"normal": 7966, "pneumonia": 5451, "covid-19": 152},
        "validation": {"normal": 785, "pneumonia": 494, "covid-19": 71},
        "test": {"normal": 100, "pneumonia": 100, "covid-19": 31},
    }
    rows = [
        replace(row, path=Path(f"{split}-{row.path.name}"), patient=f"{split}-{row.patient}", split=split)
        for split, counts in plus.items()
        for row in some_set(counts).rows
    ]
    mini = d.sampled(d.Dataset("plus", ("normal", "pneumonia", "covid-19"), tuple(rows), TERMS), d.COVIDX_MINI, 1)
    assert [tuple(mini.count_by_class(split).values()) for split in ("train", "validation", "test")] == [
        (200, 200, 152),
        (100, 100, 71),
        (100, 100, 31),
    ]


def splits_of(rows: Sequence[Row]) -> dict[str, int]:
    return dict(Counter(str(row.split) for row in rows))


def test_splits_are_by_patient_and_class() -> None:
    found = d.with_splits(some_set({"a": 100, "b": 40}, per_patient=2), "salt")
    assert splits_of([row for row in found.rows if row.label == "a"]) == {"train": 70, "validation": 10, "test": 20}
    assert splits_of([row for row in found.rows if row.label == "b"]) == {"train": 28, "validation": 4, "test": 8}
    splits: dict[str, set[str | None]] = {}
    for row in found.rows:
        splits.setdefault(row.patient, set()).add(row.split)
    assert all(len(of) == 1 for of in splits.values())


def test_validation_comes_out_of_a_published_training_set() -> None:
    rows = [
        replace(row, split="train" if number < 80 else "test") for number, row in enumerate(some_set({"a": 100}).rows)
    ]
    found = d.with_splits(some_set({"a": 0}).with_rows(rows), "salt")
    assert splits_of(found.rows) == {"train": 70, "validation": 10, "test": 20}
    assert all(row.split == "test" for row in found.rows[80:])


def test_a_patient_in_two_published_splits_is_refused() -> None:
    rows = [
        replace(row, split=split, patient="p")
        for row, split in zip(some_set({"a": 2}).rows, ("train", "test"), strict=True)
    ]
    with pytest.raises(DataProblems, match="patient p is in the splits"):
        d.with_splits(some_set({"a": 0}).with_rows(rows), "salt")


def test_tables_count_patients_once_and_unknowns_as_such() -> None:
    rows = (
        Row(Path("1.png"), "a", "p1", "xray", age=19.5, sex="F", source="x", split="train"),
        Row(Path("2.png"), "a", "p1", "xray", source="x", split="train"),
        Row(Path("3.png"), "b", "p2", "xray", age=80, split="test"),
    )
    here = d.Dataset("here", ("a", "b"), rows, TERMS)
    there = d.Dataset("there", ("a", "b"), (Row(Path("4.png"), "b", "p3", "xray", age=400, sex="M"),), TERMS)
    assert d.distribution([here, there]).rows == (
        ("here", "train", 2, 0, 2, 1),
        ("here", "test", 0, 1, 1, 1),
        ("there", "not divided", 0, 1, 1, 1),
        ("all", "all", 2, 2, 4, 3),
    )
    shown = d.patients([here, there])
    assert shown.header == (
        "site", "class", "patients", "F", "M", "sex unknown", "0-19", "20-39", "40-59", "60-79", "80+", "age unknown",
    )  # fmt: skip
    assert shown.rows[0] == ("here", "a", 1, 1, 0, 0, 1, 0, 0, 0, 0, 0)
    assert shown.rows[3] == ("there", "b", 1, 0, 1, 0, 0, 0, 0, 0, 0, 1)
    assert shown.rows[5] == ("all", "b", 2, 0, 1, 1, 0, 0, 0, 0, 1, 1)
    assert d.sources(here).rows == (("unknown", 0, 1), ("x", 2, 0))
    assert d.sources(here).markdown().splitlines() == [
        "| source | a | b |",
        "| --- | --: | --: |",
        "| unknown | 0 | 1 |",
        "| x | 2 | 0 |",
    ]
    assert [age_group(age) for age in (0, 20, 59.9, 120, -1, None)] == [
        "0-19",
        "20-39",
        "40-59",
        "80+",
        "unknown",
        "unknown",
    ]


def run(*words: str) -> tuple[int, str]:
    app = typer.Typer()
    app.command()(data)
    result = CliRunner().invoke(app, words)
    return result.exit_code, result.output


def test_the_command_shows_terms_tables_and_marks(tmp_path: Path) -> None:
    for label in ("normal", "pneumonia"):
        for number in range(6):
            film(tmp_path / "set" / label / f"{number}.png", len(label) * 100 + number)
    picture = tmp_path / "panel.png"
    code, output = run("set", "--root", str(tmp_path), "--sites", "2", "--inpaint", str(picture))
    assert code == 0
    assert "12 cases" in output
    assert "Licence: unknown" in output
    assert "site-2" in output
    assert picture.stat().st_size > 1000


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nowhere",), "does not exist"),
        (("set", "--division", "thrown"), "no way of dividing"),
        (("set", "--sites", "9"), "nobody of 2 patients"),
    ],
)
def test_the_command_tells_what_cannot_be(tmp_path: Path, words: tuple[str, ...], told: str) -> None:
    film(tmp_path / "set/a/1.png", 1)
    film(tmp_path / "set/b/1b.png", 2)
    code, output = run(*words, "--root", str(tmp_path))
    assert code == 1
    assert told in " ".join(output.split())


def test_the_table_that_agents_read_holds_everything(tmp_path: Path) -> None:
    row = Row(film(tmp_path / "a.png", 1), "a", "p", "xray", "PA", 40.0, "F", "here", "test", "virus", "slab-01")
    write_table(tmp_path, [row])
    with (tmp_path / "labels.csv").open() as file:
        assert next(csv.DictReader(file))["path"] == "a.png"
    assert d.open_dataset(tmp_path).rows == (row,)
