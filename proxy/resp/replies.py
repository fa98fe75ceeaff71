"""Cuts a server's bytes into replies, RESP2 and RESP3 alike.

Owns the framing of replies: bytes in, whole replies out, each as the very bytes that arrived.
Never builds a value: that is `values`.

This module is hot: see `window` for how it is written, and `replies.pxd` for its C types.
"""

from __future__ import annotations

from .limits import LIMITS, ProtocolError
from .window import Window

# Most replies to writes are this one: it is not made anew.
_OK = b"+OK\r\n"


class ReplyScanner(Window):
    """Cuts a server's bytes into replies, RESP2 and RESP3 alike.

    An attribute (`|`) is not a reply: it is glued to the front of the one it belongs to. A push
    (`>`) is a frame of its own. What a line says is not looked at, only how long things are.
    """

    __slots__ = ("_left", "_max_nesting", "_outer")

    def __init__(self, max_nesting: int = LIMITS.max_nesting) -> None:
        super().__init__()
        # Elements still to come in the innermost aggregate, and in those around it.
        self._left = 0
        self._outer: list[int] = []
        self._max_nesting = max_nesting

    def feed(self, data: bytes) -> list[bytes]:
        """Takes the next bytes, returns the replies that are complete now, in order.

        Raises ProtocolError for what no server sends; the scanner is of no use after that.
        """
        frames: list[bytes] = []
        window = self._gather(data, 1 << 62)
        if window is not None:
            self._scan(window, frames)
            if self._rest is not None:
                window = None
                frames += self.feed(self._take_rest())
        return frames

    def _scan(self, data: bytes, frames: list[bytes]) -> None:
        view = data
        size = len(data)
        at = self._resume
        self._resume = 0
        start = 0
        need = 0
        left = self._left
        outer = self._outer
        while at < size:
            if left == 0:
                start = at
                left = 1
            byte = view[at]
            if byte in b"+-:_,#(":
                after = 0
                if byte == 58:
                    # Most integers are short, and a short one is read faster than searched.
                    after = self._header(data, at + 1, size)
                elif data.startswith(b"OK\r\n", at + 1):
                    after = at + 5
                    if start == at and not self._base:
                        frames.append(_OK)
                        at = start = after
                        left = 0
                        continue
                if after <= 0:
                    after = data.find(b"\r\n", at + 1) + 2
                    if after == 1:
                        break
                at = after
                left -= 1
            else:
                after = self._header(data, at + 1, size)
                if after <= 0:
                    if byte not in b"$*!=%~>|":
                        raise ProtocolError(f"no reply begins with byte {byte}", frames)
                    if after == 0:
                        break
                    raise ProtocolError("a reply's length is no number", frames)
                value = self._value
                if byte in b"$!=":
                    if value < 0:
                        if value != -1 or byte != 36:
                            raise ProtocolError("a reply's length is negative", frames)
                        at = after
                    else:
                        end = after + value + 2
                        if end > size:
                            need = end - at
                            break
                        if view[end - 2] != 13 or view[end - 1] != 10:
                            raise ProtocolError("a reply is longer than announced", frames)
                        at = end
                    left -= 1
                else:
                    if value < 0:
                        if value != -1 or byte != 42:
                            raise ProtocolError("a reply's length is negative", frames)
                        value = 0
                    if byte in b"*~>":
                        left -= 1
                    elif byte == 37:  # %
                        left -= 1
                        value *= 2
                    elif byte == 124:  # |
                        # The reply it belongs to still has to come: nothing is counted off.
                        value *= 2
                    else:
                        raise ProtocolError(f"no reply begins with byte {byte}", frames)
                    at = after
                    if value:
                        if len(outer) >= self._max_nesting:
                            raise ProtocolError("a reply is nested too deeply", frames)
                        outer.append(left)
                        left = value
            while left == 0 and outer:
                left = outer.pop()
            if left == 0:
                frames.append(self._whole(data, start, at))
                start = at
        self._left = left
        if left:
            self._set_aside(data, start, at, need)
