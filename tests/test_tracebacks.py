"""A crash of a command shows no local variables: they may hold keys and tokens."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import typer

import coordinator.cli
import participant.cli
import simulation.cli


def every(app: typer.Typer, name: str) -> Iterator[tuple[str, typer.Typer]]:
    """An app and all groups below it. One without a name adds its commands to the app's own."""
    yield name, app
    for number, group in enumerate(app.registered_groups):
        assert group.typer_instance is not None
        yield from every(group.typer_instance, f"{name} {group.name if isinstance(group.name, str) else number}")


APPS = dict(
    pair
    for name, app in (
        ("pleura-coordinator", coordinator.cli.app),
        ("pleura-participant", participant.cli.app),
        ("pleura-simulate", simulation.cli.app),
    )
    for pair in every(app, name)
)


def test_groups_are_found_too() -> None:
    assert {"pleura-coordinator site", "pleura-participant model"} <= set(APPS)


@pytest.mark.parametrize("name", APPS)
def test_no_traceback_shows_locals(name: str) -> None:
    """Said explicitly: typer's default was another one before."""
    assert APPS[name].pretty_exceptions_show_locals is False
