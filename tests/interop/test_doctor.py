"""The doctor against a real coordinator, over TLS with a private authority and through a proxy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from connect_proxy import ConnectProxy
from private_authority import Authority, behind_tls
from tiny_federation import Hospital, Server

from crypto.parameters import PROTOCOL_VERSION
from participant import setup, updates
from participant.doctor import network, peers
from participant.doctor.findings import Finding
from participant.settings import Config, Home


def by_check(found: Iterator[Finding]) -> dict[str, Finding]:
    return {finding.check: finding for finding in found}


@pytest.fixture
def behind(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Home]:
    """A home whose way to the coordinator is a proxy, TLS and an authority of the hospital's; not enrolled."""
    for name in ("NO_PROXY", "no_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    authority, proxy = Authority(tmp_path / "ca.pem"), ConnectProxy()
    monkeypatch.setenv("HTTPS_PROXY", f"http://{proxy.address}")
    with behind_tls(server, authority.issue(tmp_path / "server.pem")) as url:
        home = Home(tmp_path / "north")
        config = Config(name="north", coordinator=url, data=str(tmp_path), ca_file=str(authority.file))
        setup.make_home(home, config, "auto")
        yield home
    proxy.close()


def test_all_is_well(behind: Home) -> None:
    config = behind.load_config()
    found = by_check(network.route(behind, config)) | by_check(network.coordinator(behind, config))
    assert {finding.level for finding in found.values()} == {"ok"}, found
    assert set(found) == {"proxy", "name", "connection", "tls", "coordinator", "clock", "readiness"}
    assert "certificate of Hospital CA, good for 90 more days" in found["tls"].words


def test_a_certificate_about_to_end(server: Server, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca.pem")
    with behind_tls(server, authority.issue(tmp_path / "server.pem", days=3)) as url:
        config = Config(name="north", coordinator=url, data="d", ca_file=str(authority.file))
        finding = by_check(network.coordinator(Home(tmp_path), config))["tls"]
    assert finding.level == "warn"
    assert "good for 3 more days" in finding.words


def test_an_authority_that_is_not_named(server: Server, tmp_path: Path) -> None:
    with behind_tls(server, Authority(tmp_path / "ca.pem").issue(tmp_path / "server.pem")) as url:
        config = Config(name="north", coordinator=url, data="d")
        (finding,) = network.coordinator(Home(tmp_path), config)
    assert finding.level == "fail"
    assert "set ca_file" in finding.words


def test_somebody_else_answers(enrol: Callable[..., Hospital], server: Server, tmp_path: Path) -> None:
    home = enrol(1).home
    other = setup.enrolment_of(home).model_copy(update={"coordinator": setup.enrolment_of(home).site})
    home.enrolment.write_text(other.model_dump_json())
    found = by_check(network.coordinator(home, home.load_config()))
    assert found["coordinator"].level == "fail"
    assert "another coordinator" in found["coordinator"].words
    page = Config(name="n", coordinator=f"{server.url}/login", data="d")
    assert "is no coordinator" in by_check(network.coordinator(home, page))["coordinator"].words


def test_versions_that_do_not_fit(enrol: Callable[..., Hospital], monkeypatch: pytest.MonkeyPatch) -> None:
    home = enrol(1).home
    monkeypatch.setattr(updates, "own_version", lambda: "0.0.1")
    assert by_check(network.coordinator(home, home.load_config()))["coordinator"].level == "warn"
    monkeypatch.setattr(updates, "PROTOCOL_VERSION", PROTOCOL_VERSION - 1)
    found = by_check(network.coordinator(home, home.load_config()))["coordinator"]
    assert found.level == "fail"
    assert "Update the agent" in found.words


def test_hospitals_that_wait_for_approval(
    enrol: Callable[..., Hospital], study: Callable[..., str], look: Callable[..., list[object]]
) -> None:
    north, south = enrol(1), enrol(2)
    study()
    north.home.policy.write_text(north.home.policy.read_text().replace('peers = "auto"', 'peers = "ask"'))
    look(north, south)
    found = by_check(peers.studies(north.home))
    assert found["site"].level == "ok"
    assert found["tiny"].level == "warn"
    assert "not approved here: site-2" in found["tiny"].words
    assert by_check(peers.studies(south.home))["tiny"].level == "ok"


def test_a_site_that_the_coordinator_does_not_know(enrol: Callable[..., Hospital]) -> None:
    home = enrol(1).home
    stranger = setup.enrolment_of(home).model_copy(update={"site": setup.enrolment_of(home).coordinator})
    home.enrolment.write_text(stranger.model_dump_json())
    found = by_check(peers.studies(home))
    assert found["site"].level == "fail"
    assert "is enrolled here" in found["site"].words
