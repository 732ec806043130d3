"""Heat maps go to a real Orthanc, under the patient and study that they are of."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import agent_pages as visits
import lit_scans as lit
import pydicom
import pytest
from orthanc import MISSING, PASSWORD, USER, Orthanc, running_orthanc

from participant.diagnosis.archive import Archive
from participant.diagnosis.models import given_file
from participant.policy import Refused
from participant.web.settings import Page

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture(scope="module")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    with running_orthanc(tmp_path_factory.mktemp("archive") / "orthanc") as running:
        yield running


@pytest.fixture(autouse=True)
def who_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEURA_PACS_USER", USER)
    monkeypatch.setenv("PLEURA_PACS_PASSWORD", PASSWORD)


def test_pictures_and_layers_are_found_beside_the_scan(orthanc: Orthanc, tmp_path: Path) -> None:
    files = sorted(lit.write_series(tmp_path / "series", lit.volume(20, (14, 34, 10))).iterdir())
    orthanc.store(files)
    study = pydicom.dcmread(files[0]).StudyInstanceUID
    model = given_file(visits.write_model(tmp_path / "m.safetensors", 1))
    page = Page(visits.agents_home(tmp_path / "home"), [model], archive=Archive(orthanc.url, None), device="cpu")
    with visits.client_of(page) as client:
        scan = [("scan", (file.name, file.read_bytes())) for file in files]
        path = visits.give(client, page, scan)
        assert "Send to 127.0.0.1" in client.get(path).text
        for kind, words in (("captures", "127.0.0.1 took 20 objects."), ("layer", "127.0.0.1 took 1 object.")):
            answer = client.post(f"{path}/pacs", data={"model": 0, "label": 1, "kind": kind})
            assert answer.status_code == 200, answer.text
            assert words in answer.text
    with orthanc.client() as pacs:
        series = pacs.search_for_series(study)
        found = {each["00080060"]["Value"][0]: each["0020000E"]["Value"][0] for each in series}
        assert set(found) == {"CT", "OT", "SEG"}
        assert len(pacs.search_for_instances(study, found["OT"])) == 20
        layer = pacs.retrieve_series(study, found["SEG"])[0]
    assert (layer.PatientID, layer.StudyInstanceUID) == ("P-77", study)


def test_a_refusal_is_said_in_words(orthanc: Orthanc, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLEURA_PACS_PASSWORD", "wrong")
    file = next(iter(lit.write_series(tmp_path / "series", lit.volume(9, (4, 9, 9))).iterdir()))
    with pytest.raises(Refused, match=r"refused to answer \(401\).*; 0 objects were taken"):
        Archive(orthanc.url, None).store([pydicom.dcmread(file)])


def test_a_pacs_that_is_away(tmp_path: Path) -> None:
    file = next(iter(lit.write_series(tmp_path / "series", lit.volume(9, (4, 9, 9))).iterdir()))
    with pytest.raises(Refused, match="does not answer"):
        Archive("http://127.0.0.1:9/dicom-web", None).store([pydicom.dcmread(file)])
