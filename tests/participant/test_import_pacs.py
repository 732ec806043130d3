"""From a real Orthanc, by DICOMweb: found, fetched once, trained on; killed half-way and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exports import MARK, SLICES, change, command, made_home, name_the_patient, write_film, write_series
from orthanc import MISSING, PASSWORD, USER, Orthanc, Proxy, running_orthanc, running_proxy
from small_volumes import CLASSES, first_model, recipe, silent, trainer

from participant.data.cases import find_cases
from participant.data.importing.pacs_connection import Credentials, connected
from participant.data.importing.pacs_search import Query, search
from participant.data.importing.series import Wanted
from participant.data.readers import read_case
from participant.settings import ConfigError
from participant.terms import RoundTerms

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
STUDIES = 20


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """Twenty studies of twenty patients in two months, each with a localiser, and a film."""
    folder = tmp_path_factory.mktemp("archive")
    with running_orthanc(folder / "orthanc") as orthanc:
        for number in range(STUDIES):
            day = f"2020{3 + number % 2:02}{1 + number:02}"
            paths = write_series(folder / str(number), number, label=number % 3, StudyDate=day)
            change(paths, SeriesDescription="Lung" if number < 10 else "Thorax soft")
            orthanc.store(paths)
            scout = write_series(folder / "scout" / str(number), number, StudyDate=day)
            change(scout, SeriesInstanceUID=f"1.2.{number}", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
            for index, path in enumerate(scout):
                change([path], SOPInstanceUID=f"1.2.{number}.{index}")
            orthanc.store(scout)
        orthanc.store([write_film(folder / "film.dcm", 50, StudyDate="20200301")])
        yield orthanc


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PLEURA_PACS_USER", USER)
    monkeypatch.setenv("PLEURA_PACS_PASSWORD", PASSWORD)
    return made_home(tmp_path)


def run(home: Path, url: str, *more: Any, code: int = 0) -> str:
    return command("--home", home, "import", "pacs", url, *more, code=code)


def staged(home: Path) -> set[str]:
    """Files of series, moved to the cases or not yet."""
    return {path.name for path in (home.parent / "data").rglob("*.dcm") if not path.name.startswith(".")}


def killed_import(home: Path, proxy: Proxy) -> None:
    """A process that imports until the proxy holds all of its connections, and is killed there."""
    arguments = ["-m", "participant.cli", "--home", home, "import", "pacs", proxy.url]
    with subprocess.Popen([sys.executable, *arguments], env=os.environ.copy(), stderr=subprocess.DEVNULL) as process:
        try:
            assert proxy.held.wait(60)
        finally:
            process.send_signal(signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL


def test_twenty_studies_killed_half_way_resumed_without_fetching_twice_and_trained_on(
    archive: Orthanc, home: Path, tmp_path: Path
) -> None:
    half = STUDIES * (SLICES + 1) // 2 + 5  # of each study the slices, and one slice of the localiser
    with running_proxy(archive.port, open_for=half) as proxy:
        killed_import(home, proxy)
        before = proxy.delivered
    assert len(staged(home)) in range(half - STUDIES, half)
    done = len(list((tmp_path / "data" / "cases").iterdir()))
    assert 0 < done < STUDIES
    with running_proxy(archive.port) as again:
        said = run(home, again.url)
    assert f"imported │ {STUDIES - done} │" in said
    assert f"here already │ {done} │" in said
    assert f"left out: localiser │ {STUDIES} │" in said
    delivered = before + again.delivered
    assert set(delivered.values()) == {1}, "nothing was fetched twice"
    assert delivered.total() == STUDIES * (SLICES + 1)
    with running_proxy(archive.port) as third:
        assert f"here already │ {STUDIES} │" in run(home, third.url)
        assert not third.asked

    table = tmp_path / "labels.csv"
    table.write_text("PatientID,label\n" + "".join(f"P-{n},{CLASSES[n % 3]}\n" for n in range(STUDIES)))
    assert f"newly labelled │ {STUDIES} │" in command("--home", home, "import", "labels", table)
    assert len(find_cases(tmp_path / "data", CLASSES).cases) == STUDIES
    made = recipe()
    vector, layout = first_model(made)
    result = trainer(made, tmp_path / "data", tmp_path).train(vector, layout, RoundTerms(1), silent)
    assert np.isfinite(result.vector).all()
    assert np.abs(result.vector - vector).max() > 0


def test_what_was_fetched_is_the_volume_and_names_nobody(home: Path, tmp_path: Path) -> None:
    with running_orthanc(tmp_path / "orthanc") as orthanc:
        paths = write_series(tmp_path / "series")
        name_the_patient(paths)
        orthanc.store(paths)
        said = run(home, orthanc.url, "--class", "healthy")
    (case,) = find_cases(tmp_path / "data", ("healthy",)).cases
    np.testing.assert_array_equal(read_case(case.path).voxels, read_case(tmp_path / "series").voxels)
    kept = [path.read_bytes() for top in (tmp_path / "data", home) for path in top.rglob("*") if path.is_file()]
    assert not [
        content for content in (*kept, said.encode()) if MARK.encode() in content or PASSWORD.encode() in content
    ]


def test_a_search_by_day_modality_and_description(archive: Orthanc, home: Path, tmp_path: Path) -> None:
    march = ["--from", "2020-03-01", "--to", "2020-03-31", "--dry-run"]
    said = run(home, archive.url, *march, "--description", "LUNG")
    assert "5 series. Nothing was fetched." in said
    assert "20200303" in said
    assert "20200402" not in said
    assert "P-2" not in said
    assert "20 series" in run(home, archive.url, *march), "of each study the scan and the localiser"
    film = run(home, archive.url, *march, "--modality", "DX")
    assert "DX" in film
    assert "1 series" in film
    assert "fewer than 17 slices" in run(home, archive.url, *march, "--min-slices", "17")
    assert not list((tmp_path / "data" / "cases").iterdir())


def test_films_are_fetched_once_too(archive: Orthanc, home: Path, tmp_path: Path) -> None:
    with running_proxy(archive.port) as proxy:
        assert "imported │ 1 │" in run(home, proxy.url, "--modality", "DX", "--modality", "CR", "--class", "normal")
        assert "here already │ 1 │" in run(home, proxy.url, "--modality", "DX", "--modality", "CR")
    assert proxy.delivered.total() == 1
    (case,) = find_cases(tmp_path / "data", ("normal",)).cases
    assert read_case(case.path).modality == "xray"


@pytest.mark.parametrize("page", [7, 1000])
def test_every_page_of_a_search_is_read(archive: Orthanc, monkeypatch: pytest.MonkeyPatch, page: int) -> None:
    with archive.client() as client:
        whole = client.search_for_studies()
        offsets = []

        def paged(offset: int, search_filters: dict[str, str]) -> list[dict[str, Any]]:
            offsets.append(offset)
            return whole[offset : offset + page]

        monkeypatch.setattr(client, "search_for_studies", paged)
        found = search(client, Query(("CT",), date(2020, 1, 1)), Wanted())
        assert offsets == ([0, 7, 14, 21] if page == 7 else [0, 21])
        assert len({each.origin.series for each in found}) == 2 * STUDIES
        assert {each.slices for each in found} == {SLICES}
        assert "P-1" not in repr(found)


def test_a_pacs_that_knows_neither_pages_nor_days(archive: Orthanc, monkeypatch: pytest.MonkeyPatch) -> None:
    with archive.client() as client:
        whole = client.search_for_studies()
        monkeypatch.setattr(client, "search_for_studies", lambda offset, search_filters: whole)
        assert len(search(client, Query(("CT",), date(2020, 4, 1)), Wanted())) == STUDIES, "those of April"


def test_who_may_not_ask_and_who_does_not_answer(archive: Orthanc, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEURA_PACS_PASSWORD", "wrong horse")
    said = run(home, archive.url, code=1)
    assert "refused to answer (401)" in said
    assert "horse" not in said
    monkeypatch.setenv("PLEURA_PACS_PASSWORD", PASSWORD)
    assert "the PACS answered 404" in run(home, archive.url.replace("dicom-web", "dicom"), code=1)
    monkeypatch.setattr("participant.data.importing.pacs_connection._PATIENCE", 0)
    assert "goes on where it stopped" in run(home, "http://127.0.0.1:9/dicom-web", code=1)


def test_a_token_from_a_file_that_is_the_owners_alone(archive: Orthanc, home: Path, tmp_path: Path) -> None:
    file = tmp_path / "pacs.toml"
    file.write_text('token = "abc.def"\n')
    file.chmod(0o644)
    assert "chmod 600" in run(home, archive.url, "--credentials", file, code=1)
    file.chmod(0o600)
    with running_proxy(archive.port) as proxy:
        assert "abc.def" not in run(home, proxy.url, "--credentials", file, code=1)
    assert proxy.authorizations == {"Bearer abc.def"}
    file.write_text('user = "reader"\n')
    assert "no pair of user and password" in run(home, archive.url, "--credentials", file, code=1)
    file.write_text('pasword = "abc"\n')
    said = run(home, archive.url, "--credentials", file, code=1)
    assert "Did you mean password?" in said
    assert "abc" not in said.replace(str(file), "")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://reader:secret@pacs.example.org/dicom-web", "Others can see user and password"),
        ("http://pacs.example.org/dicom-web", "--plain-http"),
        ("pacs.example.org", "begins with https://"),
    ],
)
def test_addresses_that_are_not_used(url: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said) as caught, connected(url, Credentials(), None):
        pass
    assert "secret" not in str(caught.value)


def test_credentials_do_not_print() -> None:
    given = Credentials(user="u-secret", password="p-secret", token=None)
    assert "secret" not in f"{given!r} {given} {given.auth()!r}"


def test_proxies_of_the_environment_hold(archive: Orthanc, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running_proxy(archive.port) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/dicom-web"))
        monkeypatch.setenv("NO_PROXY", "")
        assert "40 series" in run(home, "http://pacs.example.org/dicom-web", "--plain-http", "--dry-run")
    assert proxy.paths[0].startswith("http://pacs.example.org/dicom-web/studies?")


def test_a_certificate_of_the_hospitals_own_authority(
    archive: Orthanc, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/etc/ssl/certs/ca-certificates.crt")  # config.toml comes before it
    config = home / "config.toml"
    without = config.read_text()
    config.write_text(f'{without}\nca_file = "hospital.pem"\n')
    with running_proxy(archive.port, certificate=home / "hospital.pem") as proxy:
        assert "40 series" in run(home, proxy.url, "--dry-run")
        config.write_text(without)
        assert "Name its authority as ca_file" in run(home, proxy.url, "--dry-run", code=1)
