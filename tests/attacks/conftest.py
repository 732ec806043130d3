"""Makes `hostile`, `staged` and tests/interop's `tiny_federation` importable, and stages federations."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from shutil import copytree

import pytest

from participant.policy import Policy
from participant.settings import Home

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "interop"))

import running
import staged

Stage = Callable[..., staged.Federation]


@pytest.fixture(scope="session")
def snapshots(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int, str], running.Snapshot]:
    """Federations at the point where attacks begin, each led there once by honest traffic: a study of so many sites,
    "founded", "planned" (keys dealt, a plan out) or "collected" (contributed, and a ballot out).
    """

    @cache
    def reach(scheme: str, sites: int, point: str) -> running.Snapshot:
        folder = tmp_path_factory.mktemp(f"{scheme}-{sites}-{point}")
        if point == "founded":
            return running.found(folder, scheme, sites)
        before = reach(scheme, sites, {"planned": "founded", "collected": "planned"}[point])
        copytree(before.folder, folder, dirs_exist_ok=True)
        with running.federation(folder, None, before) as federation:
            federation.until_planned() if point == "planned" else federation.until_ballot()
        return replace(before, folder=folder, log=tuple(federation.hostile.log))

    return reach


@pytest.fixture
def stage(
    snapshots: Callable[[str, int, str], running.Snapshot], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Iterator[Stage]:
    """A study of real agents behind a coordinator that was honest up to a point, and still is until told otherwise."""
    caplog.set_level(logging.WARNING)
    with ExitStack() as stack:

        def make(
            scheme: str = "lwe-ckks", point: str = "planned", sites: int = 4, policy: Policy | None = None
        ) -> staged.Federation:
            snapshot = snapshots(scheme, sites, point)
            copytree(snapshot.folder, tmp_path / "stage")
            for home in (tmp_path / "stage").glob("site-*") if policy is not None else ():
                running.set_policy(Home(home), policy)
            return stack.enter_context(running.federation(tmp_path / "stage", caplog, snapshot))

        yield make


@pytest.fixture(params=["lwe-ckks", "lwe-shamir"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)
