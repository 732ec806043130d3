"""What one running page works with."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Callable, Sequence

from participant.diagnosis.archive import Archive
from participant.diagnosis.limits import PUBLIC, Limits
from participant.diagnosis.models import Model, ModelFile, kept_files, load
from participant.policy import Refused
from participant.settings import Home
from participant.web.jobs import Jobs
from participant.web.rate import Rate

_PUBLIC_LIFETIME = 600.0  # seconds a stranger's result stays in memory
_SCANS = _LOGINS = 10  # of one address, an hour
_HOUR = 3600.0


class Page:
    """A running page.

    Args:
        home: the agent's; None in public, where nothing of a hospital is shown.
        given: models that the command names.
        token: what a visitor has to know; None on this machine alone, and in public.
        archive: where heat maps may be sent.
        device: "auto", "cpu", "cuda" or "mps".
    """

    def __init__(
        self,
        home: Home | None,
        given: Sequence[ModelFile] = (),
        *,
        token: str | None = None,
        archive: Archive | None = None,
        device: str = "auto",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.home, self.token, self.archive = home, token, archive
        self.limits = Limits() if home else PUBLIC
        self.jobs = Jobs(clock, None if home else _PUBLIC_LIFETIME)
        self.scans, self.logins = Rate(_SCANS, _HOUR, clock), Rate(_LOGINS, _HOUR, clock)
        self._given, self._device = tuple(given), device
        self._loaded: dict[str, Model] = {}
        self._visits: set[str] = set()

    @property
    def public(self) -> bool:
        """Whether it is for whoever comes by."""
        return self.home is None

    def files(self) -> list[ModelFile]:
        """The models that can be chosen: those that were named, then the agent's, none twice."""
        every = [*self._given, *(kept_files(self.home) if self.home else [])]
        return list({file.digest: file for file in reversed(every)}.values())[::-1]

    def model(self, file: ModelFile) -> Model:
        """Ready to look; built once.

        Raises:
            Refused: it cannot be used here.
        """
        if file.digest not in self._loaded:
            self._loaded[file.digest] = load(file, self.home, self._device)
        return self._loaded[file.digest]

    def admit(self, token: str) -> str:
        """What a visitor who knows the token carries from then on.

        Raises:
            Refused: that is not the token.
        """
        if self.token is None or not hmac.compare_digest(token.strip().encode(), self.token.encode()):
            raise Refused("wrong-token", "that is not this page's token: it is in the file that `serve` names")
        carried = secrets.token_urlsafe(32)
        self._visits.add(_digest(carried))
        return carried

    def admitted(self, carried: str | None) -> bool:
        """Whether a visitor may look."""
        return self.token is None or (carried is not None and _digest(carried) in self._visits)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
