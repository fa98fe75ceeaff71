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

    `raw` is its wire bytes in array form, `argc` the number of arguments with the name, `name` the
    first one in upper case.

    The bytes stand in a `chunk` of what arrived, from `start` to `end`, and are cut out of it only
    for who asks: what a client sent in one piece goes on in one piece. Where the first key stands
    is kept (`key` to `key_end`, behind `start`); other arguments are counted off when asked for.
    """

    __slots__ = ("argc", "chunk", "end", "key", "key_end", "name", "start")

    chunk: bytes
    start: int
    end: int
    argc: int
    key: int
    key_end: int
    name: bytes

    @property
    def raw(self) -> bytes:
        return self.cut()

    def cut(self) -> bytes:
        """Its bytes alone; the chunk is let go."""
        size = self.end - self.start
        if size != len(self.chunk):
            view = self.chunk
            self.chunk = view[self.start : self.end]
            self.start = 0
            self.end = size
        return self.chunk

    def arg(self, index: int) -> bytes:
        """Argument `index`; 0 is the name as the client spelt it. Counts from the front only."""
        if index < 0 or index >= self.argc:
            raise IndexError(f"argument {index} of {self.argc}")
        view = self.chunk
        if index == 1:
            return view[self.start + self.key : self.start + self.key_end]
        return self._take(index, index + 1)[0]

    def args(self) -> list[bytes]:
        """All arguments, the name first."""
        return self._take(0, self.argc)

    def _take(self, first: int, end: int) -> list[bytes]:
        """Arguments from `first` to before `end`, counted off: the frame is known to be whole."""
        found: list[bytes] = []
        view = self.chunk
        at = self.start
        index = -1
        while index < end:
            # A line: `*` and their number, then `$` and a size for each.
            at += 1
            size = 0
            while view[at] != 13:
                size = size * 10 + (view[at] - 48)
                at += 1
            at += 2
            if index >= 0:
                if index >= first:
                    found.append(view[at : at + size])
                at += size + 2
            index += 1
        return found

    def __repr__(self) -> str:
        # Arguments are users' data and stay out of logs and tracebacks.
        return f"<Request {self.name.decode('latin-1')} argc={self.argc}>"


def request(*args: bytes) -> Request:
    """The request that a client would have sent for `args`, the name first."""
    raw = encode_command(*args)
    requests = RequestScanner().feed(raw)
    assert len(requests) == 1, "what was encoded is one request"
    return requests[0]


class RequestScanner(Window):
    """Cuts a client's bytes into requests.

    It takes and refuses what networking.c does, with the same error texts. Where engines differ
    it is as strict as the strictest (Valkey 8.1: every line and argument must end in CR LF), so
    that nothing is relayed that one of them would hang up a shared connection for.
    """

    __slots__ = (
        "_argc",
        "_key",
        "_key_end",
        "_left",
        "_limits",
        "_max_bulk",
        "_max_inline",
        "_max_multibulk",
        "_name",
        "_spelt",
        "error",
    )

    def __init__(self, limits: Limits = LIMITS) -> None:
        super().__init__()
        self.error: ProtocolError | None = None
        # Of the request that is being read: arguments, and how many of them are still to come.
        self._argc = 0
        self._left = 0
        self._key = 0
        self._key_end = 0
        # The last name as it was spelt, and in upper case: most clients repeat themselves.
        self._spelt = b""
        self._name = b""
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
                self._argc = self._value
                self._key = self._key_end = 0
                if at == size:
                    break
            # Positions are kept from the frame's first byte, which may be in an earlier chunk.
            origin = start - self._base
            after = self._header(data, at + 1, size)
            if after <= 0 or view[at] != 36 or self._value < 0 or self._value > self._max_bulk:
                self._left = left
                self._refuse_bulk(data, start, at, size, after)
                return
            end = after + self._value
            if end + 2 > size:
                self._left = left
                self._set_aside(data, start, at, end + 2 - at)
                return
            if view[end] != 13 or view[end + 1] != 10:
                self.error = ProtocolError(_BAD_LINE_END)
                return
            if left == self._argc:
                if end - after != len(self._spelt) or not data.startswith(self._spelt, after):
                    self._spelt = view[after:end]
                    self._name = _upper(self._spelt)
                    if len(self._spelt) > _MAX_NAME:
                        self._spelt = b""
            elif left + 1 == self._argc:
                self._key = after - origin
                self._key_end = end - origin
            at = end + 2
            left -= 1
            if left == 0:
                requests.append(self._made(data, start, at))
                start = at
        self._left = left
        if left:
            self._set_aside(data, start, at, 0)

    def _made(self, data: bytes, start: int, end: int) -> Request:
        made = Request.__new__(Request)
        if self._base:
            # It began in an earlier chunk.
            made.chunk = self._whole(data, start, end)
            made.start = 0
            made.end = len(made.chunk)
        else:
            made.chunk = data
            made.start = start
            made.end = end
        made.argc = self._argc
        made.key = self._key
        made.key_end = self._key_end
        made.name = self._name
        if not self._spelt:
            # It may be long, and nobody else will send it.
            self._name = b""
        return made

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
