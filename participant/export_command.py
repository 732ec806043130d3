"""`pleura-participant export`: a model as files that other software reads, with a card that says what it is."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from participant.evaluation import FORMAT as EVALUATION_FORMAT
from participant.picked import file_of, pick
from participant.settings import Home
from participant.terminal import HomeOption, end, explained, home_of, line, opened_site, studies_of

if TYPE_CHECKING:
    from models.export import Format
    from models.flatten import SavedModel
    from participant.card.facts import StudyFacts
    from participant.diagnosis.models import ModelFile


def export(
    context: typer.Context,
    out: Annotated[Path, typer.Option(help="Folder for the files; made if it is not there.")],
    study: Annotated[str | None, typer.Argument(help="Name or id.")] = None,
    round_: Annotated[int | None, typer.Option("--round", help="Which one's model; 0: the first. The newest.")] = None,
    model: Annotated[Path | None, typer.Option(help="A model file, in place of a study.")] = None,
    formats: Annotated[
        list[str] | None, typer.Option("--format", help="safetensors, torch (torch.export) or onnx. All.")
    ] = None,
    evaluation: Annotated[
        Path | None, typer.Option(help="An evaluation.json of this site's, to be in the card. None is unless given.")
    ] = None,
    home: HomeOption = None,
) -> None:
    """Write a model as safetensors, torch.export and ONNX, checked as written, and its model card. Sends nothing."""
    from models.export import ExportDisagrees, ExportUnavailable
    from models.flatten import LayoutMismatch

    if (study is None) == (model is None):
        end("Name a study, or give a model file with --model, and not both.")
    chosen = _formats(formats)
    with explained():
        place = home_of(context, home)
        facts: StudyFacts | None = None
        if model is not None:
            found = _given(model)
        else:
            found, facts = _from_study(context, home, str(study), round_)
        own = _evaluation(evaluation, found.digest) if evaluation is not None else None
        out.mkdir(parents=True, exist_ok=True)
        try:
            written = _write(found, facts, own, out, chosen, place)
        except (ExportDisagrees, ExportUnavailable, LayoutMismatch) as error:
            end(str(error))
    line(f"The card is {written}: read it before you pass the files on.")


def _from_study(
    context: typer.Context, home: Path | None, study: str, number: int | None
) -> tuple[ModelFile, StudyFacts]:
    from participant.card.facts import study_facts
    from participant.diagnosis.models import ModelFile

    with opened_site(context, home) as site:
        (chosen,) = studies_of(site, study)
        picked = pick(site, chosen, number)
        made = f"after round {picked.round}" if picked.round else "first model"
        title = f"{chosen.name}, {made}"
        return ModelFile(file_of(site, picked), title, picked.digest, chosen.id), study_facts(site, picked)


def _given(path: Path) -> ModelFile:
    from participant.diagnosis.models import given_file

    return given_file(path)


def _write(
    found: ModelFile,
    facts: StudyFacts | None,
    own: Mapping[str, Any] | None,
    out: Path,
    formats: tuple[Format, ...],
    place: Home,
) -> Path:
    from models.export import export_network
    from models.flatten import read_model
    from participant.card.card import ModelCard
    from participant.diagnosis.models import load

    saved = read_model(found.path)
    own_tensors = _own_tensors(saved, found, place)
    loaded = load(found, place if place.config.is_file() else None, "cpu")
    recipe, network = loaded.recipe, loaded.network
    statistics = (loaded.settings.mean, loaded.settings.std) if recipe.preprocessing.statistics == "site" else None
    files = export_network(
        network, recipe, found.digest, out / _stem(found.title), formats,
        statistics=statistics, folder=place.checkpoints, said=line,
    )  # fmt: skip
    card = ModelCard(
        title=found.title,
        written=time.strftime("%Y-%m-%d", time.gmtime()),
        digest=found.digest,
        parameters=sum(value.numel() for value in network.parameters()),
        layout_digest=saved.layout.digest,
        recipe=recipe,
        files=files,
        study=facts,
        own_tensors=own_tensors,
        statistics=statistics,
        evaluation=own,
    )
    for each in files:
        line(f"{each.path}: {each.size:,} bytes, scores as the network's to {each.difference:.1e}")
    return card.write(out)


def _own_tensors(saved: SavedModel, found: ModelFile, place: Home) -> int:
    """How many of the network's tensors are kept at this site. Without them a file would hold fresh ones."""
    from participant.local_state import LocalState
    from participant.sealed import LOCAL_STATE

    if not saved.recipe.network.local:
        return 0
    kept = LocalState.read(place.local_state(found.study) / LOCAL_STATE).network if found.study is not None else {}
    own = [name for name in kept if any(fnmatchcase(name, pattern) for pattern in saved.recipe.network.local)]
    if not own:
        end(
            f"{found.title} is not whole without the tensors that each site keeps "
            f"({', '.join(saved.recipe.network.local)}), and there are none of this study's here: name the study in "
            "place of a file, at a site that took part in it."
        )
    return len(own)


def _formats(given: list[str] | None) -> tuple[Format, ...]:
    from models.export import FORMATS

    if strange := sorted(set(given or ()) - set(FORMATS)):
        end(f"--format is {', '.join(FORMATS)}, not {', '.join(strange)}.")
    return tuple(each for each in FORMATS if given is None or each in given)


def _evaluation(path: Path, digest: str) -> Mapping[str, Any]:
    """The content of an evaluation.json of this very model."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        end(f"{path} is no JSON: {error}. Give the evaluation.json that `evaluate --out` wrote.")
    if not isinstance(value, dict) or value.get("format") != EVALUATION_FORMAT:
        end(f"{path} is no evaluation. Give the evaluation.json that `pleura-participant evaluate --out` wrote.")
    if value["model"] != digest:
        end(f"{path} is of the model {str(value['model'])[:12]}..., not of {digest[:12]}...: evaluate this one first.")
    return value


def _stem(title: str) -> str:
    """A file's name that every system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "-", title).strip("-").lower() or "model"
