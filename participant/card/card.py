"""A model card as a value, as JSON and as Markdown."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib.resources import files as packaged
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from models.export import Exported
from models.recipe import Recipe
from participant.card.facts import Figure, StudyFacts
from participant.card.loading import snippets

FORMAT: Final = "pleura/model-card/v1"
MARKDOWN, VALUES = "model-card.md", "model-card.json"

USE: Final = (
    "Research on chest imaging: to be compared, tested on other cases, and gone on from. Its probabilities are no "
    "diagnosis and decide nothing about a patient."
)
#: The same words as on the coordinator's page of a model; a test compares them.
LIMITS: Final = (
    "A research model. It is no medical device, was checked by no authority, and its figures are of the hospitals that "
    "trained it: elsewhere it may do worse. Validation cases chose nothing but when to stop; a test on cases of "
    "hospitals that took no part is yours to make."
)


@dataclass(frozen=True)
class ModelCard:
    """digest: of the study's model file; parameters: of the network, those that stay at a site included.

    own_tensors: how many of the network's tensors only this site has, as its study does not share them. statistics:
    mean and deviation of this site's own cases, where inputs are normalised with these. evaluation: content of an
    evaluation.json of this site's.
    """

    title: str
    written: str
    digest: str
    parameters: int
    layout_digest: str | None
    recipe: Recipe
    files: Sequence[Exported]
    study: StudyFacts | None = None
    own_tensors: int = 0
    statistics: tuple[float, float] | None = None
    evaluation: Mapping[str, Any] | None = field(default=None)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "title": self.title,
            "written": self.written,
            "model": {
                "sha256": self.digest,
                "network": self.recipe.network.name,
                "parameters": self.parameters,
                "classes": self.recipe.network.classes,
                "layout_sha256": self.layout_digest,
                "tensors_of_this_site_alone": self.own_tensors,
            },
            "recipe": {"sha256": self.recipe.digest, **self.recipe.to_json()},
            "study": None if self.study is None else asdict(self.study),
            "evaluation_of_this_site": self.evaluation,
            "files": [
                {"name": each.path.name, "sha256": each.sha256, "bytes": each.size, "difference": each.difference}
                for each in self.files
            ],
            "intended_use": USE,
            "limits": LIMITS,
        }

    def to_markdown(self) -> str:
        """GitHub's Markdown."""
        environment = Environment(
            autoescape=False,  # noqa: S701 - no HTML
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
            keep_trailing_newline=True,
        )
        environment.filters |= {"figure": _figure, "plain": _plain}
        template = packaged("participant.card").joinpath("model_card.md.j2").read_text(encoding="utf-8")
        return environment.from_string(template).render(
            card=self,
            study=self.study,
            recipe=self.recipe,
            own=self.evaluation,
            use=USE,
            limits=LIMITS,
            programs=snippets(self.files, self.recipe, self.statistics),
        )

    def write(self, folder: Path) -> Path:
        """Writes model-card.json and model-card.md; returns the latter."""
        (folder / VALUES).write_text(json.dumps(self.to_json(), indent=2) + "\n", encoding="utf-8")
        (folder / MARKDOWN).write_text(self.to_markdown(), encoding="utf-8")
        return folder / MARKDOWN


def _figure(value: Figure | Mapping[str, float]) -> str:
    """0.906 (0.861 to 0.938), of a figure that may have an interval."""
    if value is None:
        return "–"
    if isinstance(value, Mapping):
        return f"{value['value']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    return f"{value:.3f}" if isinstance(value, float | int) else str(value)


def _plain(text: object) -> str:
    """Words that others chose, in one line, without what Markdown or HTML would make of them."""
    shown = " ".join(str(text).split())
    for sign in "\\`*_{}[]<>#|":
        shown = shown.replace(sign, "\\" + sign)
    return shown
