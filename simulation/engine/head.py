"""The coordinator of a simulated federation: the real app on a real database, stepped instead of left to itself."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator import model_files
from coordinator.api.values import Round
from coordinator.app import create_app, open_services
from coordinator.clock import FakeClock
from coordinator.conductor import Conductor
from coordinator.rounds.planning import NotYet, plan_round
from coordinator.rounds.steps import Wait, next_step
from coordinator.services import Services
from coordinator.settings import Settings
from coordinator.store import attempts, epochs, history, invitations, memberships, rounds, studies, tables
from coordinator.store.blobs import model_key
from simulation.engine.folder import link_or_copy
from simulation.engine.transport import Written
from simulation.engine.values import Spec

STUDY: Final = "simulation"
ACTOR: Final = "operator:simulation"
_COLLECT_SECONDS: Final = 3600  # only who cannot contribute is left out: all have their turn before time goes on
_REPLY_SECONDS: Final = 24 * 3600  # to vote, and to open, which takes several turns, slow ones perhaps
_PATIENCE: Final = 1000.0 * _REPLY_SECONDS  # no site is taken for absent while the clock leaps over deadlines
_K_DEFAULT: Final = 64


@contextmanager
def opened(folder: Path) -> Iterator[Head]:
    """The coordinator whose data lie in `folder`, a new one or the one that is there."""
    settings = Settings.model_construct(
        **Settings().model_dump()
        | {"data_dir": folder, "enrolments_per_minute": 10**6, "recent_seen_seconds": _PATIENCE}
    )
    clock = FakeClock(time.time())
    services = open_services(settings, clock)
    try:
        latest = services.store.read("latest time", lambda session: history.newest_audit_rows(session, 1))
        clock.advance(max(0.0, max((row.time for row in latest), default=0.0) - clock.now()))  # a former run's leaps
        yield Head(services, clock)
    finally:
        services.store.close()


class Head:
    """One coordinator with one study."""

    def __init__(self, services: Services, clock: FakeClock) -> None:
        self.services, self.clock = services, clock
        self.app = Written(create_app(services))
        self._store = services.store
        self._conductor = Conductor(services.store, services.blobs, clock, _PATIENCE)

    # --- what an operator does

    def create_study(self, spec: Spec) -> None:
        """The study, running, unless there is one from a run before."""
        if self._store.read("studies", studies.everyone):
            return
        now = self.clock.now()
        row = model_files.take(self._store, self.services.blobs, spec.model, ACTOR, now)
        file = model_files.stored(self.services.blobs, row.digest)
        wishes = studies.Wishes(
            name=STUDY,
            model=row.digest,
            scheme=spec.scheme,
            release=spec.release,
            rounds=spec.rounds,
            expected_sites=len(spec.founders),
            k_max=max(_K_DEFAULT, len(spec.hospitals)),
            collect_seconds=_COLLECT_SECONDS,
            vote_seconds=_REPLY_SECONDS,
            open_seconds=_REPLY_SECONDS,
        )

        def create(session: Session) -> None:
            study = studies.create(session, wishes, file.layout, file.recipe, ACTOR, now)
            studies.move(session, study, "start", ACTOR, now)

        self._store.run("create study", create)

    def move(self, action: studies.Action) -> None:
        """Pause or resume the study."""

        def move(session: Session) -> None:
            studies.move(session, _study(session), action, ACTOR, self.clock.now())

        self._store.run(f"{action} study", move)

    def invite(self, name: str) -> str:
        """An invitation for a site; one that enrolled before and lost its home enrols again."""

        def invite(session: Session) -> str:
            now = self.clock.now()
            known = session.scalar(select(tables.Site).where(tables.Site.name == name))
            if known is None:
                return invitations.create(session, name, 1, ACTOR, now)[0]
            return invitations.renew(session, known, 1, ACTOR, now)[0]

        return self._store.run("invite", invite)

    # --- what its conductor does

    def conduct(self) -> bool:
        """Everything that can be done now. Whether anything was."""
        done = False
        while self._conductor.advance_once():
            done = True
        return done

    def leap(self, seconds: float) -> None:
        """Let so much time pass, or as much as it takes to the active attempt's next deadline."""
        active = self._active()
        now = self.clock.now()
        if active is not None:
            step = next_step(self._store.read("view round", lambda session: rounds.view(session, active.id)), now)
            if isinstance(step, Wait) and step.until is not None:
                seconds = max(seconds, step.until - now)
        self.clock.advance(seconds)

    # --- what there is to see

    @property
    def study(self) -> tables.Study:
        return self._store.read("study", _study)

    def members(self) -> dict[UUID, str]:
        """Names of the study's active members."""
        rows = self._store.read("members", lambda session: memberships.members(session, _study(session).id))
        return {site.id: site.name for _, site in rows}

    def wanted(self) -> list[str]:
        """The sites whose turn it is: to deal a key, to contribute, to open. None where it may be anybody's."""
        now = self.clock.now()

        def look(session: Session) -> list[UUID]:
            row, study = _active(session), _study(session)
            if row is None:
                keyless = study.state == "running" and epochs.current(session, study.id) is None
                dealer = epochs.asked_dealer(session, study, now, _PATIENCE) if keyless else None
                return [dealer] if dealer is not None else []
            if row.state == "collecting":
                arrived = session.scalars(
                    select(tables.Contribution.site_id)
                    .where(tables.Contribution.round_id == row.id)
                    .where(tables.Contribution.completed.is_not(None))
                )
                return sorted(set(map(UUID, row.plan["expected"])) - set(arrived))
            return [UUID(entry["site"]) for entry in row.openers[-1:]]

        sites = self._store.read("wanted", look)
        names = self.members() if sites else {}
        return [names[site] for site in sites if site in names]

    def place(self) -> tuple[int, int] | None:
        """(round, attempt) of the active attempt."""
        active = self._active()
        return (active.number, active.attempt) if active is not None else None

    def ended(self) -> list[tuple[int, int]]:
        """(round, attempt) of every attempt that ended, oldest first."""

        def look(session: Session) -> list[tuple[int, int]]:
            query = select(tables.Round.number, tables.Round.attempt).where(tables.Round.ended.is_not(None))
            return [
                (row[0], row[1]) for row in session.execute(query.order_by(tables.Round.number, tables.Round.attempt))
            ]

        return self._store.read("ended", look)

    def history(self) -> list[dict[str, Any]]:
        """Every attempt so far as `GET rounds` gives it, and its bounds; with the names of sites instead of ids."""

        def look(session: Session) -> list[dict[str, Any]]:
            names = {str(site.id): site.name for site in session.scalars(select(tables.Site))}
            plans = session.execute(select(tables.Round.number, tables.Round.attempt, tables.Round.plan))
            bounds = {(number, attempt): plan["bounds"] for number, attempt, plan in plans}
            rows = [Round.model_validate(row) for row in history.rounds(session, _study(session).id)]
            return [
                row.model_dump(mode="json")
                | {"contributors": sorted(names[site] for site in row.contributors)}
                | {"carried": sorted(names[site] for site in row.carried)}
                | {"bounds": bounds[row.round, row.attempt]}
                for row in rows
            ]

        return self._store.read("history", look)

    def why_not(self) -> str:
        """Why no attempt is planned, or where the active one stands; for people."""

        def look(session: Session) -> str:
            view = rounds.study_view(session, _study(session).id)
            planned = plan_round(view, self.clock.now(), _PATIENCE) if view is not None else None
            return planned.reason if isinstance(planned, NotYet) else ""

        reason, active = self._store.read("why not", look), self._active()
        if active is not None:
            return f"round {active.number}, attempt {active.attempt} is {active.state}"
        return reason or f"the study is {self.study.state}"

    def copy_model(self, digest: str, path: Path) -> None:
        """A model that the coordinator holds, as a file: a second name for the blob where the disk allows it."""
        link_or_copy(self.services.settings.blobs / model_key(digest), path)

    def _active(self) -> tables.Round | None:
        return self._store.read("active", _active)


def _study(session: Session) -> tables.Study:
    return studies.everyone(session)[0]


def _active(session: Session) -> tables.Round | None:
    return attempts.active(session, _study(session).id)
