"""Invitations that renew a site's keys; wraps of one key from several holders."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("invitations") as batch:
        batch.drop_constraint(op.f("uq_invitations_used_by"), type_="unique")
        batch.add_column(sa.Column("renews", sa.Uuid(), nullable=True))
        batch.create_foreign_key(op.f("fk_invitations_renews"), "sites", ["renews"], ["id"])
    rows = _taken_out()
    _put_back([{**row, "holder": UUID(row["signed"]["message"]["holder"])} for row in rows], by_holder=True)


def downgrade() -> None:
    """Of several wraps for one newcomer the first stays; invitations that renewed a site are forgotten."""
    wraps = [row for row in _taken_out() if UUID(row["signed"]["message"]["holder"]) != row["recipient"]]
    rows = sorted(wraps, key=lambda row: float(row["received"]), reverse=True)
    _put_back(list({(row["study_id"], row["epoch"], row["recipient"]): row for row in rows}.values()), by_holder=False)
    op.execute("DELETE FROM invitations WHERE renews IS NOT NULL")
    with op.batch_alter_table("invitations") as batch:
        batch.drop_constraint(op.f("fk_invitations_renews"), type_="foreignkey")
        batch.drop_column("renews")
        batch.create_unique_constraint(op.f("uq_invitations_used_by"), ["used_by"])


def _taken_out() -> list[dict[str, Any]]:
    """The wraps, as this table's former form holds them; the table is gone."""
    table = sa.table("wrap_additions", *_columns(by_holder=False))
    rows = [dict(row) for row in op.get_bind().execute(sa.select(table)).mappings()]
    op.drop_table("wrap_additions")
    return rows


def _put_back(rows: list[dict[str, Any]], *, by_holder: bool) -> None:
    """A new table, with one wrap a recipient or one a recipient and holder."""
    columns = _columns(by_holder=by_holder)
    key = [column.name for column in columns if column.name not in ("signed", "received")]
    constraints = [
        sa.ForeignKeyConstraint([site], ["sites.id"], name=op.f(f"fk_wrap_additions_{site}"))
        for site in ("recipient", "holder")
        if site in key
    ]
    table = op.create_table(
        "wrap_additions",
        *columns,
        *constraints,
        sa.ForeignKeyConstraint(
            ["study_id", "epoch"], ["epochs.study_id", "epochs.number"], name=op.f("fk_wrap_additions_study_id_epoch")
        ),
        sa.PrimaryKeyConstraint(*key, name=op.f("pk_wrap_additions")),
    )
    op.bulk_insert(table, rows)


def _columns(*, by_holder: bool) -> list[sa.Column[Any]]:
    names = ["study_id", "epoch", "recipient", *(["holder"] if by_holder else []), "signed", "received"]
    kinds: dict[str, Any] = {"epoch": sa.Integer(), "signed": sa.JSON(), "received": sa.Double()}
    return [sa.Column(name, kinds.get(name, sa.Uuid()), nullable=False) for name in names]
