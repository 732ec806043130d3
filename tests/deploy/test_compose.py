"""The composition: what its parts say of each other, and what the coordinator makes of its settings there."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import samples
from sqlalchemy import make_url

from coordinator.settings import load

COMPOSE: Final = samples.compose()
SERVICES: Final[dict[str, Any]] = COMPOSE["services"]
OURS: Final = ("coordinator", "migrate")


def _sources(service: dict[str, Any]) -> set[str]:
    return {entry.partition(":")[0] for entry in service.get("volumes", ())}


def test_whatever_is_named_is_there() -> None:
    assert set(SERVICES) == {"proxy", "coordinator", "migrate", "database"}
    used: dict[str, set[str]] = {"volumes": set(), "networks": set(), "secrets": set()}
    for service in SERVICES.values():
        used["volumes"] |= {source for source in _sources(service) if not source.startswith(".")}
        used["networks"] |= set(service["networks"])
        used["secrets"] |= {each if isinstance(each, str) else each["source"] for each in service.get("secrets", ())}
        for source in _sources(service):
            assert not source.startswith(".") or (samples.DOCKER / source).is_file()
        for other, condition in service.get("depends_on", {}).items():
            _check_awaited(other, condition["condition"])
    assert {kind: set(COMPOSE[kind]) for kind in used} == used


def _check_awaited(other: str, condition: str) -> None:
    """Compose waits for ever for the health of what has no check."""
    if condition == "service_healthy":
        image = [word for word, _ in samples.last_stage(samples.DOCKER / "coordinator.Dockerfile")]
        assert "healthcheck" in SERVICES[other] or (other in OURS and "HEALTHCHECK" in image)
    else:
        assert condition == "service_completed_successfully"
        assert SERVICES[other]["restart"] == "no"


@pytest.mark.parametrize("name", OURS)
def test_the_coordinator_can_do_nothing_but_its_work(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]  # noqa: S108
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "user" not in service, "the image's own, which is not root"
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["build"]["dockerfile"] == "docker/coordinator.Dockerfile"
    assert (samples.DOCKER / service["build"]["context"]).resolve() == samples.ROOT


@pytest.mark.parametrize("name", OURS)
def test_its_settings_work(name: str, elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service = SERVICES[name]
    stage = samples.last_stage(samples.DOCKER / "coordinator.Dockerfile")
    (secret,) = service["secrets"]
    inside = f"/run/secrets/{secret['target']}"
    outside = elsewhere / secret["target"]  # the ending says how it is read
    outside.write_text((samples.DOCKER / "secrets.toml.sample").read_text())
    for variable, value in {**samples.pairs(stage, "ENV"), **service["environment"]}.items():
        if variable.startswith("PLEURA_"):
            assert isinstance(value, str)
            monkeypatch.setenv(variable, value.replace(inside, str(outside)))
    settings = load()
    assert settings.secure_cookies
    assert f"data:{settings.data_dir}" in service["volumes"]
    url, database = make_url(settings.database), SERVICES["database"]["environment"]
    assert (url.drivername, url.host, url.password) == ("postgresql+psycopg", "database", "PASSWORD")
    assert (url.username, url.database) == (database["POSTGRES_USER"], database["POSTGRES_DB"])
    assert f"--username={url.username}" in SERVICES["database"]["healthcheck"]["test"]
    assert f"--dbname={url.database}" in SERVICES["database"]["healthcheck"]["test"]


@pytest.mark.parametrize("name", OURS)
def test_its_command_is_there(name: str) -> None:
    command = SERVICES[name].get("command")
    samples.check_command(samples.entrypoint(samples.DOCKER / "coordinator.Dockerfile", command))


def test_secrets_are_files_that_are_not_committed() -> None:
    folders = {entry["file"].partition("/")[0] + "/" for entry in COMPOSE["secrets"].values()}
    assert folders == {"secrets/"}
    assert folders <= set((samples.DOCKER / ".gitignore").read_text().splitlines())
    database = SERVICES["database"]
    assert database["environment"]["POSTGRES_PASSWORD_FILE"] == f"/run/secrets/{database['secrets'][0]}"
    assert "POSTGRES_PASSWORD" not in database["environment"]


def test_only_the_proxy_is_reached_and_only_it_may_say_who_calls() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]
    inner = {name for name, network in COMPOSE["networks"].items() if network and network.get("internal")}
    assert inner == {"proxied", "stored"}
    assert all(set(service["networks"]) <= inner for name, service in SERVICES.items() if name != "proxy")
    members = {name for name, service in SERVICES.items() if "proxied" in service["networks"]}
    assert members == {"proxy", "coordinator"}
    (range_,) = COMPOSE["networks"]["proxied"]["ipam"]["config"]
    assert SERVICES["coordinator"]["environment"]["PLEURA_TRUSTED_PROXIES"] == range_["subnet"]
