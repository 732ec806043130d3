"""Read by alembic, which hands in the connection that `migrations.runner` opened."""

from __future__ import annotations

from alembic import context

from coordinator.store.tables import Base

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=Base.metadata,
    compare_type=True,
    compare_server_default=True,
    render_as_batch=connection.dialect.name == "sqlite",  # which alters a table by making it anew
)
with context.begin_transaction():
    context.run_migrations()
