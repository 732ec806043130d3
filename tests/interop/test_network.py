"""Networks as hospitals have them: a private certificate authority, a proxy that only tunnels, both at once."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import tiny_federation as tiny
from connect_proxy import ConnectProxy
from private_authority import Authority, behind_tls
from tiny_federation import Hospital, Server, wait_until

from participant import setup
from participant.session import Unreachable
from participant.settings import Config, ConfigError, Home

VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "authority.pem")


@pytest.fixture
def url(server: Server, authority: Authority, tmp_path: Path) -> Iterator[str]:
    with behind_tls(server, authority.issue(tmp_path / "server.pem")) as address:
        yield address


@pytest.fixture
def proxied(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., ConnectProxy]]:
    """Begins a proxy, and names it in the environment as a hospital's administrator does."""
    with contextlib.ExitStack() as stack:

        def begin(password: str | None = None, given: str = "") -> ConnectProxy:
            proxy = ConnectProxy(password)
            stack.callback(proxy.close)
            monkeypatch.setenv("HTTPS_PROXY", f"http://{given}{proxy.address}")
            return proxy

        yield begin


def make(folder: Path, url: str, ca_file: Path | None, number: int = 1) -> Home:
    home = Home(folder / f"site-{number}")
    settings = Config(name=f"site-{number}", coordinator=url, data=str(folder), ca_file=ca_file and str(ca_file))
    setup.make_home(home, settings, "auto")
    return home


def test_a_private_authority(server: Server, url: str, authority: Authority, tmp_path: Path) -> None:
    home = make(tmp_path, url, authority.file)
    assert setup.enrol(home, server.invite()).coordinator == server.services.coordinator


def test_an_authority_that_is_not_named(server: Server, url: str, tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match=r"set ca_file in config\.toml"):
        setup.enrol(make(tmp_path, url, None), server.invite())


def test_another_authority(server: Server, url: str, tmp_path: Path) -> None:
    other = Authority(tmp_path / "other.pem", "Somebody's CA")
    with pytest.raises(Unreachable, match="CERTIFICATE_VERIFY_FAILED"):
        setup.enrol(make(tmp_path, url, other.file), server.invite())


def test_a_certificate_of_another_machine(server: Server, authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue(tmp_path / "elsewhere.pem", name="elsewhere.example.org")
    with (
        behind_tls(server, certificate) as address,
        pytest.raises(Unreachable, match="not valid for 'localhost'"),
    ):
        setup.enrol(make(tmp_path, address, authority.file), server.invite())


def test_a_file_that_holds_no_certificate(server: Server, url: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("of no use")
    with pytest.raises(ConfigError, match=r"ca_file: .*ca\.pem holds no certificate"):
        setup.enrol(make(tmp_path, url, tmp_path / "ca.pem"), server.invite())


def test_a_round_through_a_proxy(
    server: Server, url: str, authority: Authority, proxied: Callable[..., ConnectProxy], tmp_path: Path
) -> None:
    """Three agents, every octet of theirs in the tunnel, and none that the proxy could read."""
    proxy = proxied("anna:geheim", "anna:geheim@")
    base = tiny.save_first_model(tmp_path / "first.safetensors")
    study = server.create_study(tmp_path / "first.safetensors", expected_sites=3, rounds=1)["id"]
    hospitals = []
    for number in (1, 2, 3):
        home = make(tmp_path, url, authority.file, number)
        setup.enrol(home, server.invite())
        hospitals.append(Hospital(home, tiny.TinyTrainer(number)))
        hospitals[-1].start()
    try:
        wait_until(lambda: server.study(study)["state"] == "finished", "the study to finish", 120)
    finally:
        for hospital in hospitals:
            hospital.stop()
    found = server.vector(server.study(study)["model"], tmp_path)
    tiny.check_model(found, base, server.rounds(study), [hospital.trainer for hospital in hospitals])
    assert set(proxy.asked) == {url.removeprefix("https://")}
    assert len(proxy.passed) > 10_000
    assert b"/v1/" not in proxy.passed
    assert b"Bearer" not in proxy.passed


def test_a_wrong_password_is_told_without_it(
    server: Server, url: str, authority: Authority, proxied: Callable[..., ConnectProxy], tmp_path: Path
) -> None:
    proxied("anna:geheim", "anna:falsch@")
    with pytest.raises(Unreachable, match="407") as caught:
        setup.enrol(make(tmp_path, url, authority.file), server.invite())
    assert "falsch" not in str(caught.value)


def test_no_proxy_is_heeded(
    server: Server,
    url: str,
    authority: Authority,
    proxied: Callable[..., ConnectProxy],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    proxy = proxied()
    monkeypatch.setenv("NO_PROXY", "localhost")
    setup.enrol(make(tmp_path, url, authority.file), server.invite())
    assert proxy.asked == []
