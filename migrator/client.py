"""The admin API, seen from the command line: one blocking request per verb.

Owns how to reach a process and what its answers mean as errors; prints nothing. On urllib, because
one JSON request to (mostly) this machine is all there is to do.
"""

from __future__ import annotations

import http.client
import json
import re
import urllib.error
import urllib.request
from typing import Any

from migrator.errors import BadInput, Blocker, KeyferryError, Refused, Unreachable

# Longer than the longest fence, and than analysis of a store with many clients.
VERB_SECONDS = 120.0
STATUS_SECONDS = 10.0

Json = dict[str, Any]


class AdminClient:
    """`url`: `http://host:port`, or `host:port` as a process is told where to listen."""

    def __init__(self, url: str, token: str | None = None) -> None:
        self.url = _base(url)
        self._token = token
        # A web proxy of the environment has no business between us and this machine.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def status(self) -> Json:
        return self._call("GET", "status", None, STATUS_SECONDS)

    def post(self, verb: str, options: Json) -> Json:
        """A verb's answer. Raises Refused, BadInput, Unreachable, KeyferryError."""
        return self._call("POST", verb, options, VERB_SECONDS)

    def _call(self, method: str, path: str, options: Json | None, timeout: float) -> Json:
        request = urllib.request.Request(
            f"{self.url}/v1/{path}",
            method=method,
            data=None if options is None else json.dumps(options).encode(),
            headers={"Content-Type": "application/json"},
        )
        if self._token is not None:
            request.add_header("Authorization", f"Bearer {self._token}")
        try:
            with self._opener.open(request, timeout=timeout) as response:
                return self._parse(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise self._failure(error.code, self._parse(error.read())) from None
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            text = getattr(reason, "strerror", None) or str(reason) or type(reason).__name__
            raise Unreachable(f"no keyferry answers at {self.url}: {text}") from None

    def _parse(self, body: bytes) -> Json:
        try:
            answer = json.loads(body)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise Unreachable(f"what answers at {self.url} is not keyferry")
        return answer

    def _failure(self, status: int, answer: Json) -> KeyferryError:
        name = str(answer.get("error", "error"))
        message = str(answer.get("message", f"HTTP status {status}"))
        if status == 409:
            blockers = [Blocker(b["name"], b["message"]) for b in answer.get("blockers", ())]
            return Refused(name, message, blockers)
        if status == 400:
            return BadInput(message)
        if status == 401:
            return KeyferryError(f"{message} (--admin-token or KEYFERRY_ADMIN_TOKEN)")
        return KeyferryError(f"{name}: {message}")


def _base(url: str) -> str:
    match = re.fullmatch(
        r"(?:(https?)://)?(\[[0-9A-Fa-f:.]+\]|[^\s:/?#@]+)(:\d+)?/?", url, re.ASCII
    )
    if match is None:
        raise BadInput(f"--admin: {url!r} is not a URL such as http://127.0.0.1:9400")
    # Where a process listens on all addresses, it is here.
    host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(match[2], match[2])
    return f"{match[1] or 'http'}://{host}{match[3] or ':9400'}"
