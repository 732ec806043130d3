"""`pleura-participant`: what a hospital types."""

from __future__ import annotations

import logging
import signal
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from crypto.identity import Identity
from participant import logs, setup, standing, updates
from participant.agent import Agent, Until, only_one
from participant.check_command import check_data
from participant.diagnose_command import diagnose
from participant.doctor_command import doctor
from participant.evaluate_command import evaluate
from participant.export_command import export
from participant.import_commands import app as import_app
from participant.ledger import Ledger
from participant.ledger_commands import app as ledger_app
from participant.membership_commands import approve, join, leave, roster, words
from participant.progress import reporter
from participant.serve_command import serve
from participant.settings import Config, parse
from participant.terminal import HomeOption, end, err, explained, home_of, line, opened_site
from participant.training_files import LastRound

app = typer.Typer(
    help="The agent at a hospital: trains here, sends only ciphertexts.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold keys
)
model_app = typer.Typer(help="First models of studies.", no_args_is_help=True, pretty_exceptions_show_locals=False)
app.add_typer(model_app, name="model")
app.add_typer(ledger_app, name="ledger")
app.add_typer(import_app, name="import")


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
        end(f"--policy is ask or auto, not {policy}.")
    with explained():
        place = home_of(context, home)
        given = {"name": name, "coordinator": coordinator, "data": str(data.expanduser().absolute())}
        identity = setup.make_home(place, parse(Config, given, "the given options"), peers)
        line(f"This site's folder is {place.path}. Look through config.toml and policy.toml there.")
        line(f"Its words, for the other sites to compare: {identity.public.words}")
        line("Next: pleura-participant enrol INVITATION")


@app.command()
def enrol(
    context: typer.Context,
    invitation: Annotated[str, typer.Argument(help="The single-use text from the coordinator's operator.")],
    home: HomeOption = None,
) -> None:
    """Redeem an invitation."""
    with explained():
        enrolment = setup.enrol(home_of(context, home), invitation.strip())
        if enrolment.again:
            line(
                "The keys that this site had before are refused from now on. Every other hospital has to approve the "
                "new ones: read it your words (`words`), and approve it here once it read you its own."
            )
        line(f"Enrolled as site {enrolment.site}. Next: pleura-participant run")


for command in (words, roster, approve, leave, join, evaluate, export, check_data, diagnose, serve, doctor):
    app.command()(command)


@app.command()
def run(
    context: typer.Context,
    once: Annotated[bool, typer.Option("--once", help="Do what is asked now, then end.")] = False,
    until_finished: Annotated[bool, typer.Option("--until-finished", help="End when every study has.")] = False,
    home: HomeOption = None,
) -> None:
    """Take part: train, deliver, vote, open. Ends on Ctrl-C or SIGTERM and resumes where it was."""
    until: Until = "once" if once else "finished" if until_finished else "stopped"
    with explained():
        place = home_of(context, home)
        agent = Agent()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        with only_one(place.lock), setup.open_site(place, reporter(err), pause=agent.pause) as site:
            logs.keep(place.log)
            agent.run(site, until)


@app.command()
def status(context: typer.Context, home: HomeOption = None) -> None:
    """What this site is, and where its studies stand."""
    with explained():
        place = home_of(context, home)
        config, enrolment = place.load_config(), setup.enrolment_of(place)
        line(f"{config.name}, site {enrolment.site}, at {config.coordinator}")
        line(f"words: {Identity.load(place.identity).public.words}")
        line(f"ledger: {Ledger(place.ledger).verify()} lines, sound")
        for refusal in standing.refusals(Ledger(place.ledger)):
            line(refusal)
        with opened_site(context, home) as site:
            if update := updates.notice(site.client.status()):
                line(update)
            if hours := standing.hours_line(site):
                line(hours)
            for each in site.client.studies():
                part = f"member, {len(site.client.roster(each.id).members)} sites" if each.member else "not joined"
                part += f", sums of at least {each.minimum_contributors} contributors"
                line(f"{each.name}: {each.state}, round {each.round} of {each.rounds}, {part}, model {each.model[:16]}")
                if last := LastRound.read(place.local_state(each.id)):
                    line(f"  {last}")
                for promise in standing.privacy_lines(site, each):
                    line(promise)


@model_app.command("new")
def model_new(
    context: typer.Context,
    recipe: Annotated[str, typer.Argument(help="Name of a recipe that comes with Pleura, or a TOML file.")],
    file: Annotated[Path, typer.Option("--out", help="Where to write the model (safetensors).")],
    changes: Annotated[list[str] | None, typer.Option("--set", help="KEY=VALUE, such as training.batch=4.")] = None,
    seed: Annotated[int, typer.Option(help="Of the fresh weights.")] = 0,
    pretrained: Annotated[Path | None, typer.Option(help="Checkpoint (torch or safetensors) to begin with.")] = None,
    earlier: Annotated[Path | None, typer.Option("--from", help="Model of an earlier study to go on from.")] = None,
    home: HomeOption = None,
) -> None:
    """Write a study's first model, with the recipe and the layout in it, for the coordinator.

    Files that the recipe names are looked for in the folder `checkpoints` of the agent's folder; each site needs them.
    """
    from models.first_model import first_model
    from models.flatten import LayoutMismatch, save_model
    from models.recipe import load_recipe
    from models.recipe_problems import RecipeError

    with explained():
        folder = home_of(context, home).checkpoints
        try:
            chosen = load_recipe(recipe).overridden(dict(map(_assignment, changes or [])))
            made = first_model(chosen, seed, pretrained=pretrained, folder=folder, earlier=earlier)
        except (RecipeError, LayoutMismatch) as error:
            end(str(error))
        save_model(file, made.vector, made.layout, made.recipe)
    line(f"{file}: {made.recipe.name}, {made.layout.size:,} values in {len(made.layout.tensors)} tensors")
    if made.recipe.network.needs_checkpoint:
        line(f"Each site needs the checkpoint with SHA-256 {made.recipe.network.pretrained} in its folder checkpoints.")


def _assignment(text: str) -> tuple[str, Any]:
    """KEY=VALUE, the value as in TOML; what is no TOML is text."""
    key, sign, value = text.partition("=")
    if not sign or not key:
        end(f"--set takes KEY=VALUE, such as training.batch=4, not {text}.")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


if __name__ == "__main__":
    app()
