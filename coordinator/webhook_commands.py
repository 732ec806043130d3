"""`pleura-coordinator webhook`: who is told when a round or a study ends."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

import typer
from sqlalchemy.orm import Session

from coordinator.api.webhooks import Webhook, WebhookWish, register
from coordinator.store import webhooks
from coordinator.terminal import AsJson, ConfigFile, DataDir, actor, err, opened, print_json, print_table

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # they may hold the secret
    help="Tell other services when a round or a study ends.",
)


@app.command("add")
def webhook_add(
    url: Annotated[str, typer.Argument(help="https, at a public address.")],
    event: Annotated[
        list[str] | None, typer.Option(help=f"One of {', '.join(webhooks.EVENTS)}; may be repeated. Else all.")
    ] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
    as_json: AsJson = False,
) -> None:
    """Tell an address of events from now on. The secret that signs what is sent is shown this once."""
    wish = {"url": url, "events": event or list(webhooks.EVENTS)}
    with opened(data_dir, config) as services:
        made = register(services, WebhookWish.model_validate(wish), actor())
    if as_json:
        print_json(made.model_dump(mode="json"))
        return
    err.print(f"Webhook {made.id} is told of: {', '.join(made.events)}. Its secret, shown this once:", markup=False)
    print(made.secret)


@app.command("list")
def webhook_list(data_dir: DataDir = None, config: ConfigFile = None, as_json: AsJson = False) -> None:
    """All webhooks, with what is on its way to them and what was given up."""

    def look(session: Session) -> list[Webhook]:
        return [Webhook.of(session, row) for row in webhooks.everyone(session)]

    with opened(data_dir, config) as services:
        found = services.store.read("webhooks", look)
    if as_json:
        print_json([webhook.model_dump(mode="json") for webhook in found])
        return
    print_table(
        ("id", "address", "events", "waiting", "given up"),
        ((str(w.id), w.url, ", ".join(w.events), str(w.waiting), str(w.given_up)) for w in found),
    )


@app.command("remove")
def webhook_remove(
    webhook: Annotated[UUID, typer.Argument(help="Its id, as `webhook list` shows it.")],
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Tell an address nothing any more; what was on its way is dropped."""
    with opened(data_dir, config) as services:
        now = services.clock.now()
        services.store.run("remove webhook", lambda session: webhooks.remove(session, webhook, actor(), now))
    err.print(f"The webhook {webhook} is told nothing any more.")
