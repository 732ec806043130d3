"""`pleura-coordinator operator ...`: people and scripts that may steer or read over HTTP."""

from __future__ import annotations

from typing import Annotated

import typer

from coordinator.store import operators, tables
from coordinator.terminal import AsJson, ConfigFile, DataDir, actor, err, moment, opened, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold tokens
    help="People who may steer or read over HTTP.",
)
Name = Annotated[str, typer.Argument(help="Letters, digits, spaces and . @ + - _")]
Days = Annotated[float, typer.Option(min=0.01, max=operators.LONGEST_DAYS, help="How long the token is good.")]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="operator (all) or auditor (reads).")] = "operator",
    days: Days = operators.DAYS,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a token. It is shown this once; only its hash is kept."""
    if role not in ("operator", "auditor"):
        raise typer.BadParameter("a role is operator or auditor", param_hint="--role")
    checked: tables.Role = "operator" if role == "operator" else "auditor"
    with opened(data_dir, config) as services:
        now = services.clock.now()
        expires = now + days * operators.DAY
        token = services.store.run(
            "add operator", lambda session: operators.add(session, name, checked, actor(), now, expires)
        )
    if as_json:
        print_json({"name": name, "role": role, "token": token, "expires": expires})
    else:
        _show(token, f"{name} ({role})", expires)


@app.command()
def renew(
    name: Name,
    days: Days = operators.DAYS,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Make a new token in place of an operator's former one, which is refused at once, as are logins with it."""
    with opened(data_dir, config) as services:
        now = services.clock.now()
        expires = now + days * operators.DAY
        token = services.store.run(
            "renew operator", lambda session: operators.renew(session, name, actor(), now, expires)
        )
    if as_json:
        print_json({"name": name, "token": token, "expires": expires})
    else:
        _show(token, name, expires)


@app.command()
def revoke(name: Name, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Make an operator's token good for nothing, and end every login with it. The name may be added again."""
    with opened(data_dir, config) as services:
        now = services.clock.now()
        services.store.run("revoke operator", lambda session: operators.revoke(session, name, actor(), now))
    err.print(f"The token of {name} is revoked.", markup=False)


@app.command("list")
def show(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """All operators and auditors, and until when their tokens are good."""
    with opened(data_dir, config) as services:
        now, rows = services.clock.now(), services.store.read("operators", operators.everyone)
    if as_json:
        print_json([_described(row, now) for row in rows])
        return
    print_table(
        ("name", "role", "token", "made", "good (UTC)"),
        (
            (
                row.name,
                row.role,
                operators.standing(row, now),
                moment(row.created),
                f"until {moment(row.expires)}" if row.expires is not None else "until it is revoked",
            )
            for row in rows
        ),
    )


def _described(row: tables.Operator, now: float) -> dict[str, object]:
    return {
        "name": row.name,
        "role": row.role,
        "standing": operators.standing(row, now),
        "created": row.created,
        "expires": row.expires,
        "revoked": row.revoked,
    }


def _show(token: str, whose: str, expires: float) -> None:
    err.print(f"Token of {whose}, good until {moment(expires)} UTC, shown this once:", markup=False)
    print(token)
