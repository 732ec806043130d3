"""The coordinator over real HTTP, for sites in other processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from starlette.types import ASGIApp

_START_SECONDS: Final = 30.0
_LOOK_SECONDS: Final = 0.02


@contextmanager
def serving(app: ASGIApp, host: str = "127.0.0.1") -> Iterator[str]:
    """Serve an app on a free port of this machine, at the address that is given.

    Raises:
        TimeoutError: it did not start within half a minute.
    """
    config = uvicorn.Config(app, host=host, port=0, log_config=None, access_log=False, lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, name="coordinator", daemon=True)
    thread.start()
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not server.started:
            if not thread.is_alive() or time.monotonic() > deadline:
                raise TimeoutError(f"the coordinator of the simulation did not start at {host}")
            time.sleep(_LOOK_SECONDS)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join()
