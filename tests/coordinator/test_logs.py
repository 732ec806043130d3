"""Tokens and invitations are cut out of the log, tracebacks included."""

from __future__ import annotations

import logging

import pytest

from coordinator.logs import Redacting


def line(message: str, error: BaseException | None = None) -> str:
    info = (type(error), error, error.__traceback__) if error else None
    return Redacting("%(message)s").format(logging.LogRecord("x", logging.INFO, "f", 1, message, None, info))


@pytest.mark.parametrize("kind", ["operator", "invitation"])
def test_tokens_and_invitations(kind: str) -> None:
    assert line(f"came with pleura-{kind}-a1_B-2c, went") == f"came with pleura-{kind}-[hidden], went"


def test_a_sites_token(world) -> None:
    token = world.new_site("hospital-x").token()
    assert token[10:] not in line(f"Authorization: Bearer {token}")


def test_tracebacks() -> None:
    with pytest.raises(ValueError, match="secret") as raised:
        raise ValueError("pleura-operator-secret")
    shown = line("failed", raised.value)
    assert "ValueError: pleura-operator-[hidden]" in shown
    assert "operator-secret" not in shown


def test_other_lines_stay() -> None:
    assert line("pleura-coordinator serves the operator anna") == "pleura-coordinator serves the operator anna"
