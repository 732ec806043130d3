"""From a specification to what came of it: turn after turn until the study has finished."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Final, Protocol

from simulation.engine import head as heads
from simulation.engine.folder import Progress, claim, link_or_copy, local_models, model_file, note_seconds
from simulation.engine.head import Head
from simulation.engine.sites import Moment, Sites, Turn, home_of
from simulation.engine.transport import URL, InProcess, client
from simulation.engine.values import Federated, RoundDone, Spec, Stalled

_LEAP_SECONDS: Final = 30.0  # when nobody did anything: another member's turn to pass a key on, as agents count it
_IDLE_TURNS: Final = 60
_FAILURES: Final = 3


class Pool(Protocol):
    """Where the sites are: here, or in other processes. A call returns when all of them are done."""

    def enrol(self, invitations: Mapping[str, str]) -> None:
        """Make the homes of these sites, and redeem an invitation for each."""

    def take(self, turn: Turn, names: Sequence[str], moment: Moment) -> None:
        """Give these sites their turn."""


def run(spec: Spec, folder: Path, progress: Progress) -> Federated:
    """Simulate a federation in `folder`; a run that was broken off there goes on where it stopped.

    Args:
        progress: called after each attempt that ended.

    Raises:
        FileExistsError: the folder holds another run.
        Stalled: the study does not go on: too many attempts failed, or nobody can do anything any more.
    """
    claim(spec, folder)
    if spec.plaintext:
        from simulation.engine.plain import run_plain

        return run_plain(spec, folder, progress)
    with heads.opened(folder / "coordinator") as head, _pool(spec, folder, head) as pool:
        _Run(spec, folder, head, pool, progress).go()
        return _result(spec, folder, head)


def _pool(spec: Spec, folder: Path, head: Head) -> AbstractContextManager[Pool]:
    if spec.engine == "ray":
        from simulation.engine.ray_engine import ray_pool

        return ray_pool(spec, folder, head)
    if spec.workers > 1:
        from simulation.engine.workers import worker_pool

        return worker_pool(spec, folder, head)
    return _here(spec, folder, head)


@contextmanager
def _here(spec: Spec, folder: Path, head: Head) -> Iterator[Pool]:
    transport = InProcess(head.app)
    sites = Sites(spec, folder, lambda: client(URL, transport))
    try:
        yield _Here(sites)
    finally:
        sites.close()
        transport.stop()


class _Here:
    """All sites in this process, one after another."""

    def __init__(self, sites: Sites) -> None:
        self._sites = sites

    def enrol(self, invitations: Mapping[str, str]) -> None:
        for name, invitation in invitations.items():
            self._sites.enrol(name, invitation)

    def take(self, turn: Turn, names: Sequence[str], moment: Moment) -> None:
        for name in names:
            self._sites.take(turn, name, moment)


class _Run:
    """One run of one federation."""

    def __init__(self, spec: Spec, folder: Path, head: Head, pool: Pool, progress: Progress) -> None:
        self._spec, self._folder, self._head, self._pool, self._progress = spec, folder, head, pool, progress
        self._told: set[tuple[int, int]] = set()
        self._since = time.perf_counter()

    def go(self) -> None:
        """Until the study has finished and every site knows it."""
        head = self._head
        head.create_study(self._spec)
        self._told = set(head.ended())
        self._admit(self._spec.founders if head.study.completed == 0 else [])
        idle = 0
        while head.study.state != "finished":
            self._tend_membership()
            if self._turn():
                idle = 0
                continue
            idle += 1
            if idle > _IDLE_TURNS:
                raise Stalled(f"nobody can do anything any more: {head.why_not()}; {self._folder} has its records")
            head.leap(_LEAP_SECONDS)
        self._take("look", self._members())  # to settle what the last attempt left
        self._tell()

    def _turn(self) -> bool:
        """One look of each site whose turn it is. Whether anything came of it."""
        head, before = self._head, self._head.app.count
        done = head.conduct()
        wanted = head.wanted()
        self._take("look", wanted or self._members())
        done |= head.conduct()
        if wanted and not done and head.app.count == before:  # not those: somebody else then
            self._take("look", self._members())
            done |= head.conduct()
        self._tell()
        return done or head.app.count > before

    # --- who takes part

    def _tend_membership(self) -> None:
        """Sites come and go between rounds: the study is paused for it, as an operator would."""
        head = self._head
        study, active = head.study, head.place() is not None
        if study.state == "running" and active and self._is_boundary(study.completed + 1):
            head.move("pause")
        if study.state != "paused" or active:
            return
        if study.reason is not None:
            raise Stalled(f"the study was paused: {study.reason}")
        due = self._spec.present(study.completed)
        present = set(self._members())
        leaving = [name for name in sorted(present) if name not in due]
        self._take("leave", leaving)
        self._admit([name for name in due if name not in present])
        self._settle()
        head.move("resume")

    def _is_boundary(self, completed: int) -> bool:
        """Whether anybody comes or goes once so many training rounds are complete."""
        return set(self._spec.present(completed)) != set(self._spec.present(completed - 1))

    def _admit(self, names: Sequence[str]) -> None:
        strangers = [name for name in names if not home_of(self._folder, name).enrolment.is_file()]
        self._pool.enrol({name: self._head.invite(name) for name in strangers})
        self._take("join", names)

    def _settle(self) -> None:
        """Looks until nobody has anything to say: newcomers are approved, and hold the key."""
        for _ in range(_IDLE_TURNS):
            before = self._head.app.count
            self._take("look", self._members())
            if self._head.app.count == before:
                return
        raise Stalled("sites that came or went keep the others busy for ever; the ledgers of their homes say with what")

    def _members(self) -> list[str]:
        return sorted(self._head.members().values())

    def _take(self, turn: Turn, names: Sequence[str]) -> None:
        """The federation's time stands still for a turn, so that nobody is late or absent, and is then set right."""
        start = time.perf_counter()
        self._pool.take(turn, names, Moment(self._head.clock.now(), self._head.place()))
        self._head.clock.advance(time.perf_counter() - start)

    # --- what came of it

    def _tell(self) -> None:
        """Keep each new model, and tell of each attempt that ended."""
        new = [place for place in self._head.ended() if place not in self._told]
        if not new:
            return
        rows = {(row["round"], row["attempt"]): row for row in self._head.history()}
        now = time.perf_counter()
        for place in new:
            row = rows[place]
            keep_model(self._folder, self._head, row)
            self._told.add(place)
            note_seconds(self._folder, now - self._since)
            self._progress(RoundDone(row, self._head.study.completed, self._spec.rounds, now - self._since))
            self._since = now
        self._give_up(list(rows.values()))

    def _give_up(self, rows: list[dict[str, Any]]) -> None:
        last = [row for row in rows if row["state"] in ("complete", "failed")][-_FAILURES:]
        if len(last) == _FAILURES and all(row["state"] == "failed" for row in last):
            raise Stalled(f"the last {_FAILURES} attempts failed, the newest because: {last[-1]['reason']}")


def keep_model(folder: Path, head: Head, row: dict[str, Any]) -> None:
    """Put a training round's model beside the others of the run."""
    if row["kind"] != "training" or row["state"] != "complete":
        return
    target = model_file(folder, row["round"])
    target.parent.mkdir(exist_ok=True)
    if head.study.release == "open":
        head.copy_model(row["model"], target)
        return
    held = (folder / "sites").glob(f"*/models/*/{row['model']}.safetensors")
    source = next(held, None)
    if source is None:
        raise Stalled(f"round {row['round']} is complete, and no member has its model {row['model'][:12]}...")
    link_or_copy(source, target)


def _result(spec: Spec, folder: Path, head: Head) -> Federated:
    history = head.history()
    models = {row["round"]: model_file(folder, row["round"]) for row in history if _made_model(row)}
    timings = {hospital.name: _timings(folder, hospital.name) for hospital in spec.hospitals}
    seconds = {
        phase: sum(line[f"{phase}_seconds"] or 0.0 for lines in timings.values() for line in lines)
        for phase in ("train", "seal", "open")
    }
    seconds["add"] = sum(row["seconds"]["add"] or 0.0 for row in history)
    seconds["reveal"] = sum(row["seconds"]["open"] or 0.0 for row in history)
    seconds["wall"] = note_seconds(folder, 0.0)
    return Federated(
        history=history,
        models=models,
        uploads={
            name: [line["upload_bytes"] for line in lines if line["upload_bytes"]] for name, lines in timings.items()
        },
        seconds=seconds,
        local_models=local_models(spec, folder),
    )


def _made_model(row: dict[str, Any]) -> bool:
    return bool(row["kind"] == "training" and row["state"] == "complete")


def _timings(folder: Path, name: str) -> list[dict[str, Any]]:
    """The lines of a site's timings.jsonl; none before its first attempt has ended."""
    file = home_of(folder, name).timings
    return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []
