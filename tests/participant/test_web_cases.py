"""A scan given on the page: probabilities, pictures of every slice, DICOM objects; nothing of it stays on the disk."""

from __future__ import annotations

import io
import logging
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import agent_pages as visits
import httpx
import lit_scans as lit
import numpy as np
import pydicom
import pytest
from PIL import Image

from models.recipe import load_recipe
from participant.diagnosis.models import given_file
from participant.web.settings import Page
from simulation.phantoms.files import write_nifti
from simulation.phantoms.geometry import Grid

SPOT = (14, 34, 10)


@pytest.fixture
def page(tmp_path: Path) -> Page:
    return visits.two_models(tmp_path)


@pytest.fixture
def client(page: Page) -> Iterator[httpx.Client]:
    with visits.client_of(page) as client:
        yield client


@pytest.fixture
def scan(tmp_path: Path) -> bytes:
    series = lit.write_series(tmp_path / "series", lit.volume(20, SPOT))
    return lit.zipped(series, tmp_path / "scan.zip").read_bytes()


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where temporary files go in this test."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def picture(client: httpx.Client, path: str) -> np.ndarray:
    answer = client.get(path)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def test_two_models_side_by_side(client: httpx.Client, page: Page, scan: bytes, temporary: Path) -> None:
    path = visits.give(client, page, [("scan", ("scan.zip", scan))], models=2)
    shown = client.get(path).text
    assert "CT, 20 slices" in shown
    for word in ("federated", "alone", "covid-19", "healthy", "Not a medical device", "over 5 subsets"):
        assert word in shown
    case = page.jobs.get(path.rsplit("/", 1)[1]).case
    for opinion in case.opinions:
        for mean in opinion.mean:
            assert f'<td class="number">{mean:.2f}</td>' in shown
    assert not np.allclose(case.opinions[0].mean, case.opinions[1].mean)
    assert list(temporary.iterdir()) == [], "what was given is gone from the disk"


def test_pictures_count_from_the_head(client: httpx.Client, page: Page, scan: bytes) -> None:
    path = visits.give(client, page, [("scan", ("scan.zip", scan))])
    bone = picture(client, f"{path}/slices/{19 - SPOT[0]}.png?preset=bone")
    assert bone.shape == (lit.SIDE, lit.SIDE)
    rows, columns = np.nonzero(bone > 128)
    assert (rows.mean(), columns.mean()) == SPOT[1:]
    assert picture(client, f"{path}/slices/0.png?preset=bone").max() == 0
    heat = picture(client, f"{path}/heat/0/1/{19 - SPOT[0]}.png")
    assert heat.shape == (lit.SIDE, lit.SIDE, 4)
    for wrong in ("slices/20.png", "slices/0.png?preset=skin", "heat/1/0/0.png", "heat/0/2/0.png", "outline/0.png"):
        assert client.get(f"{path}/{wrong}").status_code == 404


def test_contours_are_drawn(client: httpx.Client, page: Page, scan: bytes, tmp_path: Path) -> None:
    mask = np.zeros((20, lit.SIDE, lit.SIDE), np.float32)
    mask[SPOT[0], 30:39, 6:15] = 1
    write_nifti(mask, Grid(mask.shape, lit.SPACING, (0.0, -90.0, -95.0)), tmp_path / "mask.nii.gz")
    files = [("scan", ("scan.zip", scan)), ("contours", ("mask.nii.gz", (tmp_path / "mask.nii.gz").read_bytes()))]
    path = visits.give(client, page, files)
    drawn = picture(client, f"{path}/outline/{19 - SPOT[0]}.png")[..., 3] > 0
    assert drawn.sum() == 4 * 8
    assert drawn[30, 6]
    assert not drawn[34, 10]
    assert "with the contours that were given" in client.get(path).text


def test_severity_is_graded_where_covid_is_likeliest(tmp_path: Path, scan: bytes) -> None:
    changes = {"input.size": [16, 24, 24]}
    grading = visits.write_model(tmp_path / "grades.safetensors", 3, load_recipe("ucadi-severity").overridden(changes))
    models = [visits.write_model(tmp_path / f"m{seed}.safetensors", seed) for seed in range(4)]
    seen = set()
    for model in models:
        page = Page(
            visits.agents_home(tmp_path / f"home-{model.stem}"), [given_file(model), given_file(grading)], device="cpu"
        )
        with visits.client_of(page) as client:
            path = visits.give(client, page, [("scan", ("scan.zip", scan))])
            covid = page.jobs.get(path.rsplit("/", 1)[1]).case.opinions[0].likeliest == 1
            assert ("Severity of COVID-19" in client.get(path).text) == covid
            seen.add(covid)
    assert seen == {True, False}, "both answers were met"


def test_dicom_objects_are_saved(client: httpx.Client, page: Page, scan: bytes) -> None:
    path = visits.give(client, page, [("scan", ("scan.zip", scan))])
    for kind, number in (("captures", 20), ("layer", 1)):
        answer = client.post(f"{path}/dicom", data={"model": 0, "label": 1, "kind": kind})
        assert answer.headers["content-disposition"].startswith("attachment")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert len(archive.namelist()) == number
            assert pydicom.dcmread(io.BytesIO(archive.read(archive.namelist()[0]))).PatientID == "P-77"
    assert client.post(f"{path}/dicom", data={"model": 5, "label": 1, "kind": "layer"}).status_code == 404
    assert client.post(f"{path}/dicom", data={"model": 0, "label": 1, "kind": "other"}).status_code == 400
    assert client.post(f"{path}/pacs", data={"model": 0, "label": 1, "kind": "layer"}).status_code == 404
    assert "Send to" not in client.get(path).text


def test_a_broken_file_is_said_in_words_and_the_page_goes_on(
    client: httpx.Client, page: Page, scan: bytes, temporary: Path
) -> None:
    path = visits.give(client, page, [("scan", ("scan.zip", scan[: len(scan) // 2]))])
    answer = client.get(path)
    assert answer.status_code == 422
    assert "The zip cannot be read" in answer.text
    assert client.get(f"{path}/progress").json()["state"] == "failed"
    assert list(temporary.iterdir()) == []
    assert "20 slices" in client.get(visits.give(client, page, [("scan", ("scan.zip", scan))])).text


def test_what_was_not_foreseen_tells_the_log_nothing_of_the_patient(
    client: httpx.Client, page: Page, scan: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("cannot convert Doe^Jane")

    monkeypatch.setattr("participant.diagnosis.intake.read_case", fails)
    with caplog.at_level(logging.DEBUG):
        path = visits.give(client, page, [("scan", ("scan.zip", scan))])
    assert "could not be looked at" in client.get(path).text
    assert "RuntimeError" in caplog.text
    assert "Jane" not in caplog.text
    assert "Jane" not in client.get(path).text


def test_forms_without_a_scan_or_a_model(client: httpx.Client, page: Page, scan: bytes) -> None:
    digest = page.files()[0].digest
    assert (
        "no scan was given"
        in client.post("/diagnose", data={"model": digest}, files=[("scan", ("", b""))]).text.lower()
    )
    answer = client.post("/diagnose", data={"model": "0" * 64}, files=[("scan", ("scan.zip", scan))])
    assert answer.status_code == 400
    assert "Choose one model" in answer.text


def test_forgetting(client: httpx.Client, page: Page, scan: bytes) -> None:
    path = visits.give(client, page, [("scan", ("scan.zip", scan))])
    assert client.post(f"{path}/forget").headers["location"] == "/diagnose"
    assert client.get(path).status_code == 404
    assert "kept in memory only" in client.get(path).text


def test_what_is_turned_away_leaves_nothing(page: Page, scan: bytes, temporary: Path) -> None:
    """Nobody works here, so all wait: some are turned away, one is forgotten while it waits, the rest at the end."""
    form = {"data": {"model": page.files()[0].digest}, "files": [("scan", ("scan.zip", scan))]}
    with visits.client_of(page, works=False) as client:
        answers = [client.post("/diagnose", **form) for _ in range(7)]
        assert [answer.status_code for answer in answers] == [303] * 5 + [503] * 2
        assert len(list(temporary.iterdir())) == 5
        client.post(f"{answers[0].headers['location']}/forget")
        assert len(list(temporary.iterdir())) == 4
        page.jobs.close()
        assert list(temporary.iterdir()) == []


def test_only_the_last_few_results_are_kept(client: httpx.Client, page: Page, scan: bytes) -> None:
    paths = [visits.give(client, page, [("scan", ("scan.zip", scan[:100]))]) for _ in range(8)]
    assert [client.get(path).status_code for path in paths] == [404, 404, *[422] * 6]
