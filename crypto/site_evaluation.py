"""What a site says of a model in the open, where its policy allows: its own counts, not only sealed into the sum."""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from crypto.parameters import COUNT_LIMIT
from crypto.wire import Digest, Message, SiteId

_Count = Annotated[int, Field(ge=0, lt=COUNT_LIMIT)]


class SiteEvaluation(Message):
    """A site's counts of a round's base model on its validation cases, readable.

    Attributes:
        plan: digest of the plan whose base model this is.
        counts: the recipe's, in the order of the layout's counts; the same that the site seals in this round.
    """

    kind_name: ClassVar[str] = "site-evaluation"

    plan: Digest
    site: SiteId
    model: Digest
    counts: Annotated[tuple[_Count, ...], Field(min_length=1, max_length=1 << 20)]
