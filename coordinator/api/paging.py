"""Lists in pages: JSON arrays, with the next page's address in a Link header (RFC 8288).

Pages begin behind a row that the caller names, not at a count: rows that are added meanwhile shift nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final, TypeVar
from urllib.parse import urlencode

from fastapi import Depends, Query, Request, Response

from coordinator.store.lists import MOST

T = TypeVar("T")
LINKED: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "headers": {
            "Link": {
                "description": 'the next page, `<ADDRESS>; rel="next"`; absent on the last one',
                "schema": {"type": "string"},
            }
        }
    }
}


class Page:
    """How many rows a caller wants, and where the next page's address goes."""

    def __init__(self, request: Request, response: Response, limit: int) -> None:
        self._request, self._response, self._limit = request, response, limit

    @property
    def rows(self) -> int:
        """How many to read: one more than is shown tells whether there is a next page."""
        return self._limit + 1

    def cut(self, found: Sequence[T], mark: Callable[[T], object]) -> Sequence[T]:
        """The page. `mark` gives what `after` names a row by."""
        if len(found) <= self._limit:
            return found
        shown = found[: self._limit]
        asked = [(name, value) for name, value in self._request.query_params.multi_items() if name != "after"]
        following = urlencode([*asked, ("after", mark(shown[-1]))])
        self._response.headers["Link"] = f'<{self._request.url.path}?{following}>; rel="next"'
        return shown


async def _page(
    request: Request,
    response: Response,
    limit: Annotated[int, Query(ge=1, le=MOST, description="rows to a page")] = MOST,
) -> Page:
    return Page(request, response, limit)


Paged = Annotated[Page, Depends(_page)]
