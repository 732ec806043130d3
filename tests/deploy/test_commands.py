"""Whatever the samples and the page name is there: commands, options, variables, files."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import samples

from participant.settings import HOME_VARIABLE

_VARIABLE = re.compile(r"PLEURA_[A-Z_]*[A-Z]")


@pytest.mark.parametrize("words", ["serv", "invite --nte x", "site", "audit verify extra"])
def test_a_wrong_command_line_is_noticed(words: str) -> None:
    with pytest.raises(Exception, match=r"No such (command|option)|unexpected extra argument|^$"):
        samples.check_command(["pleura-coordinator", *words.split()])


def test_the_pages_commands_are_there(elsewhere: Path) -> None:
    model = elsewhere / "first.safetensors"
    model.touch()  # `study create` looks whether it is there
    lines = list(samples.command_lines(samples.fenced(samples.PAGE)))
    assert {tuple(line[1:3]) for line in lines} >= {("operator", "add"), ("study", "create"), ("study", "start")}
    assert {line[1] for line in lines} >= {"invite", "init", "enrol", "run", "roster", "--home"}
    for line in lines:
        samples.check_command([str(model) if word.endswith(model.name) else word for word in line])


def test_commands_in_comments_are_there() -> None:
    """The Dockerfiles begin with how to build and run them."""
    found = 0
    for path in samples.DOCKER.glob("*.Dockerfile"):
        comments = re.findall(r"^#   (.*)$", path.read_text(), re.MULTILINE)
        for line in samples.command_lines("\n".join(comments)):
            samples.check_command(line)
            found += 1
    assert found == 2


def test_every_variable_is_a_setting() -> None:
    known = samples.COORDINATOR_VARIABLES | {HOME_VARIABLE}
    named = {name: path for path in samples.shipped() for name in _VARIABLE.findall(path.read_text())}
    assert len(named) >= 10
    assert not {name: str(path) for name, path in named.items() if name not in known}


def test_the_sample_lists_every_setting() -> None:
    listed = set(_VARIABLE.findall((samples.DOCKER / "coordinator.env.sample").read_text()))
    assert listed >= {name for name in samples.COORDINATOR_VARIABLES if name != "PLEURA_CONFIG"}


def test_files_that_the_page_names_are_there() -> None:
    named = set(re.findall(r"\b(?:docker|deploy)/[\w./-]*\w", samples.PAGE.read_text()))
    assert {"docker/compose.yaml", "docker/Caddyfile", "deploy/kubernetes/base", "docker/secrets.toml.sample"} <= named
    made = ("docker/secrets", "docker/.env", "deploy/kubernetes/overlays/ours")  # by whoever follows the page
    assert not {name for name in named if not name.startswith(made) and not (samples.ROOT / name).exists()}
