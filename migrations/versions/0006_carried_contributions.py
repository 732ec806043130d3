"""Why a site that left a study does not count there any more, where leavers do."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("memberships", sa.Column("not_carried", sa.Text(), nullable=True))


def downgrade() -> None:
    op.drop_column("memberships", "not_carried")
