"""The Dockerfiles, read as a builder reads them: there need not be one here."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest
import samples
import tiny_federation as tiny
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from coordinator.settings import load

IMAGES: Final = sorted(samples.DOCKER.glob("*.Dockerfile"))
COORDINATOR: Final = samples.DOCKER / "coordinator.Dockerfile"
PROJECT: Final[dict[str, Any]] = tomllib.loads((samples.ROOT / "pyproject.toml").read_text())

both = pytest.mark.parametrize("image", IMAGES, ids=lambda path: path.name)


def _sources(image: Path) -> set[str]:
    """What is copied out of the checkout."""
    copied = [rest.split() for word, rest in samples.instructions(image) if word == "COPY"]
    return {source for words in copied if not words[0].startswith("--from") for source in words[:-1]}


def test_there_are_two() -> None:
    assert [image.name for image in IMAGES] == ["coordinator.Dockerfile", "participant.Dockerfile"]


@both
def test_nothing_of_the_build_but_the_environment_is_kept(image: Path) -> None:
    bases = [rest for word, rest in samples.instructions(image) if word == "FROM"]
    assert bases == ["python:3.11-slim AS build", "python:3.11-slim"]
    assert SpecifierSet(PROJECT["project"]["requires-python"]).contains("3.11")
    kept = [rest for word, rest in samples.last_stage(image) if word in ("COPY", "ADD")]
    assert kept == ["--from=build /opt/pleura /opt/pleura"]
    assert not [rest for word, rest in samples.last_stage(image) if word == "RUN" and re.search("pip|apt", rest)]


@both
def test_whoever_runs_it_is_not_root_and_owns_the_volume(image: Path) -> None:
    stage = samples.last_stage(image)
    user, group = samples.only(stage, "USER").split(":")
    assert int(user) > 0
    assert int(group) > 0, "by number: Kubernetes refuses a name where runAsNonRoot is set"
    words = [word for word, _ in stage]
    assert words.index("USER") > max(number for number, word in enumerate(words) if word in ("RUN", "COPY"))
    made, volume = samples.only(stage, "RUN"), samples.only(stage, "VOLUME")
    assert f"install --directory --owner {user} --group {group} --mode 0700 {volume}" in made
    assert f"useradd --uid {user} --gid {group} " in made
    variables = samples.pairs(stage, "ENV")
    assert volume == variables.get("PLEURA_DATA_DIR", variables.get("PLEURA_HOME"))


@both
def test_signals_arrive_and_the_command_is_there(image: Path) -> None:
    command = samples.entrypoint(image)  # refuses the shell's form, whose shell keeps signals to itself
    assert command[0] == image.name.replace(".Dockerfile", "").join(("pleura-", ""))
    assert command[0] in PROJECT["project"]["scripts"]
    samples.check_command(command)


@both
def test_everything_is_installed_by_the_lock(image: Path) -> None:
    lines = [part for word, rest in samples.instructions(image) if word == "RUN" for part in rest.split("&&")]
    installs = [part for part in lines if " install " in part and "/pip" in part]
    assert installs
    for line in installs:
        assert "--constraint requirements.lock" in line
        for extra in re.findall(r"'\.\[(\w+)\]'", line):
            assert extra in PROJECT["project"]["optional-dependencies"]
    assert f"'.[{image.name.partition('.')[0]}]'" in installs[-1]


@both
def test_only_what_the_image_is_made_of_leaves_the_checkout(image: Path) -> None:
    sources = _sources(image)
    assert sources == {
        *PROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"],
        *("pyproject.toml", "requirements.lock", PROJECT["project"]["readme"], *PROJECT["project"]["license-files"]),
    }
    assert all((samples.ROOT / source).exists() for source in sources)
    rules = image.with_name(f"{image.name}.dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if not rule.startswith("#")]
    assert rules[0] == "*"
    assert {rule.removeprefix("!") for rule in rules if rule.startswith("!")} == sources


@both
def test_labels(image: Path) -> None:
    labels = samples.pairs(samples.last_stage(image), "LABEL")
    found = {key.removeprefix("org.opencontainers.image."): value for key, value in labels.items()}
    assert found["version"] == PROJECT["project"]["version"]
    assert found["licenses"] == PROJECT["project"]["license"]
    assert found["title"].lower().split() == ["pleura", image.name.partition(".")[0]]
    assert found["revision"] == "${REVISION}"
    assert found["description"]


def test_the_coordinators_settings(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = samples.last_stage(COORDINATOR)
    for name, value in samples.pairs(stage, "ENV").items():
        if name.startswith("PLEURA_"):
            monkeypatch.setenv(name, value)
    settings = load()
    assert (str(settings.data_dir), settings.host) == (samples.only(stage, "VOLUME"), "0.0.0.0")  # noqa: S104
    assert settings.port == int(samples.only(stage, "EXPOSE"))


def test_the_driver_of_postgresql_is_one_that_the_project_takes() -> None:
    (version,) = re.findall(r"^ARG PSYCOPG=(.+)$", COORDINATOR.read_text(), re.MULTILINE)
    wanted = map(Requirement, PROJECT["project"]["optional-dependencies"]["scale"])
    (psycopg,) = [each for each in wanted if each.name == "psycopg"]
    assert psycopg.specifier.contains(version)
    locked = re.findall(r"^psycopg==(.+)$", (samples.ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert locked in ([], [version]), "the lock has it now: take the version from there"


def test_the_health_check_tells_ready_from_gone(tmp_path: Path, calls: samples.Calls) -> None:
    check = samples.only(samples.last_stage(COORDINATOR), "HEALTHCHECK").partition(" CMD ")[2]
    python, *arguments = json.loads(check)
    assert python == "python"
    (path,) = re.findall(r"}(/\w+)'", arguments[1])
    assert "get" in calls[path]

    def healthy(port: int) -> bool:
        environment = {**os.environ, "PLEURA_PORT": str(port)}
        return subprocess.run([sys.executable, *arguments], env=environment, capture_output=True).returncode == 0

    with tiny.serving(tmp_path / "coordinator") as server:
        port = int(server.url.rpartition(":")[2])
        assert healthy(port)
        shutil.rmtree(server.services.settings.blobs)
        server.services.settings.blobs.touch()
        tiny.wait_until(
            lambda: not healthy(port), "it to answer, and not to be ready"
        )  # an outcome is kept for seconds
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not healthy(unused.getsockname()[1])


@pytest.mark.parametrize(("build", "suffix"), [("cpu", "+cpu"), ("cu128", "+cu128"), ("", "")])
def test_the_agents_torch_is_the_build_that_was_asked_for(build: str, suffix: str) -> None:
    """The image's own line, run here."""
    (line,) = re.findall(r"grep .* \| sed .*(?= > torch\.txt)", (samples.DOCKER / "participant.Dockerfile").read_text())
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", line], cwd=samples.ROOT, env={**os.environ, "TORCH_BUILD": build},
        capture_output=True, text=True,
    )  # fmt: skip
    locked = re.findall(r"^(?:torch|torchvision)==.*$", (samples.ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert len(locked) == 2
    assert done.stdout.splitlines() == [line + suffix for line in locked]
    assert ("ARG", "TORCH_BUILD=cpu") in samples.instructions(samples.DOCKER / "participant.Dockerfile")
