"""Requests to one coordinator: a fresh token each, problems as exceptions, patience with networks."""

from __future__ import annotations

import itertools
import logging
import random
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

import httpx
import jwt

from crypto.identity import Identity
from participant.pace import Pace, PacedBody

log = logging.getLogger(__name__)

Pause = Callable[[float], None]
T = TypeVar("T")

_LIFETIME: Final = 60  # seconds; the longest that a coordinator takes
_SKEW: Final = 4.0  # seconds of difference from which a refused token is put down to the clocks; Date is of whole ones
CORRECTED: Final = 600.0  # seconds of difference up to which tokens are dated by the coordinator's clock
_LONGEST: Final = 3600.0  # seconds that a coordinator may ask to wait
_SHOWN: Final = 300  # characters of an answer that is no problem document


class Problem(Exception):
    """The coordinator answered no. `code` is what programs branch on; `detail` says what happened and what to do."""

    def __init__(self, status: int, code: str, detail: str, retry_after: float | None = None) -> None:
        super().__init__(f"{detail} ({status} {code})")
        self.status, self.code, self.detail, self.retry_after = status, code, detail, retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may succeed later: overload, a restart, a full disk (507), or a token that somebody
        on the way sent twice, as each try signs its own."""
        busy = self.status >= HTTPStatus.INTERNAL_SERVER_ERROR or self.status == HTTPStatus.TOO_MANY_REQUESTS
        return busy or self.code == "token-replayed"


class Unreachable(Exception):
    """No answer came: the network, a proxy, TLS, or a coordinator that is away."""

    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class Patience:
    """Exponential backoff with full jitter. `tries` None means: until the pause itself raises."""

    tries: int | None = None
    first: float = 0.5
    longest: float = 30.0

    def delay(self, tries: int, asked: float | None, uniform: Callable[[], float] = random.random) -> float:
        """Seconds to wait after that many failures; never less than the coordinator asked for."""
        ceiling = min(self.longest, self.first * 2.0 ** min(tries, 32))
        return max(uniform() * ceiling, asked or 0.0)


class SiteAuth(httpx.Auth):
    """Signs a token for every single request, so that none is ever sent twice.

    Where this machine's clock is wrong, tokens are dated by the coordinator's, which refused one and said its own time.
    By no more than `CORRECTED`: whoever answers in the coordinator's place could have tokens signed for later use.
    """

    def __init__(self, identity: Identity, site: UUID, coordinator: UUID, clock: Callable[[], float]) -> None:
        self._identity, self._site, self._coordinator, self._clock = identity, str(site), str(coordinator), clock
        self._ahead = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._sign(request)
        response = yield request
        if response.status_code == HTTPStatus.UNAUTHORIZED and self._correct(response.headers.get("Date")):
            self._sign(request)
            yield request

    def _correct(self, date: str | None) -> bool:
        """Whether tokens are dated otherwise from now on."""
        ahead = ahead_of(date, self._clock())
        if ahead is None or abs(ahead - self._ahead) < _SKEW or abs(ahead) > CORRECTED:
            return False
        self._ahead = ahead
        log.warning("%s Until then the agent dates its requests by the coordinator's clock.", clock_words(ahead))
        return True

    def _sign(self, request: httpx.Request) -> None:
        now = int(self._clock() - self._ahead)
        claims: dict[str, Any] = {"iss": self._site, "sub": self._site, "aud": self._coordinator}
        claims |= {"iat": now, "exp": now + _LIFETIME, "jti": str(uuid4())}
        token = jwt.encode(claims, self._identity.private_key, "EdDSA", {"kid": self._site})
        request.headers["Authorization"] = f"Bearer {token}"


@dataclass(frozen=True)
class Session:
    """One coordinator. The HTTP connections are shared between copies; `auth` None calls without a token.

    Args:
        pause: waits that many seconds between tries; may raise to give up (a stopping agent, a cancelled upload).
        pace: how fast octets may leave; None: as fast as they can. Short JSON is not held back.
    """

    http: httpx.Client
    auth: SiteAuth | None = None
    patience: Patience = Patience()
    pause: Pause = time.sleep
    clock: Callable[[], float] = time.time
    pace: Pace | None = None

    def pausing(self, pause: Pause) -> Session:
        """The same session with another way to wait."""
        return replace(self, pause=pause)

    def signing(self, auth: SiteAuth) -> Session:
        """The same session with tokens of a site."""
        return replace(self, auth=auth)

    def request(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        content: bytes | None = None,
        headers: dict[str, str] | None = None,
        params: dict[str, str] | None = None,
        timeout: float | None = None,
    ) -> httpx.Response:
        """The answer, which is a success.

        Raises:
            Problem: the coordinator said no, and will again.
            Unreachable: no answer in as many tries as patience allows.
        """
        body: bytes | PacedBody | None = content
        if content is not None and self.pace is not None:
            body = PacedBody(content, self.pace, self.pause)
            headers = {**(headers or {}), "Content-Length": str(len(content))}

        def once() -> httpx.Response:
            response = self.http.request(
                method,
                path,
                json=json,
                content=body,
                headers=headers,
                params=params,
                auth=self.auth,
                timeout=timeout or httpx.USE_CLIENT_DEFAULT,
            )
            self._check(response)
            return response

        return self.persist(once)

    @contextmanager
    def stream(self, path: str, headers: dict[str, str]) -> Iterator[httpx.Response]:
        """One try at an answer that is read in pieces; call it within `persist`."""
        with self.http.stream("GET", path, headers=headers, auth=self.auth) as response:
            if not response.is_success:
                response.read()
            self._check(response)
            yield response

    def persist(self, attempt: Callable[[], T]) -> T:
        """The result of `attempt`, tried again after failures that pass."""
        for tries in itertools.count(1):
            try:
                return attempt()
            except httpx.TransportError as error:
                failure: Problem | Unreachable = Unreachable(unreachable_words(error, self.http.base_url))
                failure.__cause__ = error
            except Problem as problem:
                if not problem.passing:
                    raise
                failure = problem
            if self.patience.tries is not None and tries >= self.patience.tries:
                raise failure
            delay = self.patience.delay(tries, failure.retry_after)
            log.log(logging.WARNING if tries == 1 else logging.DEBUG, "%s; trying again", failure)
            self.pause(delay)
        raise AssertionError("itertools.count ends")

    def _check(self, response: httpx.Response) -> None:
        if response.is_success:
            return
        try:
            document = response.json()
            code, detail = str(document["code"]), str(document["detail"])
        except (ValueError, KeyError, TypeError, RecursionError):  # a proxy's page, not the coordinator's answer
            code = f"http-{response.status_code}"
            detail = f"{response.request.url} answered {response.status_code}: {response.text[:_SHOWN]!r}"
        if response.status_code == HTTPStatus.UNAUTHORIZED:
            detail += self._skew(response.headers.get("Date"))
        raise Problem(response.status_code, code, detail, _seconds(response.headers.get("Retry-After")))

    def _skew(self, date: str | None) -> str:
        """A hint when a token was refused and the two clocks disagree."""
        ahead = ahead_of(date, self.clock())
        return "" if ahead is None or abs(ahead) < _SKEW else f" {clock_words(ahead)}"


def ahead_of(date: str | None, now: float) -> float | None:
    """Seconds that a clock showing `now` is ahead of an answer's Date; None without a Date that can be read."""
    try:
        return now - parsedate_to_datetime(date or "").timestamp()
    except (ValueError, OverflowError):  # the latter for a year beyond any calendar
        return None


def clock_words(ahead: float) -> str:
    """What to tell a person about a clock that is so many seconds ahead of the coordinator's."""
    side = "ahead of" if ahead > 0 else "behind"
    return f"This machine's clock is {abs(ahead):.0f} s {side} the coordinator's: set it right (NTP)."


def _seconds(header: str | None) -> float | None:
    """Retry-After in seconds, an hour at most; its other form, a date, is not worth the trouble."""
    return min(float(header), _LONGEST) if header is not None and header.isascii() and header.isdigit() else None


def unreachable_words(error: httpx.TransportError, url: httpx.URL) -> str:
    """What to tell a person about a failed connection."""
    text = str(error) or type(error).__name__
    hint = ""
    if "CERTIFICATE_VERIFY_FAILED" in text:
        hint = " (is its certificate of a private authority? set ca_file in config.toml)"
    return f"the coordinator at {url} cannot be reached: {text}{hint}"
