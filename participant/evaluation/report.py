"""An evaluation as files that a person can read, print and pass on: HTML with everything in it, Markdown, JSON."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, Final

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from models.bootstrap import RESAMPLES
from models.roc import DRAWS
from models.statistics import Interval
from participant.evaluation.drawing import MARKS, reliability_drawing, roc_drawing
from participant.evaluation.result import Evaluation

PAGE, TEXT, VALUES = "evaluation.html", "evaluation.md", "evaluation.json"
_METHOD: Final = (
    "Intervals hold 95 %. Those of shares are Wilson's, several cases of a patient counting for as much as they are "
    f"worth together; the others are percentiles of {RESAMPLES} bootstrap samples of patients, those of the ROC bands "
    f"of {DRAWS}. A CT's probabilities are the means over its subsets."
)
_LIMITS: Final = (
    "A research model, no medical device. These figures are of this hospital's cases: elsewhere it may do better or "
    "worse. Nothing here is of a single patient; whether the figures may leave the hospital is yours to decide."
)
_FEW: Final = 30  # cases of a class below which a note says so


def write_report(evaluation: Evaluation, folder: Path) -> Path:
    """Writes evaluation.html, evaluation.md and evaluation.json; returns the page. There is no patient's id in any."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / VALUES).write_text(json.dumps(evaluation.to_json(), indent=2) + "\n", encoding="utf-8")
    (folder / TEXT).write_text(markdown_of(evaluation), encoding="utf-8")
    (folder / PAGE).write_text(html_of(evaluation), encoding="utf-8")
    return folder / PAGE


def html_of(evaluation: Evaluation) -> str:
    """The page: no script, nothing to fetch; light or dark as the reader prefers."""
    environment = _environment(autoescape=True)
    environment.globals |= {"style": Markup(_text("evaluation.css")), "marks": MARKS}  # noqa: S704 - our own
    environment.filters |= {"roc": roc_drawing, "reliability": reliability_drawing}
    return environment.from_string(_text("evaluation.html.j2")).render(**_content(evaluation))


def markdown_of(evaluation: Evaluation) -> str:
    """The same figures as GitHub's Markdown, without drawings."""
    environment = _environment(autoescape=False)
    environment.filters |= {"cell": lambda text: str(text).replace("|", "\\|")}
    return environment.from_string(_text("evaluation.md.j2")).render(**_content(evaluation))


def notes_on(evaluation: Evaluation) -> list[str]:
    """What a reader of the figures should know beside them."""
    found = []
    if evaluation.subject.split == "validation":
        found.append(
            "Validation cases may have decided when training stopped. Test cases, which no round looks at, say more."
        )
    if few := [each.name for each in evaluation.classes if 0 < each.cases < _FEW]:
        found.append(f"There are fewer than {_FEW} cases of {', '.join(few)}: read the intervals, not the figures.")
    if absent := [each.name for each in evaluation.classes if each.cases == 0]:
        found.append(f"There are no cases of {', '.join(absent)} here, so nothing is said of finding them.")
    singles = [each for one in evaluation.classes if one.readers is not None for each in one.readers.single]
    read = sorted({each.cases for each in singles if each.cases is not None})
    if read and read != [evaluation.cases]:
        counts = f"{read[0]} to {read[-1]}" if len(read) > 1 else str(read[0])
        found.append(f"Readers read {counts} of the {evaluation.cases} cases; the model's figures are of all of them.")
    if evaluation.reads_left_out:
        found.append(f"{evaluation.reads_left_out} reads of cases that are in other splits were left out.")
    return found


def _content(evaluation: Evaluation) -> dict[str, Any]:
    subject = evaluation.subject
    made = f"after round {subject.round}" if subject.round else "first model"
    facts = {
        "Study": subject.study,
        "Model": made,
        "Recipe": subject.recipe,
        "Split": f"{subject.split} cases of this hospital",
        "Cases": f"{evaluation.cases} of {evaluation.patients} patients",
        "Written": subject.written,
        "SHA-256 of the model": subject.model,
        "SHA-256 of its recipe": subject.recipe_digest,
    }
    return {
        "evaluation": evaluation,
        "title": f"{subject.study}, {made}, on this hospital's {subject.split} cases",
        "facts": facts,
        "notes": notes_on(evaluation),
        "method": _METHOD,
        "limits": _LIMITS,
        "names": [each.name for each in evaluation.classes],
    }


def _environment(*, autoescape: bool) -> Environment:
    environment = Environment(
        autoescape=autoescape,  # noqa: S701 - HTML is escaped; Markdown is none
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"figure": _figure, "share": _share, "rate": _rate}
    return environment


def _figure(value: Interval | float | None) -> str:
    """0.912, of a figure that may have an interval."""
    if value is None:
        return "–"
    return f"{value.value if isinstance(value, Interval) else value:.3f}"


def _rate(value: Interval | float | None) -> str:
    """0.912 (0.870 to 0.941)."""
    return str(value) if isinstance(value, Interval) else _figure(value)


def _share(cases: int, row: tuple[int, ...]) -> int | None:
    """Of a row's cases, in percent."""
    return round(100 * cases / sum(row)) if sum(row) else None


def _text(name: str) -> str:
    return (files("participant.evaluation") / name).read_text(encoding="utf-8")
