"""The dashboard and the alerts ask for what /metrics tells, in PromQL that can be read; the page explains all of it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from test_api_round import run_round

from coordinator.api.bodies import OCTETS
from coordinator.api.openapi import operations
from coordinator.problems import every_entry
from coordinator.settings import Settings

ROOT = Path(__file__).parents[2]
DASHBOARD = json.loads((ROOT / "deploy/grafana/pleura.json").read_text())
ALERTS = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())
SCRAPES = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())
PAGE = (ROOT / "docs/monitoring.md").read_text()
RULES = [rule for group in ALERTS["groups"] for rule in group["rules"]]
TARGETS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel["targets"]]
EXPRESSIONS = [rule["expr"] for rule in RULES] + [expression for _, expression in TARGETS]
_SUFFIXES = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum"), "gauge": ("",)}
_PROMETHEUS_OWN, _TARGETS_OWN = {"up"}, {"job", "instance"}


@pytest.fixture
def exposed(world) -> dict[str, set[str]]:
    """The labels of everything that /metrics tells after a round, by the name that Prometheus gives it."""
    world.begin()
    run_round(world)
    world.app.state.housekeeper.tidy()
    world.call("GET", "/v1/sites")  # a problem, of which there would be none
    world.services.store.on_repeat("take lease")
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(world.operate("GET", "/metrics", world.auditor).text):
        for suffix in _SUFFIXES[family.type]:
            name = family.name + suffix
            found[name] = {label for sample in family.samples if sample.name == name for label in sample.labels}
    return found


def selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """Each metric that an expression names, with the labels that it asks for."""
    yield from _walk(promql_parser.parse(expression.replace("$job", "pleura").replace("$instance", "a")))


def _walk(node: Any) -> Iterator[tuple[str, set[str]]]:
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
        return
    if isinstance(node, promql_parser.MatrixSelector):
        yield from _walk(node.vector_selector)
        return
    for name in ("expr", "lhs", "rhs"):
        if hasattr(node, name):
            yield from _walk(getattr(node, name))
    for argument in getattr(node, "args", None) or ():
        yield from _walk(argument)


def test_what_is_asked_for_is_told(exposed) -> None:
    missing = []
    for expression in EXPRESSIONS:
        found = list(selectors(expression))
        assert {name for name, _ in found} == set(re.findall(r"\b(?:pleura|process)_\w+|\bup\b", expression)), (
            expression
        )
        for name, labels in found:
            there = name in exposed and labels - _TARGETS_OWN <= exposed[name]
            if not there and name not in _PROMETHEUS_OWN:
                missing.append((name, labels, expression))
    assert not missing


def test_an_expression_that_cannot_be_read_is_noticed() -> None:
    with pytest.raises(ValueError, match=r"."):
        list(selectors("sum by (state (pleura_rounds)"))


def test_the_page_explains_every_number_and_every_alert(exposed) -> None:
    ours = {name.removesuffix("_bucket") for name in exposed if name.startswith("pleura_")}
    named = set(re.findall(r"`(pleura_\w+)", PAGE))
    assert named == {name for name in ours if not name.endswith(("_count", "_sum"))}
    headings = re.findall(r"^### (Pleura\w+)$", PAGE, re.MULTILINE)
    assert headings == [rule["alert"] for rule in RULES]


def test_alerts_name_what_they_are_about() -> None:
    """A label that the expression sums away would be empty in the message."""
    for rule in RULES:
        (words,) = rule["annotations"].values()
        kept = set(re.findall(r"\$labels\.(\w+)", words))
        grouped = {label for labels in re.findall(r"by \(([^)]*)\)", rule["expr"]) for label in labels.split(", ")}
        assert not kept or kept <= (grouped or {"instance"}), rule["alert"]
        assert rule["labels"]["severity"] in ("critical", "warning", "info")


def slow_by_nature(operation: dict[str, Any]) -> bool:
    """It carries octets. What is held until there is news is not: that time is not told as the call's."""
    bodies = (operation.get("requestBody", {}), operation["responses"].get("200", {}))
    return any(OCTETS in body.get("content", {}) for body in bodies)


def test_what_is_slow_by_nature_is_not_told_as_slow(world) -> None:
    (expression,) = [rule["expr"] for rule in RULES if rule["alert"] == "PleuraSlow"]
    (left_out,) = re.findall(r'route!~"([^"]*)"', expression)
    calls = list(operations(world.app.openapi()))
    slow = {path for _, path, operation in calls if slow_by_nature(operation)}
    assert len(slow) > 10
    own = {"/readyz", "/metrics", "/models"}  # checks of the whole, and the upload from the page
    assert {path for path in slow | own if not re.fullmatch(left_out, path)} == set()
    kept = {path for _, path, _ in calls if not re.fullmatch(left_out, path)}
    assert {"/v1/studies", "/v1/studies/{study}/rounds", "/v1/enrolments", "/healthz"} <= kept


def test_refused_tokens_are_told_by_what_is_wrong_with_them() -> None:
    """Anybody may call without a token."""
    (expression,) = [rule["expr"] for rule in RULES if rule["alert"] == "PleuraTokensRefused"]
    (codes,) = re.findall(r'code=~"([^"]*)"', expression)
    told = {entry.code for entry in every_entry() if re.fullmatch(codes, entry.code)}
    assert told == {"token-invalid", "token-expired", "token-replayed"}
    (about,) = re.findall(r"### PleuraTokensRefused\n\n(.*?)\n\n", PAGE, re.DOTALL)
    assert all(f"`{code}`" in about for code in told)


def test_panels_have_their_places() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])


def test_prometheus_asks_where_the_coordinator_listens() -> None:
    settings = Settings()
    (job,) = SCRAPES["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"{settings.host}:{settings.port}"]}]
    assert job.get("metrics_path", "/metrics") == "/metrics"
    assert all(f'job="{job["job_name"]}"' in rule["expr"] for rule in RULES)
    assert SCRAPES["rule_files"] == ["alerts.yml"]
