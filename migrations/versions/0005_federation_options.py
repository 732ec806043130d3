"""Dynamic weights, studies that end early, and what a server optimiser remembers of a round."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_WEIGHTING = "weighting IN ('samples', 'equal', 'dynamic')"
_FINISHED = "state <> 'finished' OR completed = rounds OR reason IS NOT NULL"
_FORMER_WEIGHTING = "weighting IN ('samples', 'equal')"
_FORMER_FINISHED = "state <> 'finished' OR completed = rounds"


def upgrade() -> None:
    op.add_column("rounds", sa.Column("server_state", sa.String(length=64), nullable=True))
    _check_studies(_WEIGHTING, _FINISHED)


def downgrade() -> None:
    """Studies that could not have been stay, as what comes nearest: nothing of them is lost but their settings."""
    op.execute("UPDATE studies SET weighting = 'samples' WHERE weighting = 'dynamic'")
    op.execute("UPDATE studies SET state = 'stopped' WHERE state = 'finished' AND completed < rounds")
    _check_studies(_FORMER_WEIGHTING, _FORMER_FINISHED)
    op.drop_column("rounds", "server_state")


def _check_studies(weighting: str, finished: str) -> None:
    with op.batch_alter_table("studies") as batch:
        for name, condition in (("weighting", weighting), ("finished", finished)):
            batch.drop_constraint(op.f(f"ck_studies_{name}"), type_="check")
            batch.create_check_constraint(op.f(f"ck_studies_{name}"), condition)
