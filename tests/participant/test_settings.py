"""Settings files: strict, every fault at once, samples that load."""

from __future__ import annotations

from pathlib import Path

import pytest

from participant.policy import Policy, Refused, load_policy, sample
from participant.settings import Config, ConfigError, Home, dump, load

GOOD = 'name = "north"\ncoordinator = "https://pleura.example.org"\ndata = "/cases"\n'


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_a_dumped_config_loads_again(tmp_path: Path) -> None:
    config = Config(name="north", coordinator="https://pleura.example.org/", data="/cases", ca_file="ca.pem")
    assert load(Config, write(tmp_path / "config.toml", dump(config))) == config
    assert config.coordinator == "https://pleura.example.org"


def test_every_fault_is_named_with_its_key_and_fix(tmp_path: Path) -> None:
    path = write(tmp_path / "config.toml", 'name = ""\ncoordinater = "https://x"\ndata = 3\ndevice = "tpu"\n')
    with pytest.raises(ConfigError) as caught:
        load(Config, path)
    message = str(caught.value)
    assert str(path) in message
    assert "coordinater: there is no such key. Did you mean coordinator?" in message
    assert "coordinator: missing" in message
    for key in ("name: ", "data: ", "device: "):
        assert key in message


def test_a_line_that_is_no_toml_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="line 2"):
        load(Config, write(tmp_path / "config.toml", 'name = "north"\ndata =\n'))


@pytest.mark.parametrize(
    "address", ["pleura.example.org", "ftp://pleura.example.org", "https://", "http://10.0.0.5:8420"]
)
def test_addresses_that_are_refused(tmp_path: Path, address: str) -> None:
    text = GOOD.replace("https://pleura.example.org", address)
    with pytest.raises(ConfigError, match="coordinator: "):
        load(Config, write(tmp_path / "config.toml", text))


def test_plain_http_to_this_machine_or_when_asked_for(tmp_path: Path) -> None:
    here = GOOD.replace("https://pleura.example.org", "http://127.0.0.1:8420")
    assert load(Config, write(tmp_path / "a.toml", here)).coordinator == "http://127.0.0.1:8420"
    elsewhere = GOOD.replace("https://pleura.example.org", "http://10.0.0.5") + "plain_http = true\n"
    assert load(Config, write(tmp_path / "b.toml", elsewhere)).plain_http


def test_home_is_given_or_named_by_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLEURA_HOME", str(tmp_path / "variable"))
    assert Home.find(None).path == tmp_path / "variable"
    assert Home.find(tmp_path / "given").path == tmp_path / "given"
    with pytest.raises(ConfigError, match="pleura-participant init"):
        Home.find(tmp_path).load_config()


@pytest.mark.parametrize("peers", ["auto", "ask"])
def test_the_sample_policy_loads(tmp_path: Path, peers: str) -> None:
    policy = load_policy(write(tmp_path / "policy.toml", sample("auto" if peers == "auto" else "ask")))
    assert policy.peers == peers
    assert policy.reattempts == 2


def test_the_default_policy_asks_and_wants_three(tmp_path: Path) -> None:
    policy = load_policy(tmp_path / "absent.toml")
    assert (policy.peers, policy.minimum_contributors, policy.recipes) == ("ask", 3, "any")


@pytest.mark.parametrize(
    ("policy", "study", "code"),
    [
        (Policy(recipes=["ucadi"]), ("other", "lwe-ckks", 3), "recipe-not-allowed"),
        (Policy(), ("ucadi", "ckks", 3), "scheme-not-allowed"),
        (Policy(), ("ucadi", "lwe-ckks", 2), "minimum-too-low"),
    ],
)
def test_studies_outside_the_policy(policy: Policy, study: tuple[str, str, int], code: str) -> None:
    with pytest.raises(Refused) as caught:
        policy.check_study(*study)
    assert caught.value.code == code
    assert "policy.toml" in caught.value.words


def test_a_study_within_the_policy() -> None:
    Policy(recipes=["ucadi"], minimum_contributors=2).check_study("ucadi", "lwe-ckks", 2)


def test_a_fault_in_the_policy_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy\.toml.*\n.*minimum_contributors"):
        load_policy(write(tmp_path / "policy.toml", "minimum_contributors = 1\n"))
