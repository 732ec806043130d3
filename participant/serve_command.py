"""`pleura-participant serve`: the local page."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from participant.files import write_whole
from participant.settings import Config, Home, this_machine
from participant.setup import ca_file_of
from participant.terminal import HomeOption, end, explained, home_of, line

if TYPE_CHECKING:
    from participant.diagnosis.archive import Archive

_EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 - what a person may type
_GRACE_SECONDS = 3


def serve(
    context: typer.Context,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own asks for a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8321,
    name: Annotated[
        list[str] | None, typer.Option("--name", help="Name by which browsers ask for this page, with another --host.")
    ] = None,
    model: Annotated[
        list[Path] | None, typer.Option("--model", help="A model file to look with, beside the agent's own.")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="For whoever comes by: one --model, nothing of this hospital, no token.")
    ] = False,
    ask: Annotated[
        bool, typer.Option("--token", help="Ask for the token here too: other people have accounts on this machine.")
    ] = False,
    home: HomeOption = None,
) -> None:
    """A page of this site: what the agent does, and what a study's model sees in a scan. Nothing leaves."""
    import uvicorn

    from participant.diagnosis.models import given_file
    from participant.web.app import create_app
    from participant.web.security import LOOPBACK
    from participant.web.settings import Page

    names = {each.lower() for each in name or []}
    if host in _EVERYWHERE and not names:
        end(f"With --host {host}, say by which name browsers ask for this page: --name pleura.hospital.example")
    if public and len(model or []) != 1:
        end("A public page shows one released model: name its file with --model.")
    with explained():
        place = None if public else home_of(context, home)
        config = None if place is None else place.load_config()
        token = None if place is None or (this_machine(host) and not ask) else _token(place)
        page = Page(
            place,
            [given_file(file) for file in model or []],
            token=token,
            archive=None if place is None or config is None else _archive(place, config),
            device="auto" if config is None else config.device,
        )
        app = create_app(page, LOOPBACK | names | ({host} - set(_EVERYWHERE)))
        line(f"The page is at http://{f'[{host}]' if ':' in host else host}:{port}, until Ctrl-C.")
        if token is not None and place is not None:
            line(f"It asks for the token in {place.page_token}.")
        if not this_machine(host):
            line("Put a proxy with TLS in front of it: scans are sent to this address.")
        uvicorn.run(
            app, host=host, port=port, log_level="warning", access_log=False, server_header=False,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )  # fmt: skip


def _archive(place: Home, config: Config) -> Archive | None:
    from participant.diagnosis.archive import Archive

    if config.pacs is None:
        return None
    return Archive(config.pacs, ca_file_of(place, config), plain_http=config.plain_http)


def _token(place: Home) -> str:
    """The one of this folder; made when it is first needed."""
    if not place.page_token.is_file():
        write_whole(place.page_token, secrets.token_urlsafe(24).encode() + b"\n")
    return place.page_token.read_text().strip()
