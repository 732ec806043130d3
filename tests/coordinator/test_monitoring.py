"""What /metrics tells after real requests and a real round, and who may read it."""

from __future__ import annotations

import shutil

import pytest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import text
from test_api_round import run_round

from coordinator.conductor import LEASE_SECONDS, Conductor
from coordinator.store import leases

PART = "/v1/studies/{study}/rounds/{round}/{attempt}/parts/{number}"


@pytest.fixture
def told_by():
    """`told_by(world, token)(name, **labels)` is the sum of the samples with these labels; None if there is none."""

    def told_by(world, token):
        def told(name: str, **labels: str) -> float | None:
            answer = world.operate("GET", "/metrics", token)
            assert answer.status_code == 200, answer.text
            found = [
                sample.value
                for family in text_string_to_metric_families(answer.text)
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            ]
            return sum(found) if found else None

        return told

    return told_by


@pytest.fixture
def told(world, told_by):
    return told_by(world, world.auditor)


def test_who_may_read(new_world, refused) -> None:
    world = new_world(metrics_token="for-prometheus-" + "x" * 20)
    assert world.operate("GET", "/metrics", world.services.settings.metrics_token).status_code == 200
    assert world.operate("GET", "/metrics", world.auditor).status_code == 200
    refused(world.call("GET", "/metrics"), 401, "token-missing")
    refused(world.operate("GET", "/metrics", "for-prometheus-"), 401, "token-invalid")
    refused(world.new_site("hospital-x").call("GET", "/metrics"), 403, "role-missing")
    refused(world.operate("GET", "/v1/sites", world.services.settings.metrics_token), 401, "token-invalid")


def test_without_a_metrics_token_nothing_stands_for_it(world, refused) -> None:
    assert world.services.settings.metrics_token == ""
    answer = world.call("GET", "/metrics", headers={"Authorization": "Bearer "})
    assert answer.status_code in (401, 403)


def test_requests_and_bytes(world, told) -> None:
    world.begin()
    site = world.sites[0]
    site.contribute()
    parts, keys, _ = site.seal()
    assert told("pleura_requests_total", method="PUT", route=PART, status="204") == len(parts)
    assert told("pleura_request_seconds_count", method="PUT", route=PART) == len(parts)
    assert told("pleura_received_bytes_total", kind="parts") == sum(map(len, parts))
    assert told("pleura_received_bytes_total", kind="key-parts") == sum(map(len, keys))
    assert told("pleura_received_bytes_total", kind="models") == len(world.model)
    before = told("pleura_sent_bytes_total", kind="models")
    model = site.ok("GET", world.study).json()["model"]
    site.ok("GET", f"/v1/models/{model}")
    assert told("pleura_sent_bytes_total", kind="models") == before + len(world.model)


def test_problems_are_counted_by_code(world, told) -> None:
    world.call("GET", "/v1/sites")
    world.call("GET", "/nowhere")
    world.call("POST", "/v1/enrolments", content=b" " * (world.services.settings.max_message_bytes + 1))
    assert told("pleura_problems_total", code="token-missing") == 1
    assert told("pleura_requests_total", route="none", status="404") == 1
    assert told("pleura_problems_total", code="too-large") == 1


def test_methods_that_nobody_knows_share_one_series(world, told) -> None:
    """A caller chooses them, and each series stays in memory."""
    for method in ("BREW", "PROPFIND"):
        world.call(method, "/v1/sites")
    assert told("pleura_requests_total", method="BREW") is None
    assert told("pleura_requests_total", method="other", status="405") == 2


def test_errors_of_our_own_are_counted(world, told, refused) -> None:
    def fail() -> None:
        raise RuntimeError

    world.app.add_api_route("/fail", fail)
    answer = world.call("GET", "/fail", headers={"X-Request-Id": "mine"})
    assert refused(answer, 500, "internal")["request"] == answer.headers["x-request-id"] == "mine"
    assert told("pleura_requests_total", route="/fail", status="500") == 1
    assert told("pleura_problems_total", code="internal") == 1


def test_the_phases_of_a_round(world, told) -> None:
    world.begin()
    world.clock.advance(20)
    for site in world.sites:
        site.contribute()
    world.conduct()
    assert told("pleura_round_phase_seconds_sum", phase="collect") == 20
    assert told("pleura_round_phase_seconds_count", phase="add") == 1
    assert told("pleura_round_phase_seconds_count", phase="vote") == 0
    world.clock.advance(5)
    for site in world.sites:
        site.vote()
    world.conduct()
    assert told("pleura_round_phase_seconds_sum", phase="vote") == 5
    world.clock.advance(3)
    opener = world.site(world.sites[0].task()["openers"][0])
    opener.send(f"{world.attempt}/opening", opener.opening())
    world.conduct()
    assert told("pleura_round_phase_seconds_sum", phase="open") == 3
    assert told("pleura_round_phase_seconds_sum", phase="whole") == 28
    counts = {told("pleura_round_phase_seconds_count", phase=phase) for phase in ("collect", "vote", "open", "whole")}
    assert counts == {1}
    assert told("pleura_rounds_ended_total", outcome="complete") == 1


def let_one_fail(world) -> None:
    """Nobody contributes to the attempt."""
    world.clock.advance(3601)
    for site in world.sites:
        site.task()
    world.conduct()


def test_rounds_and_studies(world, told) -> None:
    world.begin()
    assert told("pleura_rounds", state="collecting") == 1
    assert told("pleura_studies", state="running") == 1
    assert told("pleura_studies", state="paused") == 0
    let_one_fail(world)
    assert told("pleura_study_failures", study="study") == 1
    run_round(world)
    done = world.clock.now()
    assert told("pleura_study_completed_seconds", study="study") == done
    assert told("pleura_study_failures", study="study") == 0
    let_one_fail(world)
    assert told("pleura_study_failures", study="study") == 1
    assert told("pleura_rounds_ended_total", outcome="failed") == 2
    assert told("pleura_round_phase_seconds_count", phase="whole") == 1
    assert told("pleura_study_completed_seconds", study="study") == done
    world.operate("POST", f"{world.study}/pause")
    assert told("pleura_study_failures", study="study") is None


def test_sites(world, told) -> None:
    site = world.new_site("hospital-x")
    world.clock.advance(100)
    site.call("GET", "/v1/studies")
    seen = world.clock.now()
    world.clock.advance(50)
    assert told("pleura_site_last_seen_seconds", site="hospital-x") == seen
    assert (told("pleura_sites", state="active"), told("pleura_sites", state="suspended")) == (1, 0)


def test_leases(world, told) -> None:
    world.begin()
    assert told("pleura_leases_total", outcome="taken") == 0
    store, clock = world.services.store, world.clock
    other = Conductor(store, world.services.blobs, clock)
    (active,) = store.read("rounds", lambda s: [row.id for row in s.query(leases.Round)])
    lease = other._take(active)
    for site in world.sites:
        site.contribute()
    world.conductor.advance_once()
    assert told("pleura_leases_total", outcome="held") == 1
    clock.advance(LEASE_SECONDS)
    world.conductor.advance_once()
    assert told("pleura_leases_total", outcome="taken") == 1
    with pytest.raises(leases.LeaseLost):
        store.run("check", lambda s: leases.check(s, lease))


@pytest.mark.parametrize("then", ["goes on", "fails"])
def test_leases_that_another_took_over(world, told, monkeypatch, then: str) -> None:
    """This conductor stood still in the middle of its work for longer than its lease."""
    world.begin()
    for site in world.sites:
        site.contribute()
    other = Conductor(world.services.store, world.services.blobs, world.clock)
    (active,) = world.services.store.read("rounds", lambda s: [row.id for row in s.query(leases.Round)])
    taken: list[leases.Lease] = []

    def stand_still(_blobs, work, beat, _public) -> float:
        world.clock.advance(LEASE_SECONDS)
        taken.append(other._take(active))
        if then == "fails":
            raise RuntimeError
        beat()
        raise AssertionError("it goes on without a lease")

    monkeypatch.setattr("coordinator.conductor.aggregation.add_up", stand_still)
    world.conductor.advance_once()
    assert told("pleura_leases_total", outcome="lost") == 1
    world.services.store.run("check", lambda s: leases.check(s, taken[0]))


def test_signs_of_life(world, told) -> None:
    assert told("pleura_conductor_age_seconds") is None, "a process that conducts nothing"
    world.conduct()
    world.clock.advance(7)
    assert told("pleura_conductor_age_seconds") == 7


def test_repeated_transactions(world, told) -> None:
    assert told("pleura_transaction_repeats_total") is None
    world.services.store.on_repeat("take lease")
    assert told("pleura_transaction_repeats_total", transaction="take lease") == 1


def test_a_database_that_is_away(new_world, told_by, caplog) -> None:
    """What it holds is missing; that it is away, and what this process did, is told."""
    world = new_world(metrics_token="for-prometheus-" + "x" * 20)
    told = told_by(world, world.services.settings.metrics_token)
    world.conduct()
    assert (told("pleura_database_up"), told("pleura_sites", state="active")) == (1, 0)
    world.services.store.run("break", lambda s: s.execute(text("ALTER TABLE sites RENAME TO gone")))
    assert (told("pleura_database_up"), told("pleura_sites")) == (0, None)
    assert told("pleura_conductor_age_seconds") == 0
    assert told("pleura_requests_total", route="/metrics", status="200") == 5
    lines = [record for record in caplog.records if record.name == "coordinator.monitoring"]
    assert len(lines) == 4, "one each time that somebody asked"
    assert not any(line.exc_info for line in lines)


def test_a_disk_that_is_away(world, told, caplog) -> None:
    shutil.rmtree(world.services.settings.blobs)
    assert told("pleura_blob_free_bytes") is None
    assert told("pleura_database_up") == 1
    assert "blobs" in caplog.text


def test_the_disk(world, told) -> None:
    world.begin()
    world.sites[0].contribute()
    assert told("pleura_blob_free_bytes") > 0
    assert told("pleura_blob_bytes") is None, "nobody has counted yet"
    world.app.state.housekeeper.tidy()
    assert told("pleura_blob_bytes", kind="parts") > 0
    assert told("pleura_blob_files", kind="models") == 1


def test_waiting_for_news_is_no_slow_answer(world, told) -> None:
    """Else every alert on slow answers would sound for agents that have nothing to do."""
    world.begin()
    one = world.sites[0]
    one.contribute()
    cursor = one.task()["cursor"]
    before = told("pleura_request_seconds_sum", route="/v1/studies/{study}/task")
    one.ok("GET", f"{world.study}/task?cursor={cursor}&wait=2")
    taken = told("pleura_request_seconds_sum", route="/v1/studies/{study}/task") - before
    assert taken < 1.8
