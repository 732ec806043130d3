"""Every table, and the states that the database itself refuses.

Times are Unix seconds. Digests are SHA-256 in hex. Messages of the protocol are kept as the JSON they were received
as (`Signed[X].to_json()`); what counts about them is re-encoded canonically, so a database may reorder keys.
"""

from __future__ import annotations

from coordinator.store.tables.access import Chore, Instance, Invitation, Login, Operator, SeenToken, Site
from coordinator.store.tables.base import (
    ACTIVE_ROUND,
    UNSWEPT,
    Base,
    Digest,
    Json,
    Moment,
    PartKind,
    RefusalStep,
    Role,
    RoundKind,
    RoundState,
    SiteState,
    Size,
    StudyState,
)
from coordinator.store.tables.records import Audit, Delivery, Webhook
from coordinator.store.tables.rounds import (
    Contribution,
    Metrics,
    Opening,
    Outcome,
    Part,
    Refusal,
    Round,
    SiteEvaluation,
    SpotCheck,
    Vote,
)
from coordinator.store.tables.studies import (
    Approval,
    Epoch,
    KeyBlob,
    Membership,
    Model,
    ModelRequest,
    SealedModel,
    Study,
    StudyRefusal,
    WrapAddition,
)

__all__ = [
    "ACTIVE_ROUND",
    "UNSWEPT",
    "Approval",
    "Audit",
    "Base",
    "Chore",
    "Contribution",
    "Delivery",
    "Digest",
    "Epoch",
    "Instance",
    "Invitation",
    "Json",
    "KeyBlob",
    "Login",
    "Membership",
    "Metrics",
    "Model",
    "ModelRequest",
    "Moment",
    "Opening",
    "Operator",
    "Outcome",
    "Part",
    "PartKind",
    "Refusal",
    "RefusalStep",
    "Role",
    "Round",
    "RoundKind",
    "RoundState",
    "SealedModel",
    "SeenToken",
    "Site",
    "SiteEvaluation",
    "SiteState",
    "Size",
    "SpotCheck",
    "Study",
    "StudyRefusal",
    "StudyState",
    "Vote",
    "Webhook",
    "WrapAddition",
]
