"""What a simulated federation is given, and what it gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from crypto.plan import SchemeName
from models.recipe import Recipe
from participant.steps.desk import TrainerFactory
from simulation.federation import Hospital

Release = Literal["open", "members"]
EngineName = Literal["local", "ray"]


class Stalled(Exception):
    """The federation does not go on by itself any more; the words say where it stands and why."""


class Trainers(Protocol):
    """What trains at a site, in place of its images, or around them."""

    def __call__(self, site: str, images: TrainerFactory) -> TrainerFactory:
        """
        Args:
            site: its name.
            images: makes what trains on the site's own images.
        """


@dataclass(frozen=True)
class Spec:
    """A federation to simulate.

    Attributes:
        recipe: that of `model`.
        model: the study's first model, as `models.flatten.save_model` writes it.
        hospitals: all sites that ever take part; names are distinct.
        seed: of each site's split into training and validation cases, and of its training.
        rounds: training rounds; an evaluation of the last model follows.
        departures: the site leaves the study after so many training rounds.
        arrivals: the site joins before that training round; without it, before the first.
        plaintext: the same training, the updates averaged in float64 without any cryptography or protocol.
        asked: plaintext: who is asked in a round, where that is known; otherwise it is drawn.
        keep_local: keep the model that each site trained last, before averaging.
        cache: folder of prepared cases, one folder a site in it, to share between runs; without it, in the run's own.
        device, threads: for training, as in an agent's config.toml.
        trainers: in place of training on images.
        noise_seed: draw the keys of updates and errors from it, so that two runs give the same sums bit for bit.
            Without it they come from the operating system.
        workers: processes that the sites are spread over; 1 is this process.
        worker_cpus, worker_gpus: what Ray keeps free for each worker; fractions share a GPU.
    """

    recipe: Recipe
    model: Path
    hospitals: Sequence[Hospital]
    scheme: SchemeName
    release: Release
    seed: int
    rounds: int
    departures: Mapping[str, int] = field(default_factory=dict)
    arrivals: Mapping[str, int] = field(default_factory=dict)
    engine: EngineName = "local"
    plaintext: bool = False
    asked: Mapping[int, Sequence[str]] = field(default_factory=dict)
    keep_local: bool = False
    cache: Path | None = None
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    threads: int | None = None
    trainers: Trainers | None = None
    noise_seed: int | None = None
    workers: int = 1
    worker_cpus: float = 1.0
    worker_gpus: float = 0.0

    def __post_init__(self) -> None:
        names = [hospital.name for hospital in self.hospitals]
        strange = (set(self.departures) | set(self.arrivals)) - set(names)
        if len(set(names)) != len(names) or strange:
            raise ValueError(f"hospitals have distinct names, and only they come and go: {names}, {sorted(strange)}")
        if not self.founders:
            raise ValueError("no hospital takes part in the first round: give one no arrival, or arrival 1")

    @property
    def founders(self) -> list[str]:
        """Sites of the first round."""
        return [hospital.name for hospital in self.hospitals if self.arrival(hospital.name) <= 1]

    def arrival(self, name: str) -> int:
        """The training round that a site first takes part in."""
        return self.arrivals.get(name, 1)

    def present(self, completed: int) -> list[str]:
        """Sites that take part in the training round after so many completed ones."""
        return [
            hospital.name
            for hospital in self.hospitals
            if self.arrival(hospital.name) <= completed + 1
            and completed < self.departures.get(hospital.name, self.rounds + 1)
        ]


@dataclass(frozen=True)
class RoundDone:
    """An attempt that ended. `row` is its entry in `Federated.history`, `seconds` what this process spent on it.

    `completed` of `rounds` training rounds are done.
    """

    row: Mapping[str, Any]
    completed: int
    rounds: int
    seconds: float


@dataclass(frozen=True)
class Federated:
    """What came of a federation.

    Attributes:
        history: every attempt as `GET rounds` gives it, oldest first, with the names of sites instead of their ids.
        models: after each training round, its model, by the round's number in the history.
        uploads: bytes that each site uploaded, one number for each attempt that it contributed to.
        seconds: "train", "seal" and "open" summed over the sites, "add" and "reveal" of the coordinator, "wall".
        local_models: the model that each site trained last, if kept.
    """

    history: Sequence[Mapping[str, Any]]
    models: Mapping[int, Path]
    uploads: Mapping[str, Sequence[int]]
    seconds: Mapping[str, float]
    local_models: Mapping[str, Path]

    @property
    def model(self) -> Path:
        """The last model."""
        return self.models[max(self.models)]
