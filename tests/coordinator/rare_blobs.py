"""Worlds with blobs that a plain study has none of; each gives a prefix of the keys that rows then refer to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from conftest import RECIPE
from played_rounds import play
from test_api_members import agree, sealed_to, shown
from test_carrying_studies import Carrying

from crypto.canonical import canonical


def _server_state(world: Any, make_model: Any) -> str:
    """A server optimiser that keeps state, after its first round."""
    recipe = RECIPE | {"federation": RECIPE["federation"] | {"server": {"optimizer": "fedavgm"}}}
    model = world.operate("POST", "/v1/models", content=make_model(metadata={"recipe": canonical(recipe).decode()}))
    world.begin(model=model.json()["model"])
    play(world)
    return f"server/{world.study_id}/"


def _sealed_model(world: Any, _: Any) -> str:
    """An envelope that a member announced to a newcomer, where members alone hold the model."""
    outcome, data = agree(world, shown(world, world.begin(release="members")))
    holder, newcomer = world.sites[0], world.new_site("newcomer")
    newcomer.ok("PUT", f"{world.study}/membership")
    model = f"{world.study}/models/{outcome.model}"
    newcomer.ok("PUT", f"{model}/request")
    message, octets = sealed_to(holder, newcomer, world.study_id, data)
    holder.ok("PUT", f"{model}/envelopes/{newcomer.id}", content=octets)
    assert holder.send(f"{model}/envelopes", message).status_code == 204
    return f"sealed/{world.study_id}/{outcome.model}/{newcomer.id}/"


def _carried_parts(world: Any, make_model: Any) -> str:
    """A leaver whose parts of the first round, long swept, the second one's plan carries."""
    study = Carrying(world, make_model)
    study.contribute()
    first = study.newest()
    world.operate("POST", f"{world.study}/pause")
    study.complete()
    gone = study.leave()
    study.act("resume")
    assert study.carried() == [str(gone.id)]
    return f"parts/{first.id}/{gone.id}/"


RARE: Final[Mapping[str, Callable[[Any, Any], str]]] = {
    "server state": _server_state,
    "sealed model": _sealed_model,
    "carried parts": _carried_parts,
}
