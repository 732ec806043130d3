"""A case in one file that needs nothing else, and in JSON."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import Any, Final

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from participant.diagnosis.case import NOTICE, Case
from participant.diagnosis.look import Opinion
from participant.diagnosis.pictures import blended, grey, heat, outline, png

_OPACITY: Final = 0.6
_SHOWN: Final = 6  # slices


def figures(case: Case) -> dict[str, Any]:
    """What each model makes of it, for programs."""
    return {
        "notice": NOTICE,
        "kind": "ct" if case.is_ct else "xray",
        "slices": case.slices,
        "opinions": [_figures_of(each) for each in case.opinions],
        "severity": None if case.grade is None else _figures_of(case.grade),
        "notes": list(case.notes),
    }


def html(case: Case) -> str:
    """A page with the probabilities and the slices on which most speaks for each model's answer."""
    shown = [(each, _figures_of(each), _pictures(case, each)) for each in case.opinions]
    grade = None if case.grade is None else _figures_of(case.grade)
    return _environment.get_template("case.html.j2").render(case=case, opinions=shown, grade=grade, notice=NOTICE)


def _figures_of(opinion: Opinion) -> dict[str, Any]:
    pairs = zip(opinion.model.classes, opinion.mean.tolist(), opinion.spread.tolist(), strict=True)
    return {
        "model": opinion.model.file.title,
        "sha256": opinion.model.file.digest,
        "recipe": opinion.model.recipe.name,
        "subsets": len(opinion.subsets),
        "likeliest": opinion.model.classes[opinion.likeliest],
        "classes": {name: {"probability": mean, "deviation": spread} for name, mean, spread in pairs},
    }


def _pictures(case: Case, opinion: Opinion) -> list[tuple[int, str]]:
    """(slice counted from the head, from 1; a data URI) of the brightest slices, from the head down."""
    maps = opinion.maps[opinion.likeliest]
    brightest = np.argsort(-maps.astype(np.float32).mean(axis=(1, 2)), kind="stable")[:_SHOWN]
    return [(case.slices - number, _uri(case, opinion, number)) for number in sorted(brightest.tolist(), reverse=True)]


def _uri(case: Case, opinion: Opinion, number: int) -> str:
    drawn = grey(case.voxels[number], "lung")
    drawn = blended(drawn, heat(opinion.maps[opinion.likeliest, number], drawn.shape), _OPACITY)
    if case.outlined is not None:
        edge = outline(case.outlined[number])[..., 3] > 0
        drawn[edge] = outline(case.outlined[number])[edge, :3]
    return "data:image/png;base64," + b64encode(png(drawn)).decode()


_environment: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
