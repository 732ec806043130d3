"""What `serve` hands to the server that it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import uvicorn
from typer.testing import CliRunner
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from coordinator.cli import app
from coordinator.settings import SettingsError, load


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`served(**variables)` is the configuration that the server would run with."""
    monkeypatch.setattr("coordinator.cli.logs.configure", lambda *_: None)
    monkeypatch.setattr(uvicorn.Server, "run", lambda server: configured.append(server.config))
    configured: list[uvicorn.Config] = []

    def serve(**variables: str) -> uvicorn.Config:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        result = CliRunner().invoke(app, ["serve", "--data-dir", str(tmp_path)])
        assert result.exit_code == 0, result.output
        return configured[-1]

    return serve


@pytest.mark.parametrize(
    ("variables", "address"),
    [
        ({}, "127.0.0.1"),
        ({"PLEURA_TRUSTED_PROXIES": "10.244.0.0/16, 192.0.2.7"}, "10.244.3.9"),
        ({"PLEURA_TRUSTED_PROXIES": "10.244.0.0/16, 192.0.2.7"}, "192.0.2.7"),
        ({"FORWARDED_ALLOW_IPS": "192.0.2.8"}, "192.0.2.8"),
    ],
    ids=str,
)
def test_whose_word_about_callers_is_taken(served, variables: dict[str, str], address: str) -> None:
    config = served(**variables)
    trusted = ProxyHeadersMiddleware(config.app, trusted_hosts=config.forwarded_allow_ips).trusted_hosts
    assert address in trusted
    assert "203.0.113.5" not in trusted


def test_idle_connections_outlive_those_of_proxies(served) -> None:
    assert served().timeout_keep_alive > 60


def test_proxies_are_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("proxy.example", "10.0.0.1/8", "10.0.0.1,"):
        monkeypatch.setenv("PLEURA_TRUSTED_PROXIES", wrong)
        with pytest.raises(SettingsError, match=r"trusted_proxies \(from the variable PLEURA_TRUSTED_PROXIES\)"):
            load()
    monkeypatch.setenv("PLEURA_TRUSTED_PROXIES", "*")
    assert load().trusted_proxies == "*"


def test_a_metrics_token_is_long_and_does_not_print(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEURA_METRICS_TOKEN", "short-secret")
    with pytest.raises(SettingsError, match="metrics_token") as refused:
        load()
    assert "short-secret" not in str(refused.value)
    monkeypatch.setenv("PLEURA_METRICS_TOKEN", "x" * 20)
    assert "x" * 20 not in repr(load())
