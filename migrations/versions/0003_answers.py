"""What several members answer together: trials of shares, outcomes, spot checks, models sealed between members."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_KINDS = "kind IN ('body', 'key', 'opened', 'sealed')"
_FORMER_KINDS = "kind IN ('body', 'key')"


def upgrade() -> None:
    op.add_column("rounds", sa.Column("tried", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("rounds", sa.Column("trouble", sa.Text(), nullable=True))
    _admit_parts(_KINDS)
    _create_answers("outcomes")
    _create_answers("spot_checks")
    op.create_table(
        "model_requests",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("asked", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["model"], ["models.digest"], name=op.f("fk_model_requests_model")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_model_requests_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_model_requests_study_id")),
        sa.PrimaryKeyConstraint("study_id", "model", "site_id", name=op.f("pk_model_requests")),
    )
    op.create_table(
        "sealed_models",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("recipient", sa.Uuid(), nullable=False),
        sa.Column("holder", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["holder"], ["sites.id"], name=op.f("fk_sealed_models_holder")),
        sa.ForeignKeyConstraint(["model"], ["models.digest"], name=op.f("fk_sealed_models_model")),
        sa.ForeignKeyConstraint(["recipient"], ["sites.id"], name=op.f("fk_sealed_models_recipient")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_sealed_models_study_id")),
        sa.PrimaryKeyConstraint("study_id", "model", "recipient", "holder", name=op.f("pk_sealed_models")),
    )


def downgrade() -> None:
    for table in ("sealed_models", "model_requests", "spot_checks", "outcomes"):
        op.drop_table(table)
    op.execute("DELETE FROM parts WHERE kind NOT IN ('body', 'key')")
    _admit_parts(_FORMER_KINDS)
    op.drop_column("rounds", "trouble")
    op.drop_column("rounds", "tried")


def _admit_parts(kinds: str) -> None:
    """Nothing refers to parts, so that SQLite may make the table anew."""
    with op.batch_alter_table("parts") as batch:
        batch.drop_constraint(op.f("ck_parts_kind"), type_="check")
        batch.create_check_constraint(op.f("ck_parts_kind"), kinds)


def _create_answers(table: str) -> None:
    op.create_table(
        table,
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f(f"fk_{table}_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f(f"fk_{table}_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", name=op.f(f"pk_{table}")),
    )
