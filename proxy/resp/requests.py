"""Cuts a client's bytes into requests.

Owns the framing of requests and their limits: bytes in, whole requests out, each with the very
bytes that arrived. Never answers, and knows no command.

This module is hot: see `window` for how it is written, and `requests.pxd` for its C types.
"""

from __future__ import annotations

from .encoder import encode_command
from .inline import split_inline
from .limits import LIMITS, Limits, ProtocolError
from .window import Window

# Upper-cased names by the spelling that clients use; bounded, since clients choose the spelling.
_NAMES: dict[bytes, bytes] = {}
_MAX_NAMES = 4096
_MAX_NAME = 64

_BAD_LINE_END = "invalid CRLF in request"


def _upper(name: bytes) -> bytes:
    known = _NAMES.get(name)
    if known is None:
        known = name.upper()
        if len(_NAMES) < _MAX_NAMES and len(name) <= _MAX_NAME:
            _NAMES[name] = known
    return known


class Request:
    """One command as a client sent it.

    `raw` is its wire bytes in array form, `argc` the number of arguments with the name, `spans`
    where they stand in `raw` (start and end, flat), `name` the first one in upper case.
    """

    __slots__ = ("argc", "name", "raw", "spans")

    raw: bytes
    argc: int
    spans: list[int]
    name: bytes

    def arg(self, index: int) -> bytes:
        """Argument `index`; 0 is the name as the client spelt it. Counts from the front only."""
        if index < 0 or index >= self.argc:
            raise IndexError(f"argument {index} of {self.argc}")
        view, spans = self.raw, self.spans
        return view[spans[2 * index] : spans[2 * index + 1]]

    def args(self) -> list[bytes]:
        """All arguments, the name first."""
        view, spans = self.raw, self.spans
        return [view[spans[at] : spans[at + 1]] for at in range(0, 2 * self.argc, 2)]

    def __repr__(self) -> str:
        # Arguments are users' data and stay out of logs and tracebacks.
        return f"<Request {self.name.decode('latin-1')} argc={self.argc}>"


def request(*args: bytes) -> Request:
    """The request that a client would have sent for `args`, the name first."""
    spans: list[int] = []
    at = len(b"*%d\r\n" % len(args))
    for arg in args:
        at += len(b"$%d\r\n" % len(arg))
        spans.append(at)
        at += len(arg)
        spans.append(at)
        at += 2
    return _made(encode_command(*args), spans)


def _made(raw: bytes, spans: list[int]) -> Request:
    view = raw
    made = Request.__new__(Request)
    made.raw = raw
    made.argc = len(spans) >> 1
    made.spans = spans
    made.name = _upper(view[spans[0] : spans[1]])
    return made


class RequestScanner(Window):
    """Cuts a client's bytes into requests.

    It takes and refuses what networking.c does, with the same error texts. Where engines differ
    it is as strict as the strictest (Valkey 8.1: every line and argument must end in CR LF), so
    that nothing is relayed that one of them would hang up a shared connection for.
    """

    __slots__ = (
        "_left",
        "_limits",
        "_max_bulk",
        "_max_inline",
        "_max_multibulk",
        "_spans",
        "error",
    )

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__()
        self.error: ProtocolError | None = None
        self._left = 0
        self._spans: list[int] = []
        self._take(limits)

    def _take(self, limits: Limits) -> None:
        self._limits = limits
        self._max_multibulk = limits.max_multibulk
        self._max_bulk = limits.max_bulk
        self._max_inline = limits.max_inline

    @property
    def limits(self) -> Limits:
        """What the client may announce.

        New limits apply from the first byte not parsed yet. A request that was refused only
        because the client had not logged in is looked at again: a client may send AUTH and a
        large request at once. `error` is None then, and the next `feed` (of nothing, if need
        be) returns it.
        """
        return self._limits

    @limits.setter
    def limits(self, limits: Limits) -> None:
        if self.error is not None and self._limits.after_login is not None and self._tail:
            self.error = None
        self._take(limits)

    def feed(self, data: bytes) -> list[Request]:
        """Takes the next bytes, returns the requests that are complete now, in order.

        After a protocol error the requests before it are returned, `error` is set, and later
        input is ignored (but kept where new limits could still forgive the error: whoever does
        not wait for a login closes the connection).
        """
        requests: list[Request] = []
        if self.error is not None:
            if self._tail:
                self._tail.append(data)
                self._held += len(data)
            return requests
        window = self._gather(data, self._max_inline)
        if window is not None:
            self._scan(window, requests)
            if self._rest is not None:
                window = None
                requests += self.feed(self._take_rest())
        return requests

    def _scan(self, data: bytes, requests: list[Request]) -> None:
        view = data
        size = len(data)
        at = self._resume
        self._resume = 0
        start = 0
        left = self._left
        spans = self._spans
        while at < size:
            if left == 0:
                start = at
                if view[at] != 42:
                    at = self._inline(data, at, size, requests)
                    if at < 0:
                        return
                    continue
                after = self._header(data, at + 1, size)
                if after <= 0 or self._value > self._max_multibulk:
                    self._left = 0
                    self._refuse_count(data, at, size, after)
                    return
                at = after
                if self._value <= 0:
                    # `*0` and `*-5` are requests for nothing, and get no answer.
                    continue
                left = self._value
                spans = []
                if at == size:
                    break
            # Positions are kept from the frame's first byte, which may be in an earlier chunk.
            origin = start - self._base
            after = self._header(data, at + 1, size)
            if after <= 0 or view[at] != 36 or self._value < 0 or self._value > self._max_bulk:
                self._left = left
                self._spans = spans
                self._refuse_bulk(data, start, at, size, after)
                return
            end = after + self._value
            if end + 2 > size:
                self._left = left
                self._spans = spans
                self._set_aside(data, start, at, end + 2 - at)
                return
            if view[end] != 13 or view[end + 1] != 10:
                self.error = ProtocolError(_BAD_LINE_END)
                return
            spans.append(after - origin)
            spans.append(end - origin)
            at = end + 2
            left -= 1
            if left == 0:
                requests.append(_made(self._whole(data, start, at), spans))
                start = at
        self._left = left
        self._spans = spans
        if left:
            self._set_aside(data, start, at, 0)

    def _inline(self, data: bytes, at: int, size: int, requests: list[Request]) -> int:
        """Takes one inline request at `at`; the position behind it, or -1 to stop."""
        self._left = 0
        end = data.find(b"\n", at)
        if (size if end < 0 else end) - at > self._max_inline:
            self.error = ProtocolError("too big inline request")
            return -1
        if end < 0:
            self._set_aside(data, at, at, 0)
            return -1
        args = split_inline(data[at:end].removesuffix(b"\r"))
        if args is None:
            self.error = ProtocolError("unbalanced quotes in request")
            return -1
        if args:
            requests.append(request(*args))
        return end + 1

    def _refuse_count(self, data: bytes, at: int, size: int, after: int) -> None:
        """A `*` line that cannot be taken: unfinished, or an error."""
        later = self._limits.after_login
        if after == 0:
            if size - at > self._max_inline:
                self.error = ProtocolError("too big mbulk count string")
            else:
                self._set_aside(data, at, at, 0)
        elif after > 0 and later is not None and self._value <= later.max_multibulk:
            self.error = ProtocolError("unauthenticated multibulk length")
            # Needing one byte, it is parsed again by the next `feed`, whatever that brings.
            self._set_aside(data, at, at, 1)
        else:
            problem = _BAD_LINE_END if after == -2 else "invalid multibulk length"
            self.error = ProtocolError(problem)

    def _refuse_bulk(self, data: bytes, start: int, at: int, size: int, after: int) -> None:
        """A `$` line that cannot be taken: unfinished, or an error."""
        if after == 0:
            if size - at > self._max_inline:
                self.error = ProtocolError("too big bulk count string")
            else:
                self._set_aside(data, start, at, 0)
        elif data[at] != 36:
            # Redis blanks line ends in its error texts.
            found = " " if data[at] in b"\r\n" else chr(data[at])
            self.error = ProtocolError(f"expected '$', got '{found}'")
        elif after == -2:
            self.error = ProtocolError(_BAD_LINE_END)
        elif after < 0 or self._value < 0 or self._value > LIMITS.max_bulk:
            self.error = ProtocolError("invalid bulk length")
        elif self._limits.after_login is not None:
            self.error = ProtocolError("unauthenticated bulk length")
            self._set_aside(data, start, at, 1)
        else:
            self.error = ProtocolError("invalid bulk length")
