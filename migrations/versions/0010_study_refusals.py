"""What sites have against a whole study, which they do not join."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "study_refusals",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_study_refusals_study_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_study_refusals_site_id")),
        sa.PrimaryKeyConstraint("study_id", "site_id", name=op.f("pk_study_refusals")),
    )


def downgrade() -> None:
    op.drop_table("study_refusals")
