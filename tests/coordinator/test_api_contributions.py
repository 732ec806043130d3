"""Uploads: what is taken, what is refused, and that nothing is lost."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from coordinator.store.blobs import Blobs
from coordinator.store.tables import Contribution, Part
from crypto.canonical import sha256
from crypto.manifest import Manifest
from crypto.parameters import PART_BYTES


@pytest.fixture
def here(world) -> str:
    """The address of a round that is collecting."""
    return world.begin()


@pytest.fixture
def site(world, here):
    return world.sites[0]


def test_parts_are_idempotent_and_listed(site, here) -> None:
    parts, keys, manifest = site.seal()
    for _ in range(2):
        assert site.put(f"{here}/parts/0", parts[0]).status_code == 204
    assert site.put(f"{here}/key-parts/0", keys[0]).status_code == 204
    listed = site.ok("GET", f"{here}/parts").json()
    assert listed == {"parts": {"0": sha256(parts[0])}, "key_parts": {"0": sha256(keys[0])}, "manifest": False}
    for _ in range(2):
        assert site.call("PUT", f"{here}/manifest", json=manifest.to_json()).status_code == 204
    assert site.ok("GET", f"{here}/parts").json()["manifest"]


def test_what_a_resent_part_counts(world, site, here) -> None:
    parts, _, _ = site.seal()
    for _ in range(3):
        site.put(f"{here}/parts/0", parts[0])
    (entry,) = world.operate("GET", f"{world.study}/rounds").json()
    assert entry["bytes_received"] == len(parts[0])


def test_another_part_under_the_same_number(site, here, refused) -> None:
    parts, _, _ = site.seal()
    site.put(f"{here}/parts/0", parts[0])
    document = refused(site.put(f"{here}/parts/0", b"\1" * len(parts[0])), 409, "part-differs")
    assert document["sha256"] == sha256(parts[0])


def test_bytes_that_were_changed_on_their_way(world, site, here, refused) -> None:
    parts, _, _ = site.seal()
    headers = world.digest_header(parts[0])
    changed = b"\1" + parts[0][1:]
    refused(site.call("PUT", f"{here}/parts/0", content=changed, headers=headers), 400, "digest-mismatch")
    assert site.ok("GET", f"{here}/parts").json()["parts"] == {}


@pytest.mark.parametrize("header", [None, "sha-512=:AAAA:", "sha-256=AAAA", "sha-256=:!!!:", "sha-256=:"])
def test_no_usable_digest(site, here, refused, header: str | None) -> None:
    headers = {"Content-Digest": header} if header else {}
    refused(site.call("PUT", f"{here}/parts/0", content=b"x", headers=headers), 422, "request-invalid")


def test_wrong_sizes(site, here, refused) -> None:
    parts, _, _ = site.seal()
    for data in (parts[0][:-4], parts[0] + b"\0\0\0\0", b"", b"x"):
        document = refused(site.put(f"{here}/parts/0", data), 422, "part-size")
        assert (document["expected"], document["received"]) == (len(parts[0]), len(data))
    refused(site.put(f"{here}/parts/1", parts[0]), 422, "part-size")
    refused(site.put(f"{here}/parts/0", b"\0" * (PART_BYTES + 1)), 413, "too-large")


def test_key_parts_are_checked_at_once(site, here, refused) -> None:
    _, keys, _ = site.seal()
    refused(site.put(f"{here}/key-parts/0", keys[0][:-5]), 422, "malformed-key-part")
    refused(site.put(f"{here}/key-parts/1", keys[0]), 422, "part-size")
    refused(site.put(f"{here}/key-parts/0", b"\0" * (1 << 18)), 422, "part-size")
    assert site.put(f"{here}/key-parts/0", keys[0]).status_code == 204


def test_a_manifest_before_its_parts(site, here, refused) -> None:
    parts, keys, manifest = site.seal()
    document = refused(site.call("PUT", f"{here}/manifest", json=manifest.to_json()), 409, "parts-missing")
    assert (document["parts"], document["key_parts"]) == ([0], [0])
    site.put(f"{here}/parts/0", parts[0])
    document = refused(site.call("PUT", f"{here}/manifest", json=manifest.to_json()), 409, "parts-missing")
    assert (document["parts"], document["key_parts"]) == ([], [0])
    site.put(f"{here}/key-parts/0", keys[0])
    assert site.call("PUT", f"{here}/manifest", json=manifest.to_json()).status_code == 204


def delivered(site, here: str) -> Manifest:
    parts, keys, manifest = site.seal()
    site.put(f"{here}/parts/0", parts[0])
    site.put(f"{here}/key-parts/0", keys[0])
    return manifest.message


def test_manifests_that_are_refused(world, site, here, refused) -> None:
    good, other = delivered(site, here), world.sites[1]
    path = f"{here}/manifest"
    another_site = other.seal()[2].to_json()
    refused(site.call("PUT", path, json=another_site), 422, "manifest-refused")
    by_other = other.identity.sign(good).to_json()
    refused(site.call("PUT", path, json=by_other), 422, "manifest-refused")
    another_plan = good.model_copy(update={"plan": "ab" * 32})
    refused(site.send(path, another_plan), 422, "manifest-refused")
    two_parts = good.model_copy(update={"parts": good.parts * 2})
    refused(site.send(path, two_parts), 422, "manifest-refused")
    no_key = good.model_copy(update={"key_parts": ()})
    refused(site.send(path, no_key), 422, "manifest-refused")
    changed = site.identity.sign(good).to_json()
    changed["message"]["parts"] = ["cd" * 32]
    refused(site.call("PUT", path, json=changed), 422, "manifest-refused")
    refused(site.call("PUT", path, content=b"{"), 422, "malformed")
    refused(site.call("PUT", path, json={"message": good.to_json()}), 422, "malformed")
    assert site.send(path, good).status_code == 204


def test_another_manifest_after_one_was_counted(site, here, refused) -> None:
    good = delivered(site, here)
    assert site.send(f"{here}/manifest", good).status_code == 204
    other = good.model_copy(update={"parts": ("ef" * 32,)})
    refused(site.send(f"{here}/manifest", other), 409, "manifest-differs")
    assert site.send(f"{here}/manifest", good).status_code == 204


def test_late_uploads(world, site, here, refused) -> None:
    late = world.sites[2]
    parts, keys, manifest = late.seal()
    world.clock.advance(1)
    for other in world.sites[:2]:
        other.contribute()
    world.clock.advance(3600)
    world.conduct()
    document = refused(late.put(f"{here}/parts/0", parts[0]), 409, "round-closed")
    assert document["closed"] == world.clock.now()
    assert "next plan" in document["detail"]
    refused(late.put(f"{here}/key-parts/0", keys[0]), 409, "round-closed")
    refused(late.call("PUT", f"{here}/manifest", json=manifest.to_json()), 409, "round-closed")


@pytest.mark.parametrize("wish", [{"minimum_contributors": 2}])
def test_what_is_in_is_answered_after_the_close_too(world, refused, wish) -> None:
    here = world.begin(**wish)
    for each in world.sites[:2]:
        each.contribute()
    world.clock.advance(3601)
    world.conduct()
    one, late = world.sites[0], world.sites[2]
    parts, _, manifest = one.seal()
    assert one.task()["phase"] == "opening"
    assert one.put(f"{here}/parts/0", parts[0]).status_code == 204
    assert one.call("PUT", f"{here}/manifest", json=manifest.to_json()).status_code == 204
    document = refused(late.put(f"{here}/parts/0", parts[0]), 409, "round-closed")
    assert document["state"] == "opening"


def test_a_round_that_closes_while_bytes_come_in_keeps_none(world, site, here, refused) -> None:
    """Between the first look and the row: the blob is taken away again."""
    parts, _, _ = site.seal()
    services = world.services

    class Slow(Blobs):
        def put_bytes(self, key, data):
            stored = super().put_bytes(key, data)
            world.clock.advance(3601)
            world.conduct()
            return stored

    world.app.state.services = dataclasses.replace(services, blobs=Slow(services.settings.blobs))
    refused(site.put(f"{here}/parts/0", parts[0]), 409, "round-closed")
    assert not list((services.settings.blobs / "parts").rglob("body-*"))


class FullDisk(Blobs):
    """Every file is the kernel's own full device, until there is room again."""

    room = False

    @contextmanager
    def _write_local(self, path: str) -> Iterator[IO[bytes]]:
        if self.room:
            with super()._write_local(path) as file:
                yield file
            return
        with Path("/dev/full").open("wb", buffering=0) as file:
            yield file


def test_a_full_disk_loses_nothing(world, site, here, refused) -> None:
    parts, keys, manifest = site.seal()
    assert site.put(f"{here}/key-parts/0", keys[0]).status_code == 204
    disk = FullDisk(world.services.settings.blobs)
    world.app.state.services = dataclasses.replace(world.services, blobs=disk)
    document = refused(site.put(f"{here}/parts/0", parts[0]), 507, "disk-full")
    assert "again later" in document["detail"]
    rows = world.services.store.read("rows", lambda s: (s.query(Part).count(), s.query(Contribution).one().received))
    assert rows == (1, len(keys[0]))
    assert world.call("GET", "/readyz").status_code == 503
    assert site.ok("GET", f"{here}/parts").json()["key_parts"] == {"0": sha256(keys[0])}
    disk.room = True
    assert site.put(f"{here}/parts/0", parts[0]).status_code == 204
    assert site.call("PUT", f"{here}/manifest", json=manifest.to_json()).status_code == 204


def test_who_may_contribute(world, here, refused) -> None:
    parts, _, _ = world.sites[0].seal()
    stranger = world.new_site("stranger")
    refused(stranger.put(f"{here}/parts/0", parts[0]), 403, "not-a-member")
    refused(stranger.call("GET", f"{here}/parts"), 403, "not-a-member")
    refused(world.sites[0].put(here[:-1] + "9/parts/0", parts[0]), 404, "not-found")


def test_no_call_serves_a_body_part(world, site, here) -> None:
    site.contribute()
    for other in world.sites[1:]:
        other.contribute()
    world.conduct()
    for path in (
        f"{here}/parts/0",
        f"{here}/parts/{site.id}/0",
        f"{here}/key-parts/0",
        f"{here}/body-parts/{site.id}/0",
    ):
        for caller in (site.call, world.sites[1].call, world.operate):
            assert caller("GET", path).status_code in (403, 404, 405)


def test_key_parts_come_with_the_ballot_to_roster_members(world, site, here, refused) -> None:
    for each in world.sites:
        each.contribute()
    path = f"{here}/key-parts/{site.id}/0"
    refused(world.sites[1].call("GET", path), 404, "not-found")
    world.conduct()
    assert world.sites[1].ok("GET", path).content == site.seal()[1][0]
    refused(world.new_site("stranger").call("GET", path), 403, "not-a-member")
    refused(world.operate("GET", path), 403, "role-missing")
    refused(world.sites[1].call("GET", f"{here}/key-parts/{site.id}/1"), 404, "not-found")
