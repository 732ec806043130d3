"""The rules of policy.toml beyond those of test_settings: coordinators, figures, privacy."""

from __future__ import annotations

from pathlib import Path

import pytest

from crypto.privacy import Privacy
from participant.policy import Policy, Refused, load_policy
from participant.settings import ConfigError

PROMISE = Privacy(clip=1.0, noise_multiplier=2.0, delta=1e-6)


def refusal(policy: Policy, *arguments: object, rule: str = "check_privacy") -> Refused:
    with pytest.raises(Refused, match=r"policy\.toml") as caught:
        getattr(policy, rule)(*arguments)
    return caught.value


# --- coordinators


def test_coordinators_are_named_by_their_address() -> None:
    Policy().check_coordinator("https://anywhere.example")
    named = Policy(coordinators=["https://pleura.example/"])
    named.check_coordinator("https://pleura.example")
    assert refusal(named, "https://other.example", rule="check_coordinator").code == "coordinator-not-allowed"


# --- figures


@pytest.mark.parametrize(("counts", "weighting"), [(True, "equal"), (False, "samples"), (False, "dynamic")])
def test_without_metrics_nothing_that_counts_cases(counts: bool, weighting: str) -> None:
    assert refusal(Policy(metrics="none"), counts, weighting, rule="check_figures").code == "figures-not-allowed"
    for allowed in ("pooled", "site"):
        Policy(metrics=allowed).check_figures(counts, weighting)


def test_without_metrics_a_study_without_figures() -> None:
    Policy(metrics="none").check_figures(False, "equal")


# --- privacy


def test_without_a_floor_any_study_will_do() -> None:
    Policy().check_privacy(None, 100)
    Policy().check_privacy(PROMISE, 10_000)


@pytest.mark.parametrize("floor", [{"privacy_epsilon": 8.0}, {"privacy_noise_multiplier": 0.5}])
def test_a_floor_refuses_studies_that_promise_nothing(floor: dict[str, float]) -> None:
    assert refusal(Policy(**floor), None, 1).code == "privacy-missing"


def test_the_noise_has_a_floor() -> None:
    Policy(privacy_noise_multiplier=2.0).check_privacy(PROMISE, 1000)
    assert "2 is below" in refusal(Policy(privacy_noise_multiplier=2.5), PROMISE, 1).words


def test_epsilon_has_a_ceiling_over_all_contributions() -> None:
    policy = Policy(privacy_epsilon=8.0)
    most = max(sums for sums in range(1, 100) if PROMISE.epsilon(sums) <= 8)
    policy.check_privacy(PROMISE, most)
    refused = refusal(policy, PROMISE, most + 1)
    assert refused.code == "privacy-spent"
    assert f"with {most + 1} contributions" in refused.words


def test_a_large_delta_makes_no_small_epsilon() -> None:
    generous = Privacy(clip=1.0, noise_multiplier=2.0, delta=1e-3)
    assert "delta of 0.001" in refusal(Policy(privacy_epsilon=8.0), generous, 1).words
    Policy(privacy_epsilon=8.0, privacy_delta=1e-3).check_privacy(generous, 1)


# --- the file


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('training_hours = "22-6"', 'training_hours: hours are written as "22:00-06:00"'),
        ('training_days = ["monday"]', "training_days: input should be 'mon'"),
        ("training_days = []", "training_days: list should have at least 1 item"),
        ("gpu_share = 1.5", "gpu_share: input should be less than or equal to 1"),
        ("upload_rate = 10", "upload_rate: input should be greater than or equal to 1024"),
        ("privacy_epsilon = 0", "privacy_epsilon: input should be greater than 0"),
        ("privacy_floor = 1", "privacy_floor: there is no such key"),
        ('metrics = "all"', "metrics: input should be 'none', 'pooled' or 'site'"),
    ],
)
def test_each_fault_is_named(tmp_path: Path, text: str, fault: str) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(f"{text}\n")
    with pytest.raises(ConfigError) as caught:
        load_policy(file)
    assert fault in str(caught.value)


def test_whole_numbers_will_do(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text('privacy_epsilon = 8\nupload_rate = 500000\ntraining_hours = "20:00-05:30"\n')
    policy = load_policy(file)
    assert (policy.privacy_epsilon, policy.upload_rate, policy.hours.start) == (8, 500_000, 20 * 60)
