"""Finding cases in class folders and tables; every problem in one report."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from participant.data.cases import DataProblems, find_cases
from simulation.phantoms import Scanner, make_hospital

CLASSES = ("healthy", "covid-19", "bacterial")
TINY = Scanner("tiny", matrix=16, slice_thickness=40.0)


def film(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.arange(12, dtype=np.uint8).reshape(3, 4)).save(path)


def table(root: Path, text: str) -> Path:
    root.mkdir(exist_ok=True)
    (root / "labels.csv").write_text(text)
    return root


def problems(root: Path) -> tuple[str, ...]:
    with pytest.raises(DataProblems) as caught:
        find_cases(root, CLASSES)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


def test_folders_give_classes_and_dicom_gives_patients(tmp_path: Path) -> None:
    make_hospital(tmp_path, {"healthy": 2, "covid-19": 1}, TINY, seed=1)
    film(tmp_path / "covid-19" / "anna-3.png")
    (tmp_path / "covid-19" / "readme.txt").write_text("from the archive")
    (tmp_path / ".trash").mkdir()
    found = find_cases(tmp_path, CLASSES)
    assert [(case.patient, case.label, case.split) for case in found.cases] == [
        ("anna-3", 1, None), ("tiny-0002", 1, None), ("tiny-0000", 0, None), ("tiny-0001", 0, None),
    ]  # fmt: skip
    assert found.count_by_class() == (2, 2, 0)
    assert len(found.warnings) == 2
    assert "readme.txt" in found.warnings[0]
    assert found.warnings[1] == "class bacterial has no cases"


def test_a_table_names_patients_and_splits(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        film(tmp_path / "films" / f"{name}.png")
    text = "file,label,patient_id,view,split\nfilms/a.png,healthy,p1,PA,train\nfilms/b.png, covid-19 ,p1,AP,train\n"
    found = find_cases(table(tmp_path, "\ufeff" + text + "films/c.png,bacterial,,PA,\n"), CLASSES)
    assert [(c.path.name, c.label, c.patient, c.split) for c in found.cases] == [
        ("a.png", 0, "p1", "train"), ("b.png", 1, "p1", "train"), ("c.png", 2, "c", None),
    ]  # fmt: skip
    assert found.warnings == ()
    elsewhere = tmp_path / "other.csv"
    elsewhere.write_text("path,label,patient\nfilms/c.png,covid-19,p9\n")
    assert [c.patient for c in find_cases(tmp_path, CLASSES, elsewhere).cases] == ["p9"]


def test_all_problems_of_folders_are_reported_at_once(tmp_path: Path) -> None:
    film(tmp_path / "healthy" / "a.png")
    (tmp_path / "covid19").mkdir()
    (tmp_path / "covid-19" / "empty").mkdir(parents=True)
    (tmp_path / "covid-19" / "torn.dcm").write_bytes(b"\0" * 128 + b"DICM")
    reported = problems(tmp_path)
    assert len(reported) == 3
    assert any("covid19" in p and "healthy, covid-19, bacterial" in p for p in reported)
    assert any("empty folder" in p for p in reported)
    assert any("torn.dcm" in p for p in reported)


def test_all_problems_of_a_table_are_reported_at_once(tmp_path: Path) -> None:
    film(tmp_path / "a.png")
    film(tmp_path / "b.png")
    rows = [
        "path,label,patient,split",
        "a.png,healthy,p1,train",
        "a.png,healthy,p1,train",
        "b.png,bacterial,p1,test",
        "gone.png,flu,p2,later",
        ",healthy,p3,",
    ]
    reported = problems(table(tmp_path, "\n".join(rows)))
    for words in (
        "line 3: a.png is listed twice",
        "'flu' is no class",
        "'later' is unknown",
        "gone.png does not exist",
    ):
        assert sum(words in problem for problem in reported) == 1
    assert any(p.startswith("line 6") for p in reported)
    assert any("patient p1 is in the splits test and train" in p for p in reported)
    assert len(reported) == 6


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a,b\n1,2\n", "no column path (or file)"),
        ("path\nx\n", "no column label"),
        ("", "no column"),
        ("\x00", "no column"),
    ],
)
def test_tables_that_are_none(tmp_path: Path, text: str, words: str) -> None:
    assert any(words in problem for problem in problems(table(tmp_path, text)))


def test_a_table_in_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_bytes("path,label\nMüller.png,healthy\n".encode("latin-1"))
    assert "UTF-8" in problems(tmp_path)[0]


def test_no_folder_and_no_case(tmp_path: Path) -> None:
    assert "does not exist" in problems(tmp_path / "nowhere")[0]
    assert "no case found" in problems(tmp_path)[0]


def test_one_patient_for_all_is_suspicious(tmp_path: Path) -> None:
    film(tmp_path / "a.png")
    film(tmp_path / "b.png")
    rows = "path,label,patient\na.png,healthy,ANON\nb.png,covid-19,ANON\n"
    warnings = find_cases(table(tmp_path, rows), CLASSES).warnings
    assert any("all 2 cases belong to one patient" in warning for warning in warnings)
    assert not any("ANON" in warning for warning in warnings), "warnings are logged, patients' ids never are"


def test_problems_survive_a_process_boundary(tmp_path: Path) -> None:
    error = DataProblems(tmp_path, ["one", "two"])
    assert str(pickle.loads(pickle.dumps(error))) == str(error)  # noqa: S301
