"""A replica whose settings name another blob store than the others' does not serve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest

from coordinator.store import instance
from coordinator.store.blobs import Blobs, Listed, model_key, probe_key
from coordinator.store.instance import WrongBlobs, check_blobs, coordinator_id
from coordinator.store.tables import Instance, Model


@pytest.fixture
def ours(store, tmp_path: Path) -> Blobs:
    store.run("identify", coordinator_id)
    return Blobs(tmp_path / "ours")


def keep_a_model(store) -> None:
    store.run("model", lambda s: s.add(Model(digest="ab", size=1, layout_digest="c", recipe_digest="d", created=0.0)))


def test_a_new_pair_is_joined_once(store, ours, tmp_path) -> None:
    check_blobs(store, ours)
    (probe,) = [listed.key for listed in ours.everything()]
    belongs = store.read("instance", lambda s: s.get_one(Instance, 1).blobs)
    assert probe == probe_key(belongs)
    check_blobs(store, ours)
    assert [listed.key for listed in ours.everything()] == [probe]


@pytest.mark.parametrize("used", [False, True], ids=["nothing in it yet", "in use"])
def test_another_store_is_refused_even_an_empty_one(store, ours, tmp_path, used) -> None:
    check_blobs(store, ours)
    if used:
        keep_a_model(store)
    other = Blobs(tmp_path / "other")
    with pytest.raises(WrongBlobs, match="data_dir, blobs_url and blobs_options"):
        check_blobs(store, other)
    assert list(other.everything()) == []


def test_a_deployment_from_before_joins_the_store_that_has_its_blobs(store, ours, tmp_path) -> None:
    keep_a_model(store)
    with pytest.raises(WrongBlobs):
        check_blobs(store, Blobs(tmp_path / "other"))
    ours.put_bytes(model_key("ab"), b"the model")
    check_blobs(store, ours)
    check_blobs(store, ours)


def test_a_new_database_does_not_take_a_store_that_is_in_use(store, ours) -> None:
    """Else its sweep would delete all of it: a mistyped database_url would be enough."""
    ours.put_bytes(probe_key(UUID(int=1)), b"")
    ours.put_bytes(model_key("ab"), b"another database's")
    with pytest.raises(WrongBlobs, match=r"the database is new, .* Check database_url"):
        check_blobs(store, ours)
    assert store.read("instance", lambda s: s.get_one(Instance, 1).blobs) is None
    assert {listed.key for listed in ours.everything()} == {probe_key(UUID(int=1)), model_key("ab")}


def test_a_new_database_takes_a_store_where_others_only_probed(store, ours) -> None:
    ours.put_bytes(probe_key(UUID(int=1)), b"")
    check_blobs(store, ours)


def test_of_two_first_starts_the_later_one_takes_what_the_first_has_stored(store, ours, monkeypatch) -> None:
    """Both find that the database has no store; one joins, serves, and is sent a model before the other looks on."""
    everything = Blobs.everything

    def join_meanwhile(self: Blobs) -> Iterator[Listed]:
        monkeypatch.setattr(Blobs, "everything", everything)
        check_blobs(store, ours)
        ours.put_bytes(model_key("ab"), b"its row is not written yet")
        return everything(self)

    monkeypatch.setattr(Blobs, "everything", join_meanwhile)
    check_blobs(store, ours)


def test_of_two_first_starts_on_different_stores_one_is_refused(store, ours, tmp_path, monkeypatch) -> None:
    """Both find that the database has no store; one writes so first."""
    other = Blobs(tmp_path / "other")
    put = Blobs.put_bytes

    def join_meanwhile(self: Blobs, key: str, data: bytes) -> object:
        monkeypatch.setattr(Blobs, "put_bytes", put)
        check_blobs(store, ours)
        return put(self, key, data)

    monkeypatch.setattr(Blobs, "put_bytes", join_meanwhile)
    with pytest.raises(WrongBlobs):
        check_blobs(store, other)
    check_blobs(store, ours)


def test_who_is_killed_in_between_has_joined_nothing(store, ours, monkeypatch) -> None:
    run = store.run

    def killed(name: str, fn: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "run", killed)
    with pytest.raises(KeyboardInterrupt):
        check_blobs(store, ours)
    monkeypatch.setattr(store, "run", run)
    assert store.read("instance", lambda s: s.get_one(instance.Instance, 1).blobs) is None
    check_blobs(store, ours)
