"""What single sites say of a round's base model, where their policies allow it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "site_evaluations",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.Column("derived", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_site_evaluations_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_site_evaluations_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", name=op.f("pk_site_evaluations")),
    )


def downgrade() -> None:
    op.drop_table("site_evaluations")
