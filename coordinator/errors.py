"""What the coordinator answers no to, as types that callers may tell apart.

    CoordinatorError
    ├── Unauthenticated         who is calling is not established
    │   ├── TokenMissing        no bearer token
    │   ├── TokenInvalid        unreadable, unknown, or signed by another key
    │   ├── TokenExpired        outside its lifetime, or with one longer than 60 s
    │   └── TokenReplayed       a site's token that was used before
    ├── Forbidden               the caller is known and may not
    │   ├── RoleMissing         a site where an operator is needed, an auditor where an operator is, ...
    │   ├── SiteSuspended       the operator suspended this site
    │   ├── NotAMember          the site did not join the study, or is not on the plan's roster
    │   ├── KeyLimit            more key blobs than a member may store
    │   └── InvitationRefused   InvitationInvalid, InvitationUsed, InvitationExpired
    ├── NotFound                no such study, round, model, ...
    ├── Conflict                right message, wrong moment
    │   ├── NameTaken           a name, or an identity, that another site, study or operator has
    │   ├── StudyState          the study's state does not allow it
    │   ├── RoundClosed         the attempt takes no contributions any more
    │   ├── PartDiffers, ManifestDiffers, AnswerDiffers   something else was sent before under the same name
    │   ├── PartsMissing        a manifest before its parts
    │   ├── VotesMissing        an opening before more than half of the roster voted
    │   └── EpochExists         the study has this key epoch already, or another site was asked to deal it
    ├── Refused                 the message can never be accepted
    │   ├── RequestInvalid      a field is missing or wrong
    │   ├── MessageRefused      a signed message of the wrong site, study or form
    │   ├── ManifestRefused     another site's, another plan's, not the right number of parts, a bad signature
    │   ├── PartSize            a part that has not the size its number demands
    │   ├── ModelRefused        no safetensors file as `pleura-participant model new` writes it
    │   └── DigestMismatch      bytes that are not those that were announced
    ├── TooLarge                a body over its limit
    ├── RangeUnsatisfiable      a byte range outside the file
    ├── RateLimited             too many tries from one address
    ├── NotReady                a part of the service that everything needs does not work
    ├── Busy                    others kept the database from it; the same request succeeds soon
    └── DiskFull                nothing was lost; the same request later succeeds

Each message says what happened and what to do, and is safe to show. `fields` are shown beside it, as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class CoordinatorError(Exception):
    """Base of everything the coordinator answers no to. `detail` is a sentence for the caller."""

    def __init__(self, detail: str, fields: Mapping[str, Any] | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = dict(fields or {})


class Unauthenticated(CoordinatorError):
    """Who is calling is not established."""


class TokenMissing(Unauthenticated):
    """No bearer token came with the request."""


class TokenInvalid(Unauthenticated):
    """A token that cannot be read, that nobody here was given, or that another key signed."""


class TokenExpired(Unauthenticated):
    """A site's token outside its lifetime, or with a lifetime above 60 s."""


class TokenReplayed(Unauthenticated):
    """A site's token that was used before."""


class Forbidden(CoordinatorError):
    """The caller is known and may not do this."""


class RoleMissing(Forbidden):
    """The call belongs to another kind of caller."""


class SiteSuspended(Forbidden):
    """The operator suspended this site."""


class NotAMember(Forbidden):
    """The site did not join this study, or is not on the roster of this plan."""


class KeyLimit(Forbidden):
    """More public contexts and wraps than a member of a study may store."""


class InvitationRefused(Forbidden):
    """An invitation that admits nobody."""


class InvitationInvalid(InvitationRefused):
    """No such invitation, or a proof that does not fit it."""


class InvitationUsed(InvitationRefused):
    """An invitation that a site enrolled with before."""


class InvitationExpired(InvitationRefused):
    """An invitation past its time."""


class NotFound(CoordinatorError):
    """There is no such thing."""


class Conflict(CoordinatorError):
    """The state of things does not allow it now."""


class NameTaken(Conflict):
    """Another site, study or operator has this name or identity."""


class StudyState(Conflict):
    """The study's state does not allow this."""


class RoundClosed(Conflict):
    """The attempt takes no contributions any more."""


class PartDiffers(Conflict):
    """Another part was sent before under this number."""


class ManifestDiffers(Conflict):
    """Another manifest was sent before for this plan."""


class AnswerDiffers(Conflict):
    """Another vote or opening was sent before for this ballot."""


class PartsMissing(Conflict):
    """The manifest lists parts that are not here."""


class VotesMissing(Conflict):
    """Fewer than half of the roster have voted."""


class EpochExists(Conflict):
    """The study has this key epoch already, or another site was asked to deal it."""


class Refused(CoordinatorError):
    """A message that can never be accepted."""


class RequestInvalid(Refused):
    """A field is missing or wrong."""


class MessageRefused(Refused):
    """A signed message of the wrong site, study or form."""


class ManifestRefused(Refused):
    """A manifest of another site, for another plan, of the wrong number of parts, or with a bad signature."""


class PartSize(Refused):
    """A part that has not the size its number demands."""


class ModelRefused(Refused):
    """No model file as `pleura-participant model new` writes it."""


class DigestMismatch(Refused):
    """Bytes that are not those that were announced."""


class TooLarge(CoordinatorError):
    """A body over its limit."""


class RangeUnsatisfiable(CoordinatorError):
    """A byte range outside the file."""


class RateLimited(CoordinatorError):
    """Too many tries from one address."""


class DiskFull(CoordinatorError):
    """No room for this now; nothing was lost."""


class NotReady(CoordinatorError):
    """Something that every call needs does not work."""


class Busy(CoordinatorError):
    """Others keep the database busy; nothing was done."""
