"""A connection to a PACS by DICOMweb: who asks, which authority is trusted, and how failures are said."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from dicomweb_client.api import DICOMwebClient
from pydantic import Field
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from participant.settings import ConfigError, Section, load, parse, this_machine

VARIABLES: Final = {"user": "PLEURA_PACS_USER", "password": "PLEURA_PACS_PASSWORD", "token": "PLEURA_PACS_TOKEN"}
_TIMEOUT: Final = (15.0, 120.0)  # seconds to connect, and between bytes: archives on tape take their time
_DENIED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED)
_BUSY: Final = (HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE, HTTPStatus.GATEWAY_TIMEOUT)
_PATIENCE: Final = Retry(total=4, other=0, backoff_factor=0.5, status_forcelist=_BUSY, raise_on_status=False)
for _name in ("urllib3.connectionpool", "retrying"):
    logging.getLogger(_name).setLevel(
        logging.ERROR
    )  # each try that fails, with a traceback: the last one is told in words
_AGAIN: Final = "Run the same command again: it goes on where it stopped."


class PacsError(Exception):
    """The PACS cannot be asked any further now; what was fetched is kept."""


class NotDelivered(Exception):
    """One answer failed; others may come."""


class Credentials(Section):
    """Who asks: a user with a password, or a token, or nobody in particular."""

    user: str | None = Field(None, description="user name, for basic authentication", repr=False)
    password: str | None = Field(None, description="the user's password", repr=False)
    token: str | None = Field(None, description="bearer token, in place of user and password", repr=False)

    @classmethod
    def find(cls, file: Path | None) -> Credentials:
        """From a TOML file that only its owner can read, else from the environment.

        Raises:
            ConfigError: others can read the file, or it does not hold what it should.
        """
        if file is None:
            given = {key: os.environ[name] for key, name in VARIABLES.items() if name in os.environ}
            found = parse(cls, given, "the environment")
        elif stat.S_IMODE(file.stat().st_mode) & 0o077:
            raise ConfigError(f"{file} can be read by others. Close it to them: chmod 600 {file}")
        else:
            found = load(cls, file)
        if (found.user is None) != (found.password is None) or (found.token and found.user):
            raise ConfigError(
                f"{file or 'The environment'} holds no pair of user and password, and no single token. "
                f"The keys in a file are {', '.join(VARIABLES)}, the variables {', '.join(VARIABLES.values())}."
            )
        return found

    def auth(self) -> AuthBase | None:
        """As requests takes it."""
        if self.token is not None:
            return _Bearer(self.token)
        if self.user is not None and self.password is not None:
            return HTTPBasicAuth(self.user.encode(), self.password.encode())
        return None


class _Bearer(AuthBase):
    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _Session(requests.Session):
    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Ask the environment for proxies; for an authority (REQUESTS_CA_BUNDLE) only where none is set here."""
        return super().merge_environment_settings(url, proxies, stream, self.verify if verify is None else verify, cert)


@contextmanager
def connected(
    url: str, credentials: Credentials, ca_file: Path | None, *, plain_http: bool = False
) -> Iterator[DICOMwebClient]:
    """A client of the PACS at `url`, such as https://pacs.example.org/dicom-web.

    Proxies come from the environment; trust in a private authority from `ca_file`.

    Raises:
        ConfigError: the address cannot be used, or patients' names would travel in the open.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError("The address of a PACS begins with https:// and names a machine.")
    if parts.username or parts.password:
        names = ", ".join(VARIABLES.values())
        raise ConfigError(f"Others can see user and password in an address. Set {names}, or use --credentials.")
    if parts.scheme == "http" and not plain_http and not this_machine(parts.hostname):
        raise ConfigError("http:// to another machine shows patients' names on the way: use https://, or --plain-http.")
    with _Session() as session:
        session.auth = credentials.auth()
        for scheme in ("http://", "https://"):
            session.mount(scheme, HTTPAdapter(max_retries=_PATIENCE))
        if ca_file is not None:
            session.verify = str(ca_file)
        client = DICOMwebClient(url.rstrip("/"), session=session, permissive_uid=True, timeout=_TIMEOUT)
        client.set_http_retry_params(retry=False)  # the session is patient itself, with torn connections too
        yield client


@contextmanager
def explained_failures() -> Iterator[None]:
    """Say in words why a request failed.

    Raises:
        PacsError: every other request would fail too.
        NotDelivered: this one did.
    """
    try:
        yield
    except requests.HTTPError as error:
        raise _refusal(0 if error.response is None else error.response.status_code) from None
    except requests.exceptions.SSLError as error:
        words = f"The certificate of the PACS is not trusted ({error}). Name its authority as ca_file in config.toml."
        raise PacsError(words) from None
    except (requests.ConnectionError, requests.Timeout) as error:
        raise PacsError(f"The PACS does not answer ({type(error).__name__}). {_AGAIN}") from None
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotDelivered(f"what the PACS answered is no DICOMweb ({type(error).__name__})") from None


def _refusal(status: int) -> Exception:
    if status in _DENIED:
        return PacsError(f"The PACS refused to answer ({status}): check user, password or token, and what they may do.")
    if status in _BUSY:
        return PacsError(f"The PACS is too busy to answer ({status}). {_AGAIN}")
    return NotDelivered(f"the PACS answered {status}")
