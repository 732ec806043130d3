"""Headers that keep browsers and caches from doing more with an answer than they should, on every answer."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "path", ["/v1/sites", "/v1/status", "/", "/nowhere", "/fail", "/metrics", "/static/pleura.css"]
)
def test_every_answer_has_them(world, path: str) -> None:
    def fail() -> None:
        raise RuntimeError

    world.app.add_api_route("/fail", fail)
    headers = world.operate("GET", path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert "frame-ancestors 'none'" in headers["content-security-policy"]
    assert (headers.get("cache-control") == "no-store") == (path != "/static/pleura.css")
    assert "strict-transport-security" not in headers


def test_a_model_may_be_kept_by_who_got_it(world) -> None:
    world.create_study()
    model = world.operate("GET", world.study).json()["model"]
    answer = world.operate("GET", f"/v1/models/{model}")
    assert answer.headers["cache-control"].startswith("private, ")


def test_behind_tls_browsers_stay_with_it(new_world) -> None:
    world = new_world(secure_cookies=True)
    assert world.call("GET", "/v1/status").headers["strict-transport-security"] == "max-age=31536000"
