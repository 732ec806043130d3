"""The database's revisions (alembic): append-only, part of the package, run when the coordinator starts."""

from migrations.runner import check, current, downgrade, revisions, upgrade

__all__ = ["check", "current", "downgrade", "revisions", "upgrade"]
