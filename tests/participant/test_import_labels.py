"""Labels find their cases by whatever an export names them with; what has none is listed, and nothing is lost."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pydicom
import pytest
from exports import command, made_home, write_series

from participant.data.cases import find_cases

CLASSES = ("healthy", "covid-19")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    for number in (1, 2, 3):
        write_series(tmp_path / "export" / f"s{number}", number)
    return made_home(tmp_path)


def run(home: Path, *more: Any, code: int = 0) -> str:
    return command("--home", home, "import", "folder", home.parent / "export", *more, code=code)


def labels(home: Path) -> dict[str, str]:
    """The class of each labelled case, by the place of its original."""
    by_size = {}
    for number in (1, 2, 3):
        header = pydicom.dcmread(home.parent / "export" / f"s{number}" / "IM0000.dcm")
        by_size[header.PixelData] = f"s{number}"
    found = {}
    for case in find_cases(home.parent / "data", CLASSES).cases:
        (name,) = (
            by_size[data] for each in case.path.iterdir() if (data := pydicom.dcmread(each).PixelData) in by_size
        )
        found[name] = CLASSES[case.label]
    return found


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as opened:
        return list(csv.DictReader(opened))


def identifier(home: Path, number: int, name: str) -> str:
    header = pydicom.dcmread(home.parent / "export" / f"s{number}" / "IM0000.dcm")
    return str(header[name].value)


@pytest.mark.parametrize(
    ("column", "name"),
    [
        ("SeriesInstanceUID", "SeriesInstanceUID"),
        ("study_uid", "StudyInstanceUID"),
        ("Accession Number", "AccessionNumber"),
        ("patient_id", "PatientID"),
    ],
)
def test_by_identifiers(home: Path, tmp_path: Path, column: str, name: str) -> None:
    table = tmp_path / "table.csv"
    table.write_text(f"{column},label\n{identifier(home, 2, name)},covid-19\n{identifier(home, 3, name)},healthy\n")
    said = run(home, "--labels", table)
    assert "newly labelled │ 2 │" in said
    assert "without a label │ 1 │" in said
    assert labels(home) == {"s2": "covid-19", "s3": "healthy"}
    for file in (tmp_path / "data").rglob("*"):
        assert not file.is_file() or identifier(home, 2, name).encode() not in file.read_bytes()


def test_by_paths_from_the_table_or_from_the_source(home: Path, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    table = tmp_path / "tables" / "table.csv"
    table.write_text(f"path,label,split\ns2,covid-19,test\n../export/s3,healthy,\n{tmp_path}/export/s1,healthy,train\n")
    assert "newly labelled │ 3 │" in run(home, "--labels", table)
    assert labels(home) == {"s1": "healthy", "s2": "covid-19", "s3": "healthy"}
    splits = {CLASSES[case.label]: case.split for case in find_cases(tmp_path / "data", CLASSES).cases if case.split}
    assert splits == {"healthy": "train", "covid-19": "test"}


def test_a_worklist_export_with_codes_semicolons_and_umlauts(home: Path, tmp_path: Path) -> None:
    table = tmp_path / "worklist.csv"
    lines = ["Patienten-Nr;PatientID;Accession Number;Befund", "1;P-1;A-1;unauffällig", "2;P-1;A-2;U07.1", "3;;A-3;Z99"]
    table.write_bytes("\r\n".join(lines).encode("cp1252"))
    given = ["--labels", table, "--label-column", "befund", "--map", "U07.1=covid-19", "--map", "unauffällig=healthy"]
    said = run(home, *given)
    assert labels(home) == {"s1": "healthy", "s2": "covid-19"}, "by accession, not by the patient that both name"
    assert "1 lines of the table name no case, or no class: 4" in said
    assert "VALUE=CLASS" in run(home, "--labels", table, "--map", "U07.1", code=1)


def test_labels_that_come_later_and_what_is_said_about_them(home: Path, tmp_path: Path) -> None:
    assert "without a label │ 3 │" in run(home)
    table = tmp_path / "table.csv"
    table.write_text("PatientID,label\nP-1,healthy\nP-2,healthy\nP-2,covid-19\nP-9,healthy\n")
    said = command("--home", home, "import", "labels", table)
    assert "newly labelled │ 1 │" in said
    assert "1 of those without have several labels" in said
    assert "1 lines of the table name a case that is not here: 5" in said
    assert labels(home) == {"s1": "healthy"}
    assert "newly labelled │ 0 │" in command("--home", home, "import", "labels", table)


def test_what_a_person_corrected_stays(home: Path, tmp_path: Path) -> None:
    run(home, "--class", "healthy")
    file = tmp_path / "data" / "labels.csv"
    head, first, *others = file.read_text().splitlines()
    corrected = "\n".join([f"{head},seen by", f"{first.replace('healthy', 'covid-19')},Dr. B.", *others, ""])
    file.write_text(corrected)
    before = rows(file)
    table = tmp_path / "table.csv"
    table.write_text("PatientID,label\nP-1,healthy\nP-2,healthy\nP-3,healthy\n")
    write_series(tmp_path / "export" / "s4", 4)
    assert "1 cases have another label in labels.csv" in run(home, "--labels", table)
    assert file.read_text() == corrected
    run(home, "--class", "healthy")
    assert [row["path"] for row in rows(file)][:3] == [row["path"] for row in before]
    assert [row["label"] for row in rows(file)] == ["covid-19", "healthy", "healthy", "healthy"]
    assert rows(file)[0]["seen by"] == "Dr. B."


def test_the_list_of_those_without_can_be_filled_in_and_given_back(home: Path, tmp_path: Path) -> None:
    run(home)
    listed = tmp_path / "data" / "unlabelled.csv"
    without = rows(listed)
    assert [row["label"] for row in without] == ["", "", ""]
    without[0]["label"] = "covid-19"
    filled = tmp_path / "filled.csv"
    with filled.open("w", newline="") as file:
        writer = csv.DictWriter(file, without[0])
        writer.writeheader()
        writer.writerows(without)
    assert "newly labelled │ 1 │" in command("--home", home, "import", "labels", filled)
    (case,) = find_cases(tmp_path / "data", CLASSES).cases
    assert case.patient == without[0]["patient"]
    assert len(listed.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("PatientID,finding\nP-1,x\n", "has no column label, class, diagnosis; it has: PatientID, finding"),
        ("name,label\nx,healthy\n", "has no column by which to find a case"),
        ("", "it has: none"),
    ],
)
def test_a_table_without_the_columns_is_explained(home: Path, tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    assert said in run(home, "--labels", tmp_path / "table.csv", code=1)
    assert not list((tmp_path / "data" / "cases").iterdir()), "labels are looked at before anything is copied"


def test_one_class_is_for_what_is_taken_in_now(home: Path, tmp_path: Path) -> None:
    run(home)
    write_series(tmp_path / "second" / "s4", 4)
    said = command("--home", home, "import", "folder", tmp_path / "second", "--class", "covid-19")
    assert "newly labelled │ 1 │" in said
    assert "without a label │ 3 │" in said
    again = command("--home", home, "import", "folder", tmp_path / "second", "--class", "healthy")
    assert "1 cases have another label in labels.csv" in again


def test_one_class_or_a_table(home: Path, tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("PatientID,label\n")
    assert "one of the two" in run(home, "--labels", tmp_path / "table.csv", "--class", "healthy", code=1)
