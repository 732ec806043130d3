"""The units: what they start, as whom, with which files; and systemd's own opinion where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest
import samples
from typer.testing import CliRunner

from coordinator import cli
from coordinator.settings import load
from participant.doctor.network import proxy_of
from participant.settings import HOME_VARIABLE, Home

UNITS: Final = sorted(samples.SYSTEMD.glob("*.service"))
COORDINATOR: Final = samples.unit(samples.SYSTEMD / "pleura-coordinator.service")
PARTICIPANT: Final = samples.unit(samples.SYSTEMD / "pleura-participant.service")
EXPOSURE: Final = "25"  # systemd's estimate, of 100, from which a unit counts as too open

each = pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
by_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


def _folder(service: dict[str, list[str]]) -> Path:
    (name,) = service["StateDirectory"]
    return Path("/var/lib") / name


def _program(path: Path) -> str:
    """Of the unit's user, too: the page is the participant's."""
    return path.stem.removesuffix("-page")


def test_there_are_three() -> None:
    assert [path.stem for path in UNITS] == ["pleura-coordinator", "pleura-participant-page", "pleura-participant"]


@each
def test_its_command_is_there(path: Path) -> None:
    (command,) = samples.unit(path)["Service"]["ExecStart"]
    words = command.split()
    assert words[0] == f"/opt/pleura/bin/{_program(path)}"
    samples.check_command(words)


@each
def test_it_is_confined(path: Path) -> None:
    service = samples.unit(path)["Service"]
    assert service["User"] == [_program(path)]
    assert f"useradd --system --user-group --home-dir {_folder(service)} " in samples.PAGE.read_text()
    assert service["ProtectSystem"] == ["strict"]
    assert service["CapabilityBoundingSet"] == [""]
    assert service["NoNewPrivileges"] == service["PrivateTmp"] == service["ProtectHome"] == ["true"]
    assert service["Restart"] == ["on-failure"]
    assert service["LimitCORE"] == ["0"]
    assert "ReadWritePaths" not in service, "its own folder is all it writes to"


def test_the_coordinators_settings(elsewhere: Path) -> None:
    service = COORDINATOR["Service"]
    installed = f"deploy/systemd/coordinator.env.sample {service['EnvironmentFile'][0]}"
    assert installed in samples.PAGE.read_text()
    copy = elsewhere / "coordinator.env"
    copy.write_text((samples.SYSTEMD / "coordinator.env.sample").read_text())
    settings = load(config=copy)  # as the operator's commands read it
    assert settings.data_dir == _folder(service)
    assert settings.secure_cookies
    assert f"http://{settings.host}:{settings.port}/readyz" in samples.PAGE.read_text()


def test_what_a_restart_would_not_mend_is_not_restarted(elsewhere: Path) -> None:
    (elsewhere / "wrong.env").write_text("PLEURA_PORT=many\n")
    done = CliRunner().invoke(cli.app, ["serve", "--config", "wrong.env"])
    assert COORDINATOR["Service"]["RestartPreventExitStatus"] == [str(done.exit_code)]


def test_it_is_given_the_time_to_answer_waiting_agents() -> None:
    assert int(COORDINATOR["Service"]["TimeoutStopSec"][0]) > 2 * cli._GRACE_SECONDS


def test_the_agent_starts_once_it_has_enrolled() -> None:
    service, folder = PARTICIPANT["Service"], _folder(PARTICIPANT["Service"])
    assert service["Environment"] == [f"{HOME_VARIABLE}={folder}"]
    assert PARTICIPANT["Unit"]["ConditionPathExists"] == [str(Home(folder).enrolment)]
    assert service["EnvironmentFile"][0].startswith("-"), "there need not be one"


def test_the_page_is_for_this_machine_and_whoever_has_the_token() -> None:
    service = samples.unit(samples.SYSTEMD / "pleura-participant-page.service")["Service"]
    assert service["Environment"] == PARTICIPANT["Service"]["Environment"]
    assert service["StateDirectory"] == PARTICIPANT["Service"]["StateDirectory"]
    assert service["ExecStart"][0].split()[1:] == ["serve", "--token"]
    assert (service["IPAddressDeny"], service["IPAddressAllow"]) == (["any"], ["localhost"])


def test_the_agents_variables() -> None:
    sample = (samples.SYSTEMD / "participant.env.sample").read_text()
    (file,) = PARTICIPANT["Service"]["EnvironmentFile"]
    assert f"-m 0600 deploy/systemd/participant.env.sample {file.removeprefix('-')}" in samples.PAGE.read_text()
    variables = dict(
        line.removeprefix("#").split("=", 1) for line in sample.splitlines() if re.match(r"#[A-Z_]+=", line)
    )
    assert set(variables) == {"HTTPS_PROXY", "NO_PROXY"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("https_proxy", variables["HTTPS_PROXY"])
        assert proxy_of("https://pleura.example.org") == variables["HTTPS_PROXY"]


def test_a_gpu_is_all_that_the_drop_in_adds() -> None:
    (drop_in,) = (samples.SYSTEMD / "pleura-participant.service.d").iterdir()
    service = samples.unit(drop_in)["Service"]
    assert set(service) == {"PrivateDevices", "DevicePolicy", "DeviceAllow"}
    assert service["DevicePolicy"] == ["closed"]
    assert all(re.fullmatch(r"char-nvidia\S* rw", device) for device in service["DeviceAllow"])


@by_systemd
@each
def test_systemd_reads_it(path: Path, tmp_path: Path) -> None:
    """With the programs of this environment in place of those in /opt, which systemd looks for."""
    copy = tmp_path / path.name
    copy.write_text(path.read_text().replace("/opt/pleura/bin", str(Path(sys.executable).parent)))
    shutil.copytree(samples.SYSTEMD / "pleura-participant.service.d", tmp_path / "pleura-participant.service.d")
    done = _analyze("verify", "--man=no", str(copy))
    assert path.name not in done.stdout + done.stderr
    assert "gpu.conf" not in done.stdout + done.stderr
    copy.write_text(copy.read_text().replace("[Service]", "[Service]\nProtectSistem=strict"))
    assert "ProtectSistem" in _analyze("verify", "--man=no", str(copy)).stderr, "what is misspelled is seen"


@by_systemd
@each
def test_systemd_finds_it_confined(path: Path) -> None:
    done = _analyze("security", "--offline=true", f"--threshold={EXPOSURE}", "--no-pager", str(path))
    assert done.returncode == 0, done.stdout


def _analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_COLORS": "0"}
    return subprocess.run(["systemd-analyze", *arguments], env=environment, capture_output=True, text=True)
