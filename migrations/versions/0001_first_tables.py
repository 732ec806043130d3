"""First tables."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", sa.Double(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("previous", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_audit_seq")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
        sa.UniqueConstraint("hash", name=op.f("uq_audit_hash")),
        sa.UniqueConstraint("previous", name=op.f("uq_audit_previous")),
    )
    op.create_table(
        "instance",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("coordinator", sa.Uuid(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_instance_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_instance")),
    )
    op.create_table(
        "models",
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("layout_digest", sa.String(length=64), nullable=False),
        sa.Column("recipe_digest", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=True),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.CheckConstraint(
            "(study_id IS NULL) = (round IS NULL) AND (study_id IS NULL) = (parent IS NULL)",
            name=op.f("ck_models_made_by_a_round"),
        ),
        sa.CheckConstraint("size > 0", name=op.f("ck_models_size")),
        sa.ForeignKeyConstraint(["parent"], ["models.digest"], name=op.f("fk_models_parent")),
        sa.PrimaryKeyConstraint("digest", name=op.f("pk_models")),
    )
    op.create_table(
        "operators",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("token_hash", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=True),
        sa.Column("revoked", sa.Double(), nullable=True),
        sa.CheckConstraint("role IN ('operator', 'auditor')", name=op.f("ck_operators_role")),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_operators")),
        sa.UniqueConstraint("token_hash", name=op.f("uq_operators_token_hash")),
    )
    op.create_table(
        "sites",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("signing_key", sa.Text(), nullable=False),
        sa.Column("hpke_key", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("enrolled", sa.Double(), nullable=False),
        sa.Column("last_seen", sa.Double(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.CheckConstraint("state IN ('active', 'suspended')", name=op.f("ck_sites_state")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sites")),
        sa.UniqueConstraint("fingerprint", name=op.f("uq_sites_fingerprint")),
        sa.UniqueConstraint("hpke_key", name=op.f("uq_sites_hpke_key")),
        sa.UniqueConstraint("name", name=op.f("uq_sites_name")),
        sa.UniqueConstraint("signing_key", name=op.f("uq_sites_signing_key")),
    )
    op.create_table(
        "invitations",
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.Column("used_by", sa.Uuid(), nullable=True),
        sa.ForeignKeyConstraint(["used_by"], ["sites.id"], name=op.f("fk_invitations_used_by")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_invitations")),
        sa.UniqueConstraint("used_by", name=op.f("uq_invitations_used_by")),
    )
    op.create_table(
        "seen_tokens",
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("jti", sa.Text(), nullable=False),
        sa.Column("expires", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_seen_tokens_site_id")),
        sa.PrimaryKeyConstraint("site_id", "jti", name=op.f("pk_seen_tokens")),
    )
    op.create_index(op.f("ix_seen_tokens_expires"), "seen_tokens", ["expires"], unique=False)
    op.create_table(
        "studies",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("scheme", sa.String(length=16), nullable=False),
        sa.Column("release", sa.String(length=16), nullable=False),
        sa.Column("weighting", sa.String(length=16), nullable=False),
        sa.Column("minimum_contributors", sa.Integer(), nullable=False),
        sa.Column("expected_sites", sa.Integer(), nullable=True),
        sa.Column("rounds", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("losses", sa.Integer(), nullable=False),
        sa.Column("collect_seconds", sa.Integer(), nullable=False),
        sa.Column("vote_seconds", sa.Integer(), nullable=False),
        sa.Column("open_seconds", sa.Integer(), nullable=False),
        sa.Column("k_max", sa.Integer(), nullable=False),
        sa.Column("n_max", sa.Integer(), nullable=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("recipe", sa.JSON(), nullable=False),
        sa.Column("recipe_digest", sa.String(length=64), nullable=False),
        sa.Column("layout", sa.JSON(), nullable=False),
        sa.Column("layout_digest", sa.String(length=64), nullable=False),
        sa.Column("bounds", sa.JSON(), nullable=False),
        sa.Column("first_model", sa.String(length=64), nullable=False),
        sa.Column("current_model", sa.String(length=64), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.CheckConstraint("release IN ('open', 'members')", name=op.f("ck_studies_release")),
        sa.CheckConstraint("scheme IN ('lwe-ckks', 'lwe-shamir', 'ckks')", name=op.f("ck_studies_scheme")),
        sa.CheckConstraint("state <> 'finished' OR completed = rounds", name=op.f("ck_studies_finished")),
        sa.CheckConstraint(
            "state IN ('draft', 'running', 'paused', 'finished', 'stopped')", name=op.f("ck_studies_state")
        ),
        sa.CheckConstraint("weighting IN ('samples', 'equal')", name=op.f("ck_studies_weighting")),
        sa.CheckConstraint(
            "collect_seconds > 0 AND vote_seconds > 0 AND open_seconds > 0", name=op.f("ck_studies_seconds")
        ),
        sa.CheckConstraint(
            "expected_sites IS NULL OR expected_sites BETWEEN minimum_contributors AND k_max",
            name=op.f("ck_studies_expected_sites"),
        ),
        sa.CheckConstraint("fraction > 0 AND fraction <= 1", name=op.f("ck_studies_fraction")),
        sa.CheckConstraint("k_max BETWEEN 2 AND 1024 AND n_max BETWEEN 1 AND 16777215", name=op.f("ck_studies_limits")),
        sa.CheckConstraint("losses >= 0", name=op.f("ck_studies_losses")),
        sa.CheckConstraint("minimum_contributors BETWEEN 2 AND k_max", name=op.f("ck_studies_minimum")),
        sa.CheckConstraint("rounds >= 1 AND completed BETWEEN 0 AND rounds", name=op.f("ck_studies_rounds")),
        sa.ForeignKeyConstraint(["current_model"], ["models.digest"], name=op.f("fk_studies_current_model")),
        sa.ForeignKeyConstraint(["first_model"], ["models.digest"], name=op.f("fk_studies_first_model")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_studies")),
        sa.UniqueConstraint("name", name=op.f("uq_studies_name")),
    )
    op.create_table(
        "approvals",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_approvals_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_approvals_study_id")),
        sa.PrimaryKeyConstraint("study_id", "site_id", name=op.f("pk_approvals")),
    )
    op.create_table(
        "epochs",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("record", sa.JSON(), nullable=False),
        sa.Column("record_digest", sa.String(length=64), nullable=False),
        sa.Column("context_digest", sa.String(length=64), nullable=False),
        sa.Column("dealer", sa.Uuid(), nullable=False),
        sa.Column("created", sa.Double(), nullable=False),
        sa.Column("retired", sa.Double(), nullable=True),
        sa.CheckConstraint("number >= 1", name=op.f("ck_epochs_number")),
        sa.ForeignKeyConstraint(["dealer"], ["sites.id"], name=op.f("fk_epochs_dealer")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_epochs_study_id")),
        sa.PrimaryKeyConstraint("study_id", "number", name=op.f("pk_epochs")),
        sa.UniqueConstraint("record_digest", name=op.f("uq_epochs_record_digest")),
    )
    op.create_table(
        "key_blobs",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("stored", sa.Double(), nullable=False),
        sa.CheckConstraint("size > 0", name=op.f("ck_key_blobs_size")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_key_blobs_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_key_blobs_study_id")),
        sa.PrimaryKeyConstraint("study_id", "sha256", name=op.f("pk_key_blobs")),
    )
    op.create_table(
        "memberships",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("index", sa.Integer(), nullable=False),
        sa.Column("joined", sa.Double(), nullable=False),
        sa.Column("left", sa.Double(), nullable=True),
        sa.CheckConstraint('"index" >= 1', name=op.f("ck_memberships_index")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_memberships_site_id")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_memberships_study_id")),
        sa.PrimaryKeyConstraint("study_id", "site_id", name=op.f("pk_memberships")),
        sa.UniqueConstraint("study_id", "index", name=op.f("uq_memberships_study_id_index")),
    )
    op.create_index(op.f("ix_memberships_site_id"), "memberships", ["site_id"], unique=False)
    op.create_table(
        "rounds",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("plan", sa.JSON(), nullable=False),
        sa.Column("plan_digest", sa.String(length=64), nullable=False),
        sa.Column("roster", sa.JSON(), nullable=False),
        sa.Column("base_model", sa.String(length=64), nullable=False),
        sa.Column("ballot", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("ballot_digest", sa.String(length=64), nullable=True),
        sa.Column("openers", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("model", sa.String(length=64), nullable=True),
        sa.Column("started", sa.Double(), nullable=False),
        sa.Column("closed", sa.Double(), nullable=True),
        sa.Column("opened", sa.Double(), nullable=True),
        sa.Column("ended", sa.Double(), nullable=True),
        sa.Column("add_seconds", sa.Double(), nullable=True),
        sa.Column("open_seconds", sa.Double(), nullable=True),
        sa.Column("swept", sa.Double(), nullable=True),
        sa.Column("due", sa.Double(), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires", sa.Double(), nullable=True),
        sa.Column("lease_attempts", sa.Integer(), nullable=False),
        sa.CheckConstraint("(state = 'complete') = (model IS NOT NULL)", name=op.f("ck_rounds_complete")),
        sa.CheckConstraint("(state = 'failed') = (reason IS NOT NULL)", name=op.f("ck_rounds_failed")),
        sa.CheckConstraint("(state IN ('complete', 'failed')) = (ended IS NOT NULL)", name=op.f("ck_rounds_ended")),
        sa.CheckConstraint(
            "kind <> 'evaluation' OR model IS NULL OR model = base_model", name=op.f("ck_rounds_evaluation")
        ),
        sa.CheckConstraint("kind IN ('training', 'evaluation')", name=op.f("ck_rounds_kind")),
        sa.CheckConstraint(
            "state <> 'aggregating' OR (closed IS NOT NULL AND opened IS NULL)", name=op.f("ck_rounds_aggregating")
        ),
        sa.CheckConstraint(
            "state <> 'collecting' OR (closed IS NULL AND opened IS NULL)", name=op.f("ck_rounds_collecting")
        ),
        sa.CheckConstraint(
            "state IN ('collecting', 'aggregating', 'opening', 'complete', 'failed')", name=op.f("ck_rounds_state")
        ),
        sa.CheckConstraint(
            "state NOT IN ('opening', 'complete') OR (closed IS NOT NULL AND opened IS NOT NULL)",
            name=op.f("ck_rounds_opening"),
        ),
        sa.CheckConstraint(
            "(ballot IS NULL) = (ballot_digest IS NULL) AND (ballot IS NULL) = (closed IS NULL)",
            name=op.f("ck_rounds_ballot"),
        ),
        sa.CheckConstraint(
            "(lease_owner IS NULL) = (lease_token IS NULL) AND (lease_owner IS NULL) = (lease_expires IS NULL)",
            name=op.f("ck_rounds_lease"),
        ),
        sa.CheckConstraint("number >= 1 AND attempt >= 1 AND lease_attempts >= 0", name=op.f("ck_rounds_numbers")),
        sa.CheckConstraint("opened IS NULL OR closed IS NOT NULL", name=op.f("ck_rounds_order")),
        sa.CheckConstraint("swept IS NULL OR ended IS NOT NULL", name=op.f("ck_rounds_swept")),
        sa.ForeignKeyConstraint(["base_model"], ["models.digest"], name=op.f("fk_rounds_base_model")),
        sa.ForeignKeyConstraint(["model"], ["models.digest"], name=op.f("fk_rounds_model")),
        sa.ForeignKeyConstraint(["study_id"], ["studies.id"], name=op.f("fk_rounds_study_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rounds")),
        sa.UniqueConstraint("plan_digest", name=op.f("uq_rounds_plan_digest")),
        sa.UniqueConstraint("study_id", "number", "attempt", name=op.f("uq_rounds_study_id_number_attempt")),
    )
    op.create_index(op.f("ix_rounds_ballot_digest"), "rounds", ["ballot_digest"], unique=False)
    op.create_index(
        "one_active_round",
        "rounds",
        ["study_id"],
        unique=True,
        sqlite_where=sa.text("state IN ('collecting', 'aggregating', 'opening')"),
        postgresql_where=sa.text("state IN ('collecting', 'aggregating', 'opening')"),
    )
    op.create_index(
        "unswept_rounds",
        "rounds",
        ["study_id"],
        unique=False,
        sqlite_where=sa.text("swept IS NULL"),
        postgresql_where=sa.text("swept IS NULL"),
    )
    op.create_table(
        "contributions",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("manifest", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("completed", sa.Double(), nullable=True),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("(completed IS NULL) = (manifest IS NULL)", name=op.f("ck_contributions_completed")),
        sa.CheckConstraint("received >= 0", name=op.f("ck_contributions_received")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_contributions_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_contributions_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", name=op.f("pk_contributions")),
    )
    op.create_table(
        "metrics",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("counts", sa.JSON(), nullable=False),
        sa.Column("derived", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_metrics_round_id")),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_metrics")),
    )
    op.create_table(
        "openings",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.Column("rejection", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_openings_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_openings_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", name=op.f("pk_openings")),
    )
    op.create_table(
        "parts",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("kind IN ('body', 'key')", name=op.f("ck_parts_kind")),
        sa.CheckConstraint("number >= 0", name=op.f("ck_parts_number")),
        sa.CheckConstraint("size > 0", name=op.f("ck_parts_size")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_parts_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_parts_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", "kind", "number", name=op.f("pk_parts")),
    )
    op.create_table(
        "refusals",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("step", sa.String(length=16), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.CheckConstraint("step IN ('plan', 'ballot', 'opening')", name=op.f("ck_refusals_step")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_refusals_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_refusals_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", "step", name=op.f("pk_refusals")),
    )
    op.create_table(
        "votes",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_votes_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_votes_site_id")),
        sa.PrimaryKeyConstraint("round_id", "site_id", name=op.f("pk_votes")),
    )
    op.create_table(
        "wrap_additions",
        sa.Column("study_id", sa.Uuid(), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("recipient", sa.Uuid(), nullable=False),
        sa.Column("signed", sa.JSON(), nullable=False),
        sa.Column("received", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["recipient"], ["sites.id"], name=op.f("fk_wrap_additions_recipient")),
        sa.ForeignKeyConstraint(
            ["study_id", "epoch"], ["epochs.study_id", "epochs.number"], name=op.f("fk_wrap_additions_study_id_epoch")
        ),
        sa.PrimaryKeyConstraint("study_id", "epoch", "recipient", name=op.f("pk_wrap_additions")),
    )


def downgrade() -> None:
    op.drop_table("wrap_additions")
    op.drop_table("votes")
    op.drop_table("refusals")
    op.drop_table("parts")
    op.drop_table("openings")
    op.drop_table("metrics")
    op.drop_table("contributions")
    op.drop_index(
        "unswept_rounds", "rounds", sqlite_where=sa.text("swept IS NULL"), postgresql_where=sa.text("swept IS NULL")
    )
    op.drop_index(
        "one_active_round",
        "rounds",
        sqlite_where=sa.text("state IN ('collecting', 'aggregating', 'opening')"),
        postgresql_where=sa.text("state IN ('collecting', 'aggregating', 'opening')"),
    )
    op.drop_index(op.f("ix_rounds_ballot_digest"), "rounds")
    op.drop_table("rounds")
    op.drop_index(op.f("ix_memberships_site_id"), "memberships")
    op.drop_table("memberships")
    op.drop_table("key_blobs")
    op.drop_table("epochs")
    op.drop_table("approvals")
    op.drop_table("studies")
    op.drop_index(op.f("ix_seen_tokens_expires"), "seen_tokens")
    op.drop_table("seen_tokens")
    op.drop_table("invitations")
    op.drop_table("sites")
    op.drop_table("operators")
    op.drop_table("models")
    op.drop_table("instance")
    op.drop_table("audit")
