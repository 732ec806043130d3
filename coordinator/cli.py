"""`pleura-coordinator`: serve, and what an operator does on the server itself, without a token.

Commands work on the database with the functions that the API uses. Exit codes: 1 where something was refused, 2 where
the command line or the settings are wrong.
"""

from __future__ import annotations

import shlex
import threading
from types import FrameType
from typing import Annotated, Final

import typer
import uvicorn
from sqlalchemy.orm import Session

from coordinator import backup_commands, logs, operator_commands, study_commands, webhook_commands
from coordinator.api.values import Site
from coordinator.app import create_app
from coordinator.store import audit, invitations, sites, tables
from coordinator.store.instance import check_blobs
from coordinator.terminal import AsJson, ConfigFile, DataDir, actor, err, moment, opened, out, print_json

# Proxies keep idle connections for up to 60 s (nginx, most load balancers; docker/Caddyfile is set to it): one that we
# close just as a call comes in on it is a call that fails, so theirs have to end first.
KEEP_ALIVE_SECONDS: Final = 75
_GRACE_SECONDS: Final = 3  # a waiting agent asks again by itself

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_show_locals=False,  # they may hold tokens
    help="The coordinator of a Pleura federation.",
)
site_app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
    help="Refuse a site's calls, admit them again, or let it take new keys.",
)
audit_app = typer.Typer(no_args_is_help=True, pretty_exceptions_show_locals=False, help="The hash-chained log.")
for name, group in {
    "operator": operator_commands.app,
    "study": study_commands.app,
    "site": site_app,
    "audit": audit_app,
    "webhook": webhook_commands.app,
}.items():
    app.add_typer(group, name=name)


for command in (
    backup_commands.backup,
    backup_commands.restore,
    backup_commands.migrate,
    backup_commands.disk,
):
    app.command()(command)


class _Server(uvicorn.Server):
    """Answers waiting agents before it goes: they would hold it up, and be cut off in the end."""

    def __init__(self, config: uvicorn.Config, stopping: threading.Event) -> None:
        super().__init__(config)
        self._stopping = stopping

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._stopping.set()
        super().handle_exit(sig, frame)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Bring the database up to date, conduct rounds and answer over HTTP."""
    with opened(data_dir, config, host=host, port=port) as services:
        settings = services.settings
        check_blobs(services.store, services.blobs)
        logs.configure(settings.log_level, settings.log_format)
        err.print(f"Pleura coordinator {services.coordinator} at http://{settings.host}:{settings.port}")
        server = uvicorn.Config(
            create_app(services, conduct=True),
            host=settings.host,
            port=settings.port,
            log_config=None,
            server_header=False,
            forwarded_allow_ips=settings.trusted_proxies or None,  # None: as FORWARDED_ALLOW_IPS says
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        _Server(server, services.stopping).run()


@app.command()
def invite(
    note: Annotated[str, typer.Option(help="Whom it is for.")] = "",
    hours: Annotated[float, typer.Option(min=0.01, help="How long it is good.")] = 72,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make an invitation for one site. It is shown this once."""
    with opened(data_dir, config) as services:
        now = services.clock.now()
        invitation, expires = services.store.run(
            "invite", lambda session: invitations.create(session, note, hours, actor(), now)
        )
    if as_json:
        print_json({"invitation": invitation, "expires": expires})
    else:
        err.print(f"Invitation for one site, good until {moment(expires)} UTC, shown this once:")
        print(invitation)


@app.command("sites")
def list_sites(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """All enrolled sites, with the words to compare by telephone."""
    with opened(data_dir, config) as services:
        found = [Site.of(row) for row in services.store.read("sites", sites.everyone)]
    if as_json:
        print_json([site.model_dump(mode="json") for site in found])
        return
    for site in found:  # no table: the words are compared by telephone and must not be cut
        out.print(f"{site.name}: {site.state}, last seen {moment(site.last_seen)} UTC", markup=False)
        out.print(f"  {site.words}\n  {site.id}")


@site_app.command("suspend")
def site_suspend(name: str, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Refuse all calls of a site from now on; its studies get new keys."""
    _suspend(name, True, data_dir, config)


@site_app.command("readmit")
def site_readmit(name: str, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Admit a suspended site again."""
    _suspend(name, False, data_dir, config)


@site_app.command("reinvite")
def site_reinvite(
    name: Annotated[str, typer.Argument(metavar="SITE", help="Its name or id.")],
    hours: Annotated[float, typer.Option(min=0.01, help="How long the invitation is good.")] = 72,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Let a site that lost its keys enrol again with new ones. The invitation is shown this once."""

    def renew(session: Session) -> tuple[tables.Site, str, float]:
        site = sites.by_reference(session, name)
        return site, *invitations.renew(session, site, hours, actor(), services.clock.now())

    with opened(data_dir, config) as services:
        site, invitation, expires = services.store.run("reinvite site", renew)
    if as_json:
        print_json({"site": str(site.id), "name": site.name, "invitation": invitation, "expires": expires})
        return
    err.print(
        f"When it is used, the present keys of {site.name} are refused at once, its studies get new keys, and every "
        f"peer has to approve it anew. In a fresh home folder, at that hospital only:\n"
        f"  pleura-participant init --name {shlex.quote(site.name)} ...\n"
        "  pleura-participant enrol INVITATION\n"
        f"Invitation for {site.name} to enrol again, good until {moment(expires)} UTC, shown this once:",
        markup=False,
    )
    print(invitation)


def _suspend(name: str, suspended: bool, data_dir: DataDir, config: ConfigFile) -> None:
    with opened(data_dir, config) as services:
        now = services.clock.now()
        site = services.store.run(
            "suspend site", lambda session: sites.set_suspended(session, name, suspended, actor(), now)
        )
    err.print(f"{site.name} is {site.state}{'; its studies get new keys' if suspended else ''}.", markup=False)


@audit_app.command("verify")
def audit_verify(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Check the chain of hashes from the first row to the last."""
    with opened(data_dir, config) as services:
        rows = services.store.read("verify audit", audit.verify)
    err.print(f"{rows} rows, one unbroken chain.")
