"""The agents of a simulated federation: real homes on the disk, opened when it is their turn."""

from __future__ import annotations

import shutil
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Literal
from uuid import UUID

import httpx

from crypto.canonical import check_digest
from participant import setup
from participant.agent import StudyLoop
from participant.documents import Study
from participant.files import write_whole
from participant.progress import Advance, Check
from participant.session import Problem, SiteAuth
from participant.settings import Config, Home
from participant.steps import membership
from participant.steps.desk import Approved, Desk, Site, TrainerFactory
from simulation.engine.folder import local_model
from simulation.engine.recorded import keeping
from simulation.engine.seeded import seeded
from simulation.engine.transport import URL
from simulation.engine.values import Spec
from simulation.federation import Hospital

Turn = Literal["join", "look", "leave"]

OPEN: Final = 16  # sites that stay open at once; one that is closed reads its cases and keys again


@dataclass(frozen=True)
class Moment:
    """What all looks of one turn share: the coordinator's time, and the (round, attempt) under way."""

    time: float
    place: tuple[int, int] | None


class Quiet:
    """A reporter that shows nothing."""

    @contextmanager
    def work(self, what: str, check: Check) -> Iterator[Advance]:
        yield lambda done, total: check()


@dataclass(frozen=True)
class Memory:
    """What a site's agent knows of the study beyond its home, while its databases and keys are closed."""

    study: Study
    sent_approval: str | None
    approved: Approved | None


class Sites:
    """Sites of one process.

    Args:
        folder: of the run.
        connect: makes a site's connections to the coordinator.
    """

    def __init__(self, spec: Spec, folder: Path, connect: Callable[[], httpx.Client]) -> None:
        self._spec, self._folder, self._connect = spec, folder, connect
        self._hospitals = {hospital.name: hospital for hospital in spec.hospitals}
        self._memories: dict[str, Memory] = {}
        self._open: OrderedDict[str, tuple[ExitStack, StudyLoop]] = OrderedDict()
        self._now = 0.0

    def enrol(self, name: str, invitation: str) -> None:
        """Make a site's home and redeem an invitation, unless that was done before."""
        home = self.home(name)
        if home.enrolment.is_file():
            return
        try:
            self._enrol(home, name, invitation)
        except Problem:  # a run was killed after the coordinator had taken these keys: with new ones, then
            shutil.rmtree(home.path)
            self._enrol(home, name, invitation)

    def _enrol(self, home: Home, name: str, invitation: str) -> None:
        if not home.config.is_file():  # what is written last
            shutil.rmtree(home.path, ignore_errors=True)
            setup.make_home(home, config_of(self._spec, self._hospitals[name]), "auto")
        setup.enrol(home, invitation, self._connect())

    def take(self, turn: Turn, name: str, moment: Moment) -> None:
        """A site's turn."""
        self._now = moment.time
        if turn == "look":
            self._look(name, moment)
        elif turn == "leave":
            self._leave(name)
        else:
            self._loop(name)  # which joins

    def supply(self, name: str, digest: str, model: memoryview) -> None:
        """Put a model where the site looks for it before it asks the coordinator, unless it is there.

        Raises:
            WrongDigest: it is another.
        """
        folder = self.home(name).models
        file = folder / f"{digest}.safetensors"
        if file.is_file():
            return
        check_digest(model, digest, "the model in the object store")
        folder.mkdir(mode=0o700, exist_ok=True)
        write_whole(file, bytes(model))

    def _look(self, name: str, moment: Moment) -> None:
        """Do everything that the study asks of a site now."""
        with self._randomness(name, moment):
            self._loop(name).look()

    def _leave(self, name: str) -> None:
        """Leave the study for good, as `pleura-participant leave` does."""
        desk = self._loop(name).desk
        membership.leave(desk.site, desk.study)
        self._close(name)

    def close(self) -> None:
        for name in list(self._open):
            self._close(name)

    def home(self, name: str) -> Home:
        """Where a site's agent keeps its keys, its record and its timings."""
        return home_of(self._folder, name)

    def _randomness(self, name: str, moment: Moment) -> AbstractContextManager[None]:
        if self._spec.noise_seed is None or moment.place is None:
            return nullcontext()
        return seeded(self._spec.noise_seed, name, *moment.place)

    def _loop(self, name: str) -> StudyLoop:
        """The site's loop; the one that was not looked at for longest is closed when there are too many."""
        if name not in self._open:
            if len(self._open) >= OPEN:
                self._close(next(iter(self._open)))
            self._open[name] = self._opened(name)
        self._open.move_to_end(name)
        return self._open[name][1]

    def _opened(self, name: str) -> tuple[ExitStack, StudyLoop]:
        stack, home = ExitStack(), self.home(name)
        with stack:
            opened = stack.enter_context(setup.open_site(home, Quiet(), http=self._connect()))
            site = self._fitted(name, opened, setup.enrolment_of(home).coordinator)
            desk = self._remembered(name, site) or self._joined(name, site)
            return stack.pop_all(), StudyLoop(desk, inline=True)

    def _remembered(self, name: str, site: Site) -> Desk | None:
        memory = self._memories.get(name)
        if memory is None:
            return None
        desk = Desk(site, memory.study)
        desk.sent_approval, desk.approved = memory.sent_approval, memory.approved
        return desk

    def _joined(self, name: str, site: Site) -> Desk:
        (study,) = site.client.studies()
        desk = membership.join(site, study)
        if desk is None:
            raise ValueError(f"{name} does not join the study; the ledger at {site.timings.parent} says why")
        return desk

    def _fitted(self, name: str, site: Site, coordinator: UUID) -> Site:
        """The site on the coordinator's clock, with the trainer that the federation says."""
        auth = SiteAuth(site.identity, site.me, coordinator, self._time)
        session = replace(site.client.session, clock=self._time, auth=auth)
        make_trainer = trainer_factory(self._spec, self._folder, name, site.make_trainer)
        client = replace(site.client, session=session)
        return replace(site, client=client, clock=self._time, make_trainer=make_trainer)

    def _time(self) -> float:
        return self._now

    def _close(self, name: str) -> None:
        stack, loop = self._open.pop(name)
        self._memories[name] = Memory(loop.desk.study, loop.desk.sent_approval, loop.desk.approved)
        stack.close()


def home_of(folder: Path, name: str) -> Home:
    """A site's home in a run's folder."""
    return Home(folder / "sites" / name)


def config_of(spec: Spec, hospital: Hospital) -> Config:
    """A site's settings. The coordinator is in them in name only: the engine brings the connections."""
    return Config(
        name=hospital.name,
        coordinator=URL,
        data=str(hospital.data.absolute()),
        cache=str((spec.cache / hospital.name).absolute()) if spec.cache is not None else "cache",
        device=spec.device,
        threads=spec.threads,
        seed=spec.seed,
    )


def trainer_factory(spec: Spec, folder: Path, name: str, images: TrainerFactory) -> TrainerFactory:
    """Makes what trains at a site, as the specification says.

    Args:
        images: makes what trains on the site's images.
    """
    make = images if spec.trainers is None else spec.trainers(name, images)
    return keeping(local_model(folder, name), spec.recipe, make) if spec.keep_local else make
