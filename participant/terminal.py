"""What the commands share: the home folder, the site in it, how things are said, how errors end a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.console import Console

from crypto.errors import CryptoError
from participant import setup
from participant.documents import Study
from participant.ledger import LedgerBroken
from participant.policy import Refused
from participant.progress import reporter
from participant.session import Problem, Unreachable
from participant.settings import ConfigError, Home
from participant.steps.desk import Site

out = Console()
err = Console(stderr=True)

_HOME_HELP = "The agent's folder; PLEURA_HOME or ~/.pleura unless given."
HomeOption = Annotated[Path | None, typer.Option("--home", help=_HOME_HELP)]
_EXPECTED = (ConfigError, Problem, Unreachable, Refused, CryptoError, LedgerBroken, OSError)


def home_of(context: typer.Context, given: Path | None) -> Home:
    return Home.find(given or context.obj)


@contextmanager
def opened_site(context: typer.Context, given: Path | None) -> Iterator[Site]:
    with setup.open_site(home_of(context, given), reporter(err)) as site:
        yield site


def studies_of(site: Site, wanted: str | None) -> list[Study]:
    """The study of that name or id, or all that this site is a member of."""
    studies = site.client.studies()
    chosen = [each for each in studies if (each.member if wanted is None else wanted in (each.name, str(each.id)))]
    if not chosen:
        names = ", ".join(each.name for each in studies) or "none yet"
        what = "This site takes part in no study" if wanted is None else "There is no such study here"
        end(f"{what}. The studies: {names}.")
    return chosen


def line(words: str) -> None:
    """One line, however narrow the terminal: words that people compare are not cut in two."""
    out.print(words, soft_wrap=True, markup=False, highlight=False)


@contextmanager
def explained() -> Iterator[None]:
    """What a person can act on is said in words; anything else keeps its traceback."""
    try:
        yield
    except _EXPECTED as error:
        end(str(error))


def end(words: str) -> NoReturn:
    err.print(words, style="red", soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1)
