"""Settings from every source, and all their faults at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from coordinator.settings import Settings, SettingsError, load

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No settings but the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in Settings.model_fields:
        monkeypatch.delenv(f"PLEURA_{name.upper()}", raising=False)
    monkeypatch.delenv("PLEURA_CONFIG", raising=False)
    return tmp_path


def test_defaults(elsewhere: Path) -> None:
    settings = load()
    assert settings.database == f"sqlite:///{elsewhere}/pleura-data/coordinator.db"
    assert settings.blobs == elsewhere / "pleura-data" / "blobs"
    assert settings.host == "127.0.0.1"


def test_the_command_line_beats_variables_beat_the_file(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = elsewhere / "c.toml"
    file.write_text('host = "file"\nport = 1\nlog_level = "DEBUG"\n')
    monkeypatch.setenv("PLEURA_HOST", "variable")
    monkeypatch.setenv("PLEURA_PORT", "2")
    settings = load({"port": 3, "data_dir": None}, file)
    assert (settings.port, settings.host, settings.log_level) == (3, "variable", "DEBUG")


def test_files_are_found(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (elsewhere / "pleura-coordinator.toml").write_text("port = 11\n")
    assert load().port == 11
    (elsewhere / "other.env").write_text("PLEURA_PORT=12\n")
    monkeypatch.setenv("PLEURA_CONFIG", str(elsewhere / "other.env"))
    assert load().port == 12


def test_every_fault_at_once_with_source_and_fix(elsewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = elsewhere / "c.toml"
    file.write_text('prot = 8080\nlog_level = "LOUD"\n')
    monkeypatch.setenv("PLEURA_MAX_MODEL_BYTES", "lots")
    monkeypatch.setenv("PLEURA_POLL_SECOND", "1")
    with pytest.raises(SettingsError) as raised:
        load({"port": 70000}, file)
    words = str(raised.value)
    for expected in (
        f"prot (in {file}): there is no such setting. Did you mean port?",
        f"log_level (from {file})",
        "max_model_bytes (from the variable PLEURA_MAX_MODEL_BYTES)",
        "PLEURA_POLL_SECOND (a variable): there is no such setting. Did you mean poll_seconds?",
        "port (from --port)",
    ):
        assert expected in words


def test_an_unknown_key_in_an_env_file(elsewhere: Path) -> None:
    file = elsewhere / "c.env"
    file.write_text("PLEURA_PROT=8080\nPLEURA_PORT=many\n")
    with pytest.raises(SettingsError, match=r"no such setting. Did you mean port") as raised:
        load(config=file)
    assert "port (from" in str(raised.value)


def test_other_programs_variables_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEURA_VECTORS", "/somewhere")
    monkeypatch.setenv("PLEURA_HOME", "/home of an agent on the same machine")
    assert load().port == 8420


def test_a_missing_or_broken_file(elsewhere: Path) -> None:
    with pytest.raises(SettingsError, match=r"There is no settings file .*absent\.toml"):
        load(config=elsewhere / "absent.toml")
    (elsewhere / "broken.toml").write_text("port = = 1")
    with pytest.raises(SettingsError, match="cannot be read"):
        load(config=elsewhere / "broken.toml")


def test_a_database_password_is_not_shown() -> None:
    settings = load({"database_url": "postgresql://pleura:hunter2@db/pleura"})
    assert "hunter2" not in repr(settings)


@pytest.mark.parametrize("sample", sorted((ROOT / "docker").glob("coordinator*.sample")), ids=lambda path: path.name)
def test_the_samples_work(elsewhere: Path, sample: Path) -> None:
    copy = elsewhere / sample.name.removesuffix(".sample")
    copy.write_text(sample.read_text().replace("\n#PLEURA_", "\nPLEURA_"))
    assert load(config=copy).data_dir == Path("/data")
