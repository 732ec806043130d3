"""A page to visit: an agent's folder with two models and a ledger, and a browser's manners."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import httpx
import lit_scans as lit

from models.first_model import first_model
from models.flatten import save_model
from models.recipe import Recipe
from participant.diagnosis.models import given_file
from participant.ledger import Ledger
from participant.settings import Config, Home
from participant.setup import make_home
from participant.web.app import create_app
from participant.web.security import LOOPBACK
from participant.web.settings import Page
from simulation.engine.transport import InProcess

STUDY = UUID("11111111-2222-4333-8444-555555555555")
PEER = UUID("99999999-2222-4333-8444-555555555555")
ORIGIN = "http://localhost:8321"


def write_model(path: Path, seed: int, recipe: Recipe = lit.RECIPE) -> Path:
    made = first_model(recipe, seed)
    save_model(path, made.vector, made.layout, made.recipe)
    return path


def agents_home(folder: Path) -> Home:
    """A folder as `init` makes it, with a study that was joined and one contribution to it."""
    home = Home(folder)
    make_home(home, Config(name="St. Mary", coordinator="https://pleura.example.org", data="/data/ct"), "ask")
    home.models.mkdir()
    ledger, study = Ledger(home.ledger, clock=lambda: 1_790_000_000.0), str(STUDY)
    ledger.append("joined", study=study, name="lungs", minimum_contributors=3)
    ledger.append("plan-accepted", study=study, round=4, attempt=1, digest="a" * 64)
    for what, size in (("part", 2_981_888), ("manifest", 434)):
        fields = {"study": study, "round": 4, "attempt": 1, "coordinator": "https://pleura.example.org"}
        ledger.append("sent", what=what, bytes=size, sha256=what[0] * 64, **fields)
    return home


@contextmanager
def client_of(
    page: Page, origin: str = ORIGIN, hosts: frozenset[str] = LOOPBACK, *, works: bool = True
) -> Iterator[httpx.Client]:
    """A visitor whose requests say where its forms come from, as every browser does; the page works meanwhile."""
    transport = InProcess(create_app(page, hosts))
    if works:
        page.jobs.start()
    try:
        with httpx.Client(transport=transport, base_url=origin, headers={"Origin": origin}) as client:
            yield client
    finally:
        page.jobs.close()
        transport.stop()


def two_models(folder: Path) -> Page:
    files = [
        given_file(write_model(folder / f"{name}.safetensors", seed)) for name, seed in (("federated", 1), ("alone", 2))
    ]
    return Page(agents_home(folder / "home"), files, device="cpu")


def give(client: httpx.Client, page: Page, files: list[tuple[str, tuple[str, bytes]]], models: int = 1) -> str:
    """Hand in a scan and wait until it was looked at; the path of its page."""
    data = {"model": [file.digest for file in page.files()][:models]}
    answer = client.post("/diagnose", data=data, files=files)
    assert answer.status_code == 303, answer.text
    path = answer.headers["location"]
    job = page.jobs.get(path.rsplit("/", 1)[1])
    assert job is not None
    assert job.over.wait(120)
    return str(path)
