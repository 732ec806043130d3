"""The PACS that heat maps may go back to (STOW-RS)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydicom.dataset import Dataset

from participant.data.importing.pacs_connection import (
    Credentials,
    NotDelivered,
    PacsError,
    connected,
    explained_failures,
)
from participant.policy import Refused

_AT_ONCE: Final = 50  # objects in a request


class Archive:
    """One PACS. Who asks comes from the environment, as for `import`.

    Raises:
        ConfigError: the address or what the environment holds cannot be used.
    """

    def __init__(self, url: str, ca_file: Path | None, *, plain_http: bool = False) -> None:
        self.name = urlsplit(url).hostname or url
        self._connected = partial(connected, url, Credentials.find(None), ca_file, plain_http=plain_http)
        with self._connected():  # says so now if the address cannot be used
            pass

    def store(self, objects: Iterable[Dataset]) -> int:
        """Send them; returns how many were taken.

        Raises:
            Refused: the PACS did not take them all.
        """
        left, taken = iter(objects), 0
        try:
            with self._connected() as client:
                while batch := list(islice(left, _AT_ONCE)):
                    with explained_failures():
                        answer = client.store_instances(batch)
                    taken += len(answer.get("ReferencedSOPSequence") or ())
                    if answer.get("FailedSOPSequence"):
                        raise Refused("not-stored", f"the PACS refused some objects; it took {taken}")
        except (PacsError, NotDelivered) as error:
            words = str(error).partition(" Run the same command")[0].removesuffix(".")
            raise Refused("not-stored", f"{words}; {taken} objects were taken") from error
        return taken
