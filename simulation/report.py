"""What a run leaves behind: `summary.json`, and the same as tables on the screen.

summary.json:

- `sites`: hospitals; `rounds`: training rounds completed; `scheme`
- `parameters`: trained values; `fp32_bytes`: the shared tensors (parameters and float buffers) once, as float32
- `seconds`, means: `train`, `seal`: of a site's round; `add`: the coordinator's, all contributions of a round;
  `open`: of a site that opened, fetching and decrypting; `reveal`: the coordinator's, from the sum to the model
- `auc`: macro AUC on the held-out cases of all hospitals together: `alone` {site: x}, `federated`, `pooled`
- `upload_bytes`: {site: [bytes of each completed round]}: parts, key part and manifest
- besides: `version`, `recipe`, `seed`, `classes`, `cases` {site: {split: {class: n}}},
  `scores` {model: figures per class}, `alone_mean`, `gain` (federated less alone_mean),
  `upload_ratio` (largest upload by fp32_bytes), `curves` {model: [[round, macro AUC on the pooled validation
  cases], ...]}, `history` [one entry an attempt, as the coordinator tells it], `wall_seconds` {phase: seconds}
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict
from rich.console import Console, Group
from rich.table import Table

from simulation.evaluation import Comparison, Scores

MEGABYTE = 1e6


class Timing(BaseModel):
    """A line of an agent's timings.jsonl: one attempt at a round."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    study: str
    round: int
    attempt: int
    train_seconds: float | None = None
    seal_seconds: float | None = None
    open_seconds: float | None = None
    upload_bytes: int | None = None
    fp32_bytes: int | None = None


def read_timings(path: Path) -> list[Timing]:
    """The timings that an agent wrote; none when it took part in nothing."""
    if not path.exists():
        return []
    return [Timing.model_validate_json(line) for line in path.read_text(encoding="utf-8").splitlines() if line]


@dataclass(frozen=True)
class Run:
    """A finished federation: what it was, what it cost, what came of it."""

    sites: Sequence[str]
    scheme: str
    recipe: str
    version: str
    seed: int
    parameters: int
    fp32_bytes: int
    cases: Mapping[str, Mapping[str, Mapping[str, int]]]
    history: Sequence[Mapping[str, Any]]  # rows of GET rounds
    timings: Mapping[str, Sequence[Timing]]
    comparison: Comparison
    curves: Mapping[str, Sequence[tuple[int, float]]]
    wall_seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def completed(self) -> list[Mapping[str, Any]]:
        """Training rounds that made a model, in order."""
        rows = [row for row in self.history if row["state"] == "complete" and row["kind"] == "training"]
        return sorted(rows, key=lambda row: int(row["round"]))

    @property
    def upload_bytes(self) -> dict[str, list[int]]:
        """What each site sent in each completed training round that it was in."""
        return {
            site: [timing.upload_bytes for timing in timings if timing.upload_bytes]
            for site, timings in self._of_completed().items()
        }

    @property
    def upload_ratio(self) -> float:
        """The largest upload by the shared tensors' size as float32."""
        return max(number for uploads in self.upload_bytes.values() for number in uploads) / self.fp32_bytes

    @property
    def seconds(self) -> dict[str, float]:
        """Mean seconds as in summary.json."""
        timings = [timing for of_site in self._of_completed().values() for timing in of_site]
        rounds = [row["seconds"] for row in self.completed]
        return {
            "train": _mean(t.train_seconds for t in timings),
            "seal": _mean(t.seal_seconds for t in timings),
            "add": _mean(seconds["add"] for seconds in rounds),
            "open": _mean(t.open_seconds for t in timings),
            "reveal": _mean(seconds["open"] for seconds in rounds),
        }

    def _of_completed(self) -> dict[str, list[Timing]]:
        attempts = {(row["round"], row["attempt"]) for row in self.completed}
        return {
            site: [timing for timing in timings if (timing.round, timing.attempt) in attempts]
            for site, timings in self.timings.items()
        }

    def summary(self) -> dict[str, Any]:
        """The content of summary.json."""
        models = {**self.comparison.alone, "federated": self.comparison.federated, "pooled": self.comparison.pooled}
        return {
            "sites": len(self.sites),
            "rounds": len(self.completed),
            "scheme": self.scheme,
            "parameters": self.parameters,
            "fp32_bytes": self.fp32_bytes,
            "seconds": self.seconds,
            "auc": self.comparison.auc,
            "upload_bytes": self.upload_bytes,
            "version": self.version,
            "recipe": self.recipe,
            "seed": self.seed,
            "classes": list(self.comparison.classes),
            "cases": self.cases,
            "scores": {name: scores.to_json() for name, scores in models.items()},
            "alone_mean": self.comparison.alone_mean,
            "gain": self.comparison.gain,
            "upload_ratio": self.upload_ratio,
            "curves": self.curves,
            "history": list(self.history),
            "wall_seconds": self.wall_seconds,
        }


def write_summary(run: Run, path: Path) -> None:
    path.write_text(json.dumps(run.summary(), indent=2) + "\n", encoding="utf-8")


def print_report(run: Run, console: Console) -> None:
    """The tables: who had which cases, how well each model does, what it cost."""
    console.print(Group(_cases_table(run), _auc_table(run.comparison), _sensitivity_table(run.comparison), _costs(run)))


def _cases_table(run: Run) -> Table:
    table = Table(title="Cases at each hospital (training / validation / held out)", title_justify="left")
    table.add_column("hospital")
    for name in run.comparison.classes:
        table.add_column(name, justify="right")
    for site in run.sites:
        splits = run.cases[site].values()
        table.add_row(site, *(" / ".join(str(split.get(c, 0)) for split in splits) for c in run.comparison.classes))
    return table


def _auc_table(comparison: Comparison) -> Table:
    table = _figures("AUC on all hospitals' held-out cases, each class against the rest", comparison, "macro AUC")
    for scores in comparison.alone.values():
        table.add_row(f"{scores.name} alone", _figure(scores.macro_auc), *map(_figure, scores.pooled.auc))
    table.add_row(
        "average hospital alone", _figure(comparison.alone_mean), *_means(comparison, "auc"), end_section=True
    )
    for scores in (comparison.federated, comparison.pooled):
        style = "bold" if scores is comparison.federated else None
        table.add_row(scores.name, _figure(scores.macro_auc), *map(_figure, scores.pooled.auc), style=style)
    table.caption = f"federated against the average hospital alone: {comparison.gain:+.3f}"
    return table


def _sensitivity_table(comparison: Comparison) -> Table:
    table = _figures("Sensitivity on the same cases, the likeliest class taken as the answer", comparison, "accuracy")
    for scores in comparison.alone.values():
        table.add_row(f"{scores.name} alone", *_accuracy_and_sensitivity(scores))
    accuracy = fmean(scores.pooled.accuracy for scores in comparison.alone.values())
    table.add_row("average hospital alone", _figure(accuracy), *_means(comparison, "sensitivity"), end_section=True)
    for scores in (comparison.federated, comparison.pooled):
        style = "bold" if scores is comparison.federated else None
        table.add_row(scores.name, *_accuracy_and_sensitivity(scores), style=style)
    return table


def _costs(run: Run) -> Table:
    table = Table(title="What it cost", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    largest = run.upload_ratio * run.fp32_bytes
    seconds = run.seconds
    table.add_row("shared tensors as float32", f"{run.fp32_bytes / MEGABYTE:.3f} MB")
    table.add_row("sent by a site in a round", f"{largest / MEGABYTE:.3f} MB ({run.upload_ratio:.4f} x)")
    table.add_row("training, a site's round", f"{seconds['train']:.2f} s")
    table.add_row("sealing, a site's round", f"{seconds['seal']:.3f} s")
    table.add_row("adding, the coordinator's round", f"{1000 * seconds['add']:.1f} ms")
    table.add_row("opening, an opener's round", f"{seconds['open']:.3f} s")
    table.add_row("revealing, the coordinator's round", f"{seconds['reveal']:.3f} s")
    for phase, taken in run.wall_seconds.items():
        table.add_row(f"wall time, {phase}", f"{taken:.0f} s")
    return table


def _figures(title: str, comparison: Comparison, overall: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("model")
    for name in (overall, *comparison.classes):
        table.add_column(name, justify="right")
    return table


def _means(comparison: Comparison, what: str) -> list[str]:
    """Means over the hospitals, class by class."""
    of_sites = [getattr(scores.pooled, what) for scores in comparison.alone.values()]
    return [
        _figure(_mean(values)) if any(v is not None for v in values) else "-" for values in zip(*of_sites, strict=True)
    ]


def _accuracy_and_sensitivity(scores: Scores) -> list[str]:
    return [_figure(scores.pooled.accuracy), *map(_figure, scores.pooled.sensitivity)]


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _mean(values: Iterable[float | None]) -> float:
    """Mean of those that are there; 0 for none."""
    known = [value for value in values if value is not None]
    return fmean(known) if known else 0.0
