"""A small client of the OpenStack APIs: what is on the wire, with errors that say what was asked."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlencode

from .layout import ADMIN_PASSWORD, DOMAIN, TestbedError

Json = dict[str, Any]
T = TypeVar("T")

# Nova's oldest microversion lacks what the tests want to see, as a server's tags and its flavor in full.
NOVA_HEADERS = {"X-OpenStack-Nova-API-Version": "2.90"}
REQUEST_SECONDS = 180
# Proxies of the environment have no business on the loopback interface.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ApiError(TestbedError):
    """An answer that is not a success."""

    def __init__(self, method: str, url: str, status: int, body: object) -> None:
        super().__init__(f"{method} {url} answered {status}: {body}")
        self.status = status


def send(
    method: str,
    url: str,
    body: Any = None,
    token: str | None = None,
    data: bytes | None = None,
    seconds: float = REQUEST_SECONDS,
) -> tuple[int, Any, Any]:
    """One request; gives status, headers and the decoded body, also of an error."""
    headers = {"Accept": "application/json", "Content-Type": "application/json", **NOVA_HEADERS}
    if token:
        headers["X-Auth-Token"] = token
    if data is not None:
        headers["Content-Type"] = "application/octet-stream"
    elif body is not None:
        data = json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=headers)
    try:
        with _opener.open(request, timeout=seconds) as answer:
            return answer.status, answer.headers, _decoded(answer.read())
    except urllib.error.HTTPError as answer:
        return answer.code, answer.headers, _decoded(answer.read())


def _decoded(raw: bytes) -> Any:
    try:
        return json.loads(raw) if raw else None
    except ValueError:
        return raw.decode(errors="replace")


class Session:
    """A login: a token for one project, and the services' URLs."""

    def __init__(
        self,
        urls: dict[str, str],
        user: str = "admin",
        password: str = ADMIN_PASSWORD,
        project: Json | None = None,
    ) -> None:
        self._urls = urls
        self._identity: Json = {
            "methods": ["password"],
            "password": {"user": {"name": user, "domain": {"name": DOMAIN}, "password": password}},
        }
        self._scope = {"project": project or {"name": "admin", "domain": {"name": DOMAIN}}}
        self._token = ""
        self.user_id = ""

    def call(self, method: str, service: str, path: str, body: Any = None, data: bytes | None = None) -> Any:
        """Asks a service (by its type in the catalog); anything but 2xx is an `ApiError`."""
        url = self._urls[service] + path
        for fresh in (not self._token, True):
            if fresh:
                self.log_in()
            status, _, answer = send(method, url, body, self._token, data)
            # The token may be over, or have been made before the stack was restarted with other keys.
            if status != 401:
                break
        if not 200 <= status < 300:
            raise ApiError(method, url, status, answer)
        return answer

    def log_in(self) -> None:
        """Takes a new token."""
        url = self._urls["identity"] + "/auth/tokens"
        status, headers, answer = send("POST", url, {"auth": {"identity": self._identity, "scope": self._scope}})
        if status != 201:
            raise ApiError("POST", url, status, answer)
        self._token = headers["X-Subject-Token"]
        self.user_id = answer["token"]["user"]["id"]

    def find(self, service: str, path: str, key: str, **filters: str) -> Json | None:
        """The first of a list, or nothing."""
        rows: list[Json] = self.call("GET", service, f"{path}?{urlencode(filters)}")[key]
        return rows[0] if rows else None


def until(what: str, seconds: float, look: Callable[[], T | None]) -> T:
    """Looks until there is something, and gives that."""
    deadline = time.monotonic() + seconds
    while (found := look()) is None:
        if time.monotonic() > deadline:
            raise TestbedError(f"{what}: not so after {seconds:.0f} s")
        time.sleep(0.1)
    return found
