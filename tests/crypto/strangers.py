"""What belongs to somebody else: keys, digests and ids that no check may take for the right ones."""

from __future__ import annotations

import uuid

from crypto.identity import Identity

STRANGER = Identity.generate()
BALLOT, OTHER_BALLOT = "cd" * 32, "ce" * 32
# Digests and ids are compared, not ordered: what differs is refused whether it sorts before or after.
DIGESTS = ["00" * 32, "ff" * 32]
STUDIES = [uuid.UUID(int=1), uuid.UUID(int=2**128 - 1)]
