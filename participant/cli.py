"""`pleura-participant`: what a hospital types."""

from __future__ import annotations

import json
import logging
import signal
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal, NoReturn

import typer
from rich.console import Console

from crypto.errors import CryptoError
from crypto.identity import Identity, PublicIdentity
from crypto.plan import Roster
from participant import logs, setup
from participant.agent import Agent, Until, only_one
from participant.documents import Study
from participant.ledger import Ledger, LedgerBroken
from participant.policy import Refused
from participant.progress import reporter
from participant.session import Problem, Unreachable
from participant.settings import Config, ConfigError, Home, parse
from participant.steps.desk import Desk, Site
from participant.steps.peers import tend_peers

app = typer.Typer(help="The agent at a hospital: trains here, sends only ciphertexts.", no_args_is_help=True)
model_app = typer.Typer(help="First models of studies.", no_args_is_help=True)
app.add_typer(model_app, name="model")

out = Console()
err = Console(stderr=True)

_HOME_HELP = "The agent's folder; PLEURA_HOME or ~/.pleura unless given."
HomeOption = Annotated[Path | None, typer.Option("--home", help=_HOME_HELP)]
_EXPECTED = (ConfigError, Problem, Unreachable, Refused, CryptoError, LedgerBroken, OSError)


@app.callback()
def main(
    context: typer.Context, home: HomeOption = None, verbose: bool = typer.Option(False, help="Say more.")
) -> None:
    """The agent at a hospital."""
    logs.set_up(err, logging.DEBUG if verbose else logging.INFO)
    context.obj = home


@app.command()
def init(
    context: typer.Context,
    name: Annotated[str, typer.Option(help="This site's name, as the other sites will see it.")],
    coordinator: Annotated[str, typer.Option(help="The coordinator's address, https://...")],
    data: Annotated[Path, typer.Option(help="Folder of the cases.")],
    policy: Annotated[str, typer.Option(help="ask: approve each peer here; auto: any (demonstrations only).")] = "ask",
    home: HomeOption = None,
) -> None:
    """Make this site's folder: settings, policy, and keys that never leave it."""
    peers: Literal["auto", "ask"]
    if policy == "auto":
        peers = "auto"
    elif policy == "ask":
        peers = "ask"
    else:
        _end(f"--policy is ask or auto, not {policy}.")
    with _explained():
        place = _home(context, home)
        given = {"name": name, "coordinator": coordinator, "data": str(data.expanduser().absolute())}
        identity = setup.make_home(place, parse(Config, given, "the given options"), peers)
        _line(f"This site's folder is {place.path}. Look through config.toml and policy.toml there.")
        _line(f"Its words, for the other sites to compare: {identity.public.words}")
        _line("Next: pleura-participant enrol INVITATION")


@app.command()
def enrol(
    context: typer.Context,
    invitation: Annotated[str, typer.Argument(help="The single-use text from the coordinator's operator.")],
    home: HomeOption = None,
) -> None:
    """Redeem an invitation."""
    with _explained():
        enrolment = setup.enrol(_home(context, home), invitation.strip())
        _line(f"Enrolled as site {enrolment.site}. Next: pleura-participant run")


@app.command()
def roster(
    context: typer.Context,
    study: Annotated[str | None, typer.Argument(help="Name or id; all studies unless given.")] = None,
    home: HomeOption = None,
) -> None:
    """Who takes part, with the words of each fingerprint."""
    with _explained(), _site(context, home) as site:
        for each in _studies(site, study):
            _show_roster(site, each, site.client.roster(each.id))


@app.command()
def approve(
    context: typer.Context,
    study: Annotated[str, typer.Argument(help="Name or id.")],
    peer: Annotated[str, typer.Argument(metavar="SITE", help="Name or id of a site, or all.")],
    yes: Annotated[bool, typer.Option("--yes", help="The words were compared already; do not ask.")] = False,
    home: HomeOption = None,
) -> None:
    """Approve a peer's keys, after comparing the words with that hospital by telephone."""
    with _explained(), _site(context, home) as site:
        (chosen,) = _studies(site, study)
        members = [member for member in site.client.roster(chosen.id).members if member.site != site.me]
        wanted = [member for member in members if peer in ("all", member.name, str(member.site))]
        if not wanted:
            _end(f"{peer} is no member of {chosen.name}. Its members: {', '.join(member.name for member in members)}.")
        for member in wanted:
            public = PublicIdentity.of_member(member)
            _line(f"{member.name}: {public.words}")
            if yes or typer.confirm("Did that hospital read out the same words?"):
                site.record.approve(chosen.id, member.site, public.fingerprint)
                site.ledger.append("peer-approved", study=str(chosen.id), site=str(member.site), name=member.name,
                                   fingerprint=public.fingerprint, how="operator")  # fmt: skip
                _line(f"Approved {member.name}.")
        tend_peers(Desk(site, chosen))  # tells the coordinator now; a running agent would within half a minute


@app.command()
def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Do what is asked now, then end.")] = False,
    until_finished: Annotated[bool, typer.Option("--until-finished", help="End when every study has.")] = False,
    home: HomeOption = None,
) -> None:
    """Take part: train, deliver, vote, open. Ends on Ctrl-C or SIGTERM and resumes where it was."""
    until: Until = "once" if once else "finished" if until_finished else "stopped"
    with _explained():
        place = _home(context, home)
        agent = Agent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        with only_one(place.lock), setup.open_site(place, reporter(err), pause=agent.pause) as site:
            agent.run(site, until)


@app.command()
def status(context: typer.Context, home: HomeOption = None) -> None:
    """What this site is, and where its studies stand."""
    with _explained():
        place = _home(context, home)
        config, enrolment = place.load_config(), setup.enrolment_of(place)
        _line(f"{config.name}, site {enrolment.site}, at {config.coordinator}")
        _line(f"words: {Identity.load(place.identity).public.words}")
        _line(f"ledger: {Ledger(place.ledger).verify()} lines, sound")
        with _site(context, home) as site:
            for each in site.client.studies():
                part = f"member, {len(site.client.roster(each.id).members)} sites" if each.member else "not joined"
                _line(
                    f"{each.name}: {each.state}, round {each.round} of {each.rounds}, {part}, model {each.model[:16]}"
                )


@app.command()
def ledger(
    context: typer.Context,
    action: Annotated[str | None, typer.Argument(help="verify: check the chain only.")] = None,
    home: HomeOption = None,
) -> None:
    """What left this site, and what it refused."""
    if action not in (None, "verify"):
        _end(f"`ledger` shows the lines, `ledger verify` checks them; there is no `ledger {action}`.")
    with _explained():
        book = Ledger(_home(context, home).ledger)
        if action == "verify":
            _line(f"{book.verify()} lines, sound. Head: {book.head()}")
            return
        for entry in book.entries():
            shown = {key: value for key, value in entry.items() if key not in ("hash", "previous")}
            _line(json.dumps(shown))


@model_app.command("new")
def model_new(
    recipe: Annotated[str, typer.Argument(help="Name of a recipe that comes with Pleura, or a TOML file.")],
    file: Annotated[Path, typer.Option("--out", help="Where to write the model (safetensors).")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, such as training.batch=4.")] = None,
    seed: Annotated[int, typer.Option(help="Of the fresh weights.")] = 0,
) -> None:
    """Write a study's first model, with the recipe and the layout in it, for the coordinator."""
    import torch

    from models.flatten import layout_of, save_model
    from models.pooled import count_fields
    from models.recipe import load_recipe
    from models.recipe_problems import RecipeError
    from models.registry import build

    try:
        chosen = load_recipe(recipe).overridden(dict(map(_assignment, changes or [])))
        torch.manual_seed(seed)
        network = build(chosen)
    except RecipeError as error:
        _end(str(error))
    counts = count_fields(len(chosen.network.classes), chosen.evaluation.bins)
    layout = layout_of(network, chosen.network.frozen, counts)
    with _explained():
        save_model(file, network, layout, chosen)
    _line(f"{file}: {chosen.name}, {layout.size:,} values in {len(layout.tensors)} tensors")


def _assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as in TOML; what is no TOML is text."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        _end(f"--set takes KEY=VALUE, such as training.batch=4, not {text}.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _home(context: typer.Context, given: Path | None) -> Home:
    return Home.find(given or context.obj)


@contextmanager
def _site(context: typer.Context, given: Path | None) -> Iterator[Site]:
    with setup.open_site(_home(context, given), reporter(err)) as site:
        yield site


def _studies(site: Site, wanted: str | None) -> list[Study]:
    """The study of that name or id, or all that this site is a member of."""
    studies = site.client.studies()
    chosen = [each for each in studies if (each.member if wanted is None else wanted in (each.name, str(each.id)))]
    if not chosen:
        names = ", ".join(each.name for each in studies) or "none yet"
        _end(f"There is no such study here. The studies: {names}.")
    return chosen


def _show_roster(site: Site, study: Study, members: Roster) -> None:
    approved = site.record.approved(study.id)
    _line(f"{study.name}:")
    for member in members.members:
        public = PublicIdentity.of_member(member)
        mark = "approved" if approved.get(member.site) == public.fingerprint else "not approved"
        mark = "this site" if member.site == site.me else mark
        _line(f"  {member.name} ({member.site}), {mark}: {public.words}")


def _line(words: str) -> None:
    """One line, however narrow the terminal: words that people compare are not cut in two."""
    out.print(words, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def _explained() -> Iterator[None]:
    """What a person can act on is said in words; anything else keeps its traceback."""
    try:
        yield
    except _EXPECTED as error:
        _end(str(error))


def _end(words: str) -> NoReturn:
    err.print(words, style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1)


if __name__ == "__main__":
    app()
