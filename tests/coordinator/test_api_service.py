"""Status, limits, the OpenAPI document, and what the coordinator never imports."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from coordinator.api.examples import MESSAGES
from coordinator.app import open_services
from coordinator.problems import PROBLEMS

ROOT = Path(__file__).parents[2]

IMPORTS = """
import sys

numbers = {"models", "models.pooled", "models.statistics"}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        refused = {"torch", "torchvision", "monai", "models", "participant", "simulation"}
        if name.split(".")[0] in refused and name not in numbers:
            raise ImportError("refused: " + name)

sys.meta_path.insert(0, Refuse())
import coordinator.app, coordinator.cli
loaded = {name for name in sys.modules if name.split(".")[0] in {"torch", "models", "participant", "simulation"}}
loaded -= numbers
loaded |= sys.modules.keys() & {"crypto.ckks_secret", "crypto.epochs", "crypto.schemes.opening"}
sys.exit(repr(sorted(loaded)) if loaded else 0)
"""


def test_neither_torch_nor_secret_keys_are_ever_loaded() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_status(world) -> None:
    status = world.call("GET", "/v1/status").json()
    assert (status["product"], status["protocols"], status["time"]) == ("pleura", [1], world.clock.now())
    assert status["coordinator"] == str(world.services.coordinator)


def test_the_id_outlives_a_restart(world) -> None:
    again = open_services(world.services.settings)
    again.store.close()
    assert again.coordinator == world.services.coordinator


def test_bodies_have_limits(new_world, refused) -> None:
    world = new_world(max_message_bytes=1000)
    document = refused(world.call("POST", "/v1/enrolments", content=b" " * 1001), 413, "too-large")
    assert document["limit"] == 1000

    async def unannounced():
        for _ in range(3):
            yield b" " * 500

    refused(world.call("POST", "/v1/enrolments", content=unannounced()), 413, "too-large")
    refused(world.call("POST", "/v1/enrolments", content=b" " * 999), 422, "request-invalid")


def test_the_audit_log_comes_in_pieces(world) -> None:
    world.create_study()
    rows = world.operate("GET", "/v1/audit", world.auditor).json()
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    assert world.operate("GET", "/v1/audit?after=2").json() == rows[2:]
    assert rows[1]["previous"] == rows[0]["hash"]


class TestOpenApi:
    @pytest.fixture
    def document(self, world):
        return world.call("GET", "/openapi.json").json()

    def test_every_call_of_the_contract_is_there(self, document) -> None:
        """docs/wire.md names them as `METHOD /path`, or `METHOD .../end of path`."""
        named = re.findall(r"`(GET|PUT|POST|DELETE) ([^`? ]+)", (ROOT / "docs/wire.md").read_text())
        assert len(named) > 35
        served = {
            (method.upper(), re.sub(r"{[^}]*}", "{}", path))
            for path, calls in document["paths"].items()
            for method in calls
        }
        for method, path in named:
            wanted = re.sub(r"{[^}]*}", "{}", path.removeprefix("..."))
            assert any(verb == method and found.endswith(wanted) for verb, found in served), (method, path)

    def test_examples_are_good_messages(self) -> None:
        for kind, example in MESSAGES.items():
            assert kind.from_json(example).to_json() == example

    def test_every_reference_leads_somewhere(self, document) -> None:
        def references(value):
            if isinstance(value, dict):
                if isinstance(value.get("$ref"), str):
                    yield value["$ref"]
                for child in value.values():
                    yield from references(child)
            elif isinstance(value, list):
                for child in value:
                    yield from references(child)

        found = set(references(document))
        assert "#/components/schemas/Signed_Manifest" in found
        for reference in found:
            assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]

    def test_problems_are_shown_with_examples(self, document) -> None:
        responses = document["paths"]["/v1/enrolments"]["post"]["responses"]
        examples = responses["403"]["content"]["application/problem+json"]["examples"]
        assert set(examples) == {"invitation-invalid", "invitation-used", "invitation-expired"}
        assert {entry.code for entry in PROBLEMS.values()} >= set(examples)
