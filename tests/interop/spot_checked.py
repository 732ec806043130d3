"""Studies whose rounds are spot-checked, and coordinators that publish or serve something else than they opened."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import tiny_federation as tiny
from numpy.typing import NDArray
from safetensors.numpy import load, save
from tiny_federation import Hospital, Server, wait_until

from coordinator import aggregation
from coordinator.store import models
from coordinator.store.blobs import model_key
from coordinator.store.tables import Round
from crypto.canonical import sha256
from crypto.layout import Layout
from crypto.plan import Plan
from crypto.schemes.spot_check import choices
from participant.documents import Ended
from participant.steps.desk import Desk
from participant.steps.spot_checks import examine

Enrol = Callable[..., Hospital]


def new_study(server: Server, folder: Path, layout: Layout = tiny.LAYOUT, **wishes: Any) -> str:
    tiny.save_first_model(folder / "first.safetensors", layout)
    return str(server.create_study(folder / "first.safetensors", scheme="lwe-shamir", **wishes)["id"])


def altering(change: Callable[[NDArray[np.float32]], None]) -> Callable[..., Any]:
    """In place of the coordinator's making of a model file: one that changes the mean before."""
    honest = aggregation._write_model

    def write(blobs: Any, work: Any, mean: NDArray[np.float32]) -> Any:
        change(mean)
        return honest(blobs, work, mean)

    return write


@dataclass
class Played:
    """A study whose first round is complete, with three sites that have not checked it."""

    server: Server
    study: str
    hospitals: list[Hospital]
    desks: list[Desk] = field(default_factory=list)

    def play(self, stack: ExitStack) -> None:
        """No site looks again once all have answered, so none checks by itself."""
        loops = [stack.enter_context(hospital.loop()) for hospital in self.hospitals]

        def step() -> bool:
            for loop in loops:
                if len(self.row["openings"]) == len(loops):
                    return True
                loop.look()
            return False

        wait_until(step, "all answers")
        wait_until(lambda: self.row["state"] == "complete", "the round to complete")
        self.desks = [loop.desk for loop in loops]

    @property
    def row(self) -> dict[str, Any]:
        return next(iter(self.server.rounds(self.study)), {"openings": [], "state": "none"})

    @property
    def plan(self) -> Plan:
        return Plan.from_json(self.row["plan"])

    @property
    def last(self) -> Ended:
        row = self.row
        ended = {key: row[key] for key in ("round", "attempt", "state", "reason", "contributors", "model")}
        return Ended.model_validate(ended | {"contributors": tuple(map(UUID, row["contributors"]))})

    @property
    def blobs(self) -> Any:
        return self.server.services.blobs

    @property
    def round_id(self) -> UUID:
        return self.server.services.store.read(
            "find round", lambda s: s.query(Round).filter_by(study_id=UUID(self.study), number=1).one().id
        )

    def results(self, desk: Desk, model: str | None = None) -> dict[int, str]:
        """What the check of each part finds."""
        parts = range(choices(self.plan, desk.layout))
        return {part: examine(desk, self.plan, model or self.row["model"], part).result for part in parts}

    def publish(self, change: Callable[[NDArray[np.float32], NDArray[np.float32]], NDArray[np.float32]]) -> str:
        """Another model in the place of the round's: `change` makes it of the base and the right one."""
        plan, layout = self.plan, self.desks[0].layout
        base, right = (load(self.blobs.read(model_key(digest))) for digest in (plan.base_model, self.row["model"]))
        data = save({t.name: change(base[t.name], right[t.name]) for t in layout.tensors})
        digest = sha256(data)
        self.blobs.put_bytes(model_key(digest), data)
        origin = models.Origin(plan.study, 1, plan.base_model)
        self.server.services.store.run(
            "publish", lambda s: models.register(s, digest, len(data), plan.layout, plan.recipe, 1.0, origin).digest
        )
        return digest


def started(server: Server, folder: Path, make: Enrol, layout: Layout = tiny.LAYOUT) -> Played:
    return Played(server, new_study(server, folder, layout, expected_sites=3), [make(number) for number in (1, 2, 3)])


class Lying:
    """A client whose coordinator answers some calls otherwise."""

    def __init__(self, client: Any, **answers: Callable[..., Any]) -> None:
        self._client, self._answers = client, answers

    def __getattr__(self, name: str) -> Any:
        return self._answers.get(name) or getattr(self._client, name)


def lied_to(desk: Desk, **answers: Callable[..., Any]) -> Desk:
    return Desk(replace(desk.site, client=Lying(desk.site.client, **answers)), desk.study)  # type: ignore[arg-type]


def killed(*_: Any) -> Any:
    raise KeyboardInterrupt
