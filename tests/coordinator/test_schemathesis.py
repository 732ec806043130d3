"""The whole API as its OpenAPI document describes it: drawn requests from an operator, an auditor and a site.

The coordinator has a study in the midst of a round, and half of the addresses name what is there, so that calls get
past "no such study". What is checked: nothing answers 500, and every answer has a status, a content type and a form
that the document names.
"""

from __future__ import annotations

from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.generation.modes import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from crypto.canonical import sha256

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
CALLERS = ("operator", "auditor", "site")
ENDING = ("/stop", "/membership")  # they would end what the other calls are about


@pytest.fixture
def busy(world: Any) -> Any:
    """A study whose first round is open, with a contribution and a half one; a webhook, an invitation."""
    world.begin()
    world.sites[0].contribute()
    world.sites[1].put(f"{world.attempt}/parts/0", world.sites[1].seal()[0][0])
    world.webhook = world.operate("POST", "/v1/webhooks", json={"url": "https://hooks.example.org/"}).json()["id"]
    world.invitation()
    return world


def known(world: Any, path: str) -> dict[str, Any]:
    """Values of path parameters that exist."""
    site = str(world.sites[0].id)
    here = {} if path.endswith(ENDING) else {"study": str(world.study_id)}
    same = dict.fromkeys(("contributor", "sender", "recipient", "holder"), site)
    numbers = {"round": 1, "attempt": 1, "number": 0}
    return {**here, **same, **numbers, "digest": sha256(world.model), "webhook": world.webhook}


def drawn(world: Any, operation: Any, negative: bool) -> st.SearchStrategy[Any]:
    """Requests as the document describes them, and with `negative` also such as it rules out."""
    there = known(world, operation.path)

    def naming(case: Any) -> st.SearchStrategy[Any]:
        names = [name for name in case.path_parameters or {} if name in there]
        return st.sets(st.sampled_from(names)).map(lambda chosen: named(case, chosen)) if names else st.just(case)

    def named(case: Any, chosen: set[str]) -> Any:
        case.path_parameters = {**case.path_parameters, **{name: there[name] for name in chosen}}
        return case

    modes = [GenerationMode.POSITIVE, *([GenerationMode.NEGATIVE] if negative else [])]
    return st.one_of([operation.as_strategy(generation_mode=mode).flatmap(naming) for mode in modes])


def headers_of(world: Any, caller: str) -> dict[str, str]:
    token = world.sites[0].token() if caller == "site" else getattr(world, caller)
    return {"Authorization": f"Bearer {token}"}


def send(world: Any, case: Any, caller: str) -> httpx.Response:
    world.clock.advance(0.05)  # within the rate that one caller is admitted at
    asked = case.as_transport_kwargs(base_url="http://coordinator", headers=headers_of(world, caller))
    request = {name: asked[name] for name in ("params", "json") if asked.get(name) is not None}
    if asked.get("data") is not None:
        request["content"] = asked["data"]
    return world.call(asked["method"], asked["url"], headers=asked["headers"], **request)


def faults(world: Any, operation: Any, examples: int, negative: bool) -> list[str]:
    """What an operation answers that the document does not say."""

    @seed(1)
    @settings(
        max_examples=examples,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=drawn(world, operation, negative), caller=st.sampled_from(CALLERS))
    def check(case: Any, caller: str) -> None:
        case.validate_response(send(world, case, caller), checks=CHECKS)

    try:
        check()
    except (Exception, FailureGroup) as error:
        return [f"{operation.label}: {error}"]
    return []


def run(world: Any, examples: int, *, negative: bool) -> None:
    schema = schemathesis.openapi.from_dict(world.app.openapi())
    operations = [found.ok() for found in schema.get_all_operations()]
    assert len(operations) > 60
    found = [fault for operation in operations for fault in faults(world, operation, examples, negative)]
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("new_database", ["sqlite"], indirect=True)
def test_every_call_keeps_to_its_description(busy: Any) -> None:
    run(busy, 8, negative=False)


@pytest.mark.nightly
@pytest.mark.timeout(1500)
def test_every_call_keeps_to_its_description_whatever_is_sent(busy: Any) -> None:
    run(busy, 60, negative=True)
