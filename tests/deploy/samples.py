"""What is shipped under docker/ and deploy/, read as the tools that it is for read it."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, Final

import typer
import yaml

from coordinator import cli as coordinator_cli
from coordinator.settings import CONFIG_VARIABLE, PREFIX, Settings
from participant import cli as participant_cli

ROOT: Final = Path(__file__).parents[2]
DOCKER: Final = ROOT / "docker"
SYSTEMD: Final = ROOT / "deploy" / "systemd"
KUBERNETES: Final = ROOT / "deploy" / "kubernetes"
PAGE: Final = ROOT / "docs" / "deployment.md"

COORDINATOR_VARIABLES: Final = {f"{PREFIX}{name.upper()}" for name in Settings.model_fields} | {CONFIG_VARIABLE}
PROGRAMS: Final = {"pleura-coordinator": coordinator_cli.app, "pleura-participant": participant_cli.app}

Calls = dict[str, dict[str, Any]]
Instruction = tuple[str, str]
Unit = dict[str, dict[str, list[str]]]


def shipped() -> list[Path]:
    """Every file of the samples, and the page about them."""
    found = [path for folder in (DOCKER, ROOT / "deploy") for path in sorted(folder.rglob("*")) if path.is_file()]
    return [path for path in found if "secrets" not in path.parts and path.suffix != ".env"] + [PAGE]


# --- Dockerfiles


def instructions(path: Path) -> list[Instruction]:
    """A Dockerfile's instructions, continued lines joined and comments left out."""
    lines = [line for line in path.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [(word.upper(), rest.strip()) for word, _, rest in (line.partition(" ") for line in joined.splitlines())]


def last_stage(path: Path) -> list[Instruction]:
    found = instructions(path)
    return found[max(number for number, (word, _) in enumerate(found) if word == "FROM") :]


def only(found: Sequence[Instruction], word: str) -> str:
    """The rest of the one instruction of this word."""
    (rest,) = [rest for each, rest in found if each == word]
    return rest


def pairs(found: Sequence[Instruction], word: str) -> dict[str, str]:
    """KEY=VALUE of all ENV or LABEL instructions."""
    entries = [entry for each, rest in found if each == word for entry in shlex.split(rest)]
    return dict(entry.split("=", 1) for entry in entries)


def entrypoint(path: Path, command: Sequence[str] | None = None) -> list[str]:
    """What the image runs, with another command in place of its own. Shell forms do not parse."""
    stage = last_stage(path)
    return [*json.loads(only(stage, "ENTRYPOINT")), *(json.loads(only(stage, "CMD")) if command is None else command)]


# --- the others


def documents(path: Path) -> list[dict[str, Any]]:
    return [document for document in yaml.safe_load_all(path.read_text()) if document]


def compose() -> dict[str, Any]:
    (found,) = documents(DOCKER / "compose.yaml")
    return found


def unit(path: Path) -> Unit:
    """A unit's sections; what may be given several times (and configparser would give once) is a list."""
    sections: Unit = {}
    for line in path.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


# --- commands


def check_command(words: Sequence[str]) -> None:
    """Have the program itself read a command line, without doing what it says.

    It raises what it would tell of: no such command, option or value.
    """
    name, rest = PurePosixPath(words[0]).name, list(words[1:])
    command: Any = typer.main.get_command(PROGRAMS[name])
    context: Any = None
    while True:
        context = command.make_context(name, rest, parent=context)
        if not hasattr(command, "resolve_command"):
            return
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])


def command_lines(text: str) -> Iterator[list[str]]:
    """Every command line of ours in a shell text, also behind sudo, docker and kubectl."""
    for line in re.sub(r"\\\n", " ", text).splitlines():
        words = shlex.split(line, comments=True)
        for number, word in enumerate(words):
            if PurePosixPath(word).name in PROGRAMS and _begins(words, number):
                image = words[:2] == ["docker", "run"]
                yield _in_container(word, words[number + 1 :]) if image else words[number:]
                break


def _begins(words: Sequence[str], number: int) -> bool:
    """Users, images and deployments have the programs' names as well."""
    if words[number].startswith("/opt/pleura/bin/"):
        return True
    before = words[number - 1] if number else "--"
    inside = before in ("--", "coordinator") or words[:2] in (["docker", "run"], ["docker", "exec"])
    return inside and words[number] in PROGRAMS


def _in_container(image: str, command: Sequence[str]) -> list[str]:
    """What `docker run IMAGE COMMAND` runs."""
    return entrypoint(DOCKER / f"{image.removeprefix('pleura-')}.Dockerfile", command or None)


def fenced(path: Path) -> str:
    """The code of a page."""
    return "\n".join(re.findall(r"^```\w*\n(.*?)^```", path.read_text(), re.DOTALL | re.MULTILINE))


def longest_wait(calls: Calls) -> float:
    """Seconds that the coordinator may hold a call, by its own description."""
    parameters = calls["/v1/studies/{study}/task"]["get"]["parameters"]
    (wait,) = [each["schema"]["maximum"] for each in parameters if each["name"] == "wait"]
    return float(wait)
