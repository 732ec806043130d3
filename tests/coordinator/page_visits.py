"""A browser reduced to its one cookie, for tests of the pages."""

from __future__ import annotations

import re


class Browser:
    """`world` is the conftest's; `site` is what the browser says of where a request comes from."""

    def __init__(self, world) -> None:
        self.world, self.cookie = world, None

    def call(self, method: str, path: str, headers: dict | None = None, **arguments):
        kept = {"Cookie": self.cookie} if self.cookie else {}
        answer = self.world.call(method, path, headers=kept | (headers or {}), **arguments)
        if "set-cookie" in answer.headers:
            self.cookie = answer.headers["set-cookie"].split(";")[0]
        return answer

    def login(self, token: str, **fields):
        return self.call("POST", "/login", data={"token": token, **fields})

    def look(self, path: str) -> str:
        """The page's text."""
        answer = self.call("GET", path)
        assert answer.status_code == 200, (path, answer.status_code, answer.text[:500])
        return answer.text

    @property
    def form_token(self) -> str:
        """What the forms of this login's pages carry."""
        return re.search(r'name="form_token" value="([0-9a-f]{64})"', self.look("/settings"))[1]

    def send(self, path: str, **fields):
        """A form of ours, as an operator would send it."""
        return self.call("POST", path, data={"form_token": self.form_token, **fields})
