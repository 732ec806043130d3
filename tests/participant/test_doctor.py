"""The doctor's checks of this machine and its home folder, each well and ill; nothing is changed by them."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections import namedtuple
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from participant import setup
from participant.cli import app
from participant.doctor import cases, graphics, keys, machine, network, rules
from participant.doctor.examination import examine
from participant.doctor.findings import Finding
from participant.ledger import Ledger
from participant.record import Record
from participant.settings import Config, Home

NOW = 1_800_000_000.0


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "film.png").write_bytes(b"an image")
    setup.make_home(made, Config(name="north", coordinator="http://127.0.0.1:9", data=str(tmp_path / "data")), "ask")
    return made


def only(found: Iterator[Finding]) -> Finding:
    (finding,) = found
    return finding


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- settings


def test_settings(home: Home) -> None:
    assert only(rules.config(home)).level == "ok"
    assert only(rules.policy(home)).level == "ok"


def test_all_faults_of_both_files_at_once(home: Home) -> None:
    change(home.config, 'device = "auto"', 'device = "gpu"\ntreads = 3')
    change(home.policy, "minimum_contributors = ", "minimum_contributors = -")
    findings = {finding.check: finding for finding in examine(home)}
    assert findings["config.toml"].level == findings["policy.toml"].level == "fail"
    assert all(word in findings["config.toml"].words for word in ("device: ", "Did you mean threads?"))
    assert "minimum_contributors: " in findings["policy.toml"].words
    assert "connection" not in findings, "nobody is called without sound settings"


def test_settings_that_trust_too_much(home: Home) -> None:
    change(home.policy, 'peers = "ask"', 'peers = "auto"')
    change(home.config, "plain_http = false", "plain_http = true")
    assert "invented" in only(rules.policy(home)).words
    assert only(rules.config(home)).level == "warn"


# --- this machine

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize(("free", "level"), [(5e8, "fail"), (5e9, "warn"), (5e11, "ok")])
def test_disk(home: Home, monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e12, 1e12 - free, free))
    finding = only(machine.home_disk(home, home.load_config()))
    assert finding.level == level
    assert f"{free / 1e9:.1f} GB free at {home.path}" in finding.words


def test_the_cache_may_not_grow_to_its_bound(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    config = home.load_config().model_copy(update={"cache_gb": 0.002})
    (home.path / "cache" / "cases").mkdir(parents=True)
    (home.path / "cache" / "cases" / "a.npy").write_bytes(bytes(1_500_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e12, 1e12, 600_000.0))
    assert only(machine.cache_disk(home, config)).level == "ok", "the rest of the bound is free"
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1e12, 1e12, 400_000.0))
    assert only(machine.cache_disk(home, config)).level == "warn"


def test_more_threads_than_processors(home: Home) -> None:
    config = home.load_config()
    assert only(machine.processors(home, config)).level == "ok"
    assert only(machine.processors(home, config.model_copy(update={"threads": 1000}))).level == "warn"


def test_a_package_that_is_missing(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(machine.packages(home)).level == "ok"
    needed = ["numpy>=2", "nothing-of-that-name>=1; extra == 'participant'", "flask; extra == 'dev'"]
    monkeypatch.setattr(machine, "requires", lambda _: needed)
    finding = only(machine.packages(home))
    assert finding.level == "fail"
    assert "Install nothing-of-that-name: pip install" in finding.fix


# --- GPU


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Has torch and this machine say so."""
    torch = pytest.importorskip("torch")

    def say(*, available: bool, built: str | None, here: bool) -> None:
        monkeypatch.setattr(torch.cuda, "is_available", lambda: available)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        monkeypatch.setattr(torch.version, "cuda", built)
        monkeypatch.setattr(graphics, "nvidia_here", lambda: here)

    return say


@pytest.mark.parametrize(
    ("device", "built", "here", "level", "words"),
    [
        ("cpu", None, True, "ok", "none is used"),
        ("auto", None, False, "ok", "on the CPU"),
        ("auto", None, True, "warn", "without CUDA"),
        ("cuda", None, True, "fail", "without CUDA"),
        ("auto", "12.8", True, "warn", "(CUDA 12.8) cannot use"),
        ("cuda", "12.8", False, "fail", "no NVIDIA GPU is seen"),
        ("mps", None, False, "fail", 'device is "mps"'),
    ],
)
def test_no_gpu_to_use(
    home: Home, cuda: Callable[..., None], device: str, built: str | None, here: bool, level: str, words: str
) -> None:
    cuda(available=False, built=built, here=here)
    finding = only(graphics.graphics(home, home.load_config().model_copy(update={"device": device})))
    assert (finding.level, words in finding.words) == (level, True), finding


@pytest.mark.parametrize(("free", "level"), [(1e9, "warn"), (2e10, "ok")])
def test_a_gpu(home: Home, cuda: Callable[..., None], monkeypatch: pytest.MonkeyPatch, free: float, level: str) -> None:
    import torch

    cuda(available=True, built="12.8", here=True)
    ones = torch.ones
    monkeypatch.setattr(torch, "ones", lambda size, device: ones(size))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (free, 2.4e10))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    finding = only(graphics.graphics(home, home.load_config()))
    assert (finding.level, "H200" in finding.words) == (level, True)


def test_a_gpu_that_this_torch_has_no_code_for(
    home: Home, cuda: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\nmore")

    cuda(available=True, built="12.8", here=True)
    monkeypatch.setattr(torch, "ones", refuse)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (2e10, 2.4e10))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "H200")
    finding = only(graphics.graphics(home, home.load_config()))
    assert finding.level == "fail"
    assert "no kernel image" in finding.words


# --- the home folder


def test_keys(home: Home) -> None:
    assert only(keys.identity(home)).level == "ok"
    home.path.chmod(0o755)
    (home.keys / "study").mkdir(parents=True)
    secret = home.keys / "study" / "epoch.secret"
    secret.touch(0o600)
    assert only(keys.identity(home)).level == "ok", "each file is closed"
    secret.chmod(0o644)
    finding = only(keys.identity(home))
    assert finding.level == "fail"
    assert str(secret) in finding.words
    secret.chmod(0o600)
    home.identity.chmod(0o640)
    assert "chmod 600" in only(keys.identity(home)).words
    home.identity.unlink()
    assert "no identity" in only(keys.identity(home)).words


def test_a_record_that_is_lost_or_damaged(home: Home) -> None:
    assert list(keys.memory(home)) == [], "before it enrolled there is none"
    home.enrolment.write_text("{}")
    assert only(keys.memory(home)).level == "warn"
    assert not home.record.exists(), "the doctor begins no new one"
    Record(home.record, fresh=True).close()
    assert only(keys.memory(home)).level == "ok"
    home.record.write_bytes(b"SQLite format 3\0" + bytes(5000))
    assert only(keys.memory(home)).level == "fail"


def test_a_ledger_that_was_changed(home: Home) -> None:
    Ledger(home.ledger).append("joined", name="ct-1")
    assert "1 lines, sound" in only(keys.ledger(home)).words
    change(home.ledger, "ct-1", "ct-2")
    assert only(keys.ledger(home)).level == "fail"


def test_what_a_crash_left(home: Home) -> None:
    for name in (".config.toml.4711", "fetched.partial", "array.new"):
        (home.path / name).write_bytes(bytes(1000))
    assert only(keys.leftovers(home)).level == "ok", "they may be in the making"
    hours_ago = time.time() - 7200
    for name in (".config.toml.4711", "fetched.partial"):
        os.utime(home.path / name, (hours_ago, hours_ago))
    finding = only(keys.leftovers(home))
    assert finding.level == "warn"
    assert finding.words.startswith("2 half-written files")


# --- images


def test_data(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = home.load_config()
    assert "1 files" in only(cases.data(home, config)).words
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # whoever runs this may be root
    finding = only(cases.data(home, config))
    assert finding.level == "fail"
    assert "film.png" in finding.words
    (tmp_path / "data" / "film.png").unlink()
    assert "no file in it" in only(cases.data(home, config)).words
    (tmp_path / "data").rmdir()
    assert f"there is no {tmp_path / 'data'}" in only(cases.data(home, config)).words


def test_a_folder_that_cannot_be_listed(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(place: Path, onerror: Callable[[OSError], None]) -> Iterator[tuple[str, list[str], list[str]]]:
        onerror(PermissionError(13, "Permission denied", f"{place}/closed"))
        yield str(place), ["closed"], ["film.png"]

    monkeypatch.setattr(os, "walk", walk)
    finding = only(cases.data(home, home.load_config()))
    assert finding.level == "fail"
    assert "/closed" in finding.words


# --- network, as far as it needs nobody there


@pytest.mark.parametrize(
    ("ahead", "level"),
    [(0.5, "ok"), (-1.0, "ok"), (30.5, "warn"), (-300.0, "warn"), (700.0, "fail"), (-90_000.0, "fail")],
)
def test_clock(ahead: float, level: str) -> None:
    finding = only(network.clock(formatdate(NOW, usegmt=True), NOW + ahead))
    assert finding.level == level
    assert ("NTP" in finding.fix) == (level != "ok")


def test_an_answer_without_a_date() -> None:
    assert only(network.clock(None, NOW)).level == "warn"


def test_a_password_of_the_proxy_is_not_shown(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy", "http_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HTTP_PROXY", "http://anna:geheim@127.0.0.1:3128")
    monkeypatch.setenv("http_proxy", "http://anna:geheim@127.0.0.1:3128")
    proxy, name = network.route(home, home.load_config())
    assert proxy.words.startswith("http://[hidden]@127.0.0.1:3128")
    assert name.level == "ok"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert only(network.route(home, home.load_config())).check == "name"


def test_a_name_that_nobody_knows(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    config = home.load_config().model_copy(update={"coordinator": "https://pleura.invalid"})
    finding = only(network.route(home, config))
    assert finding.level == "fail"
    assert "pleura.invalid is not known here" in finding.words


# --- the command


def test_the_command_ends_with_one_and_says_what_to_do(home: Home) -> None:
    result = CliRunner().invoke(app, ["doctor", "--home", str(home.path)])
    assert result.exit_code == 1
    assert "fail  connection: the coordinator at http://127.0.0.1:9 cannot be reached" in result.output
    assert "-> pleura-participant enrol INVITATION" in result.output
    assert "to mend" in result.output


def test_json(home: Home) -> None:
    result = CliRunner().invoke(app, ["doctor", "--json", "--home", str(home.path)])
    said = json.loads(result.output)
    assert result.exit_code == 1
    assert said["failed"] == sum(finding["level"] == "fail" for finding in said["findings"]) == 2
    assert {"check", "level", "words", "fix"} == set(said["findings"][0])


def test_a_check_that_breaks_is_a_finding(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise ZeroDivisionError("by nothing")

    monkeypatch.setattr(shutil, "disk_usage", broken)
    found = {finding.check: finding for finding in examine(home)}
    assert "ZeroDivisionError" in found["home_disk"].words
    assert "connection" in found, "the others are made all the same"


def test_nothing_is_changed(home: Home) -> None:
    before = {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()}
    list(examine(home))
    assert {path: path.read_bytes() for path in home.path.rglob("*") if path.is_file()} == before
