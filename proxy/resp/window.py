"""What is known of a frame that is not complete yet, and how its lengths are read.

Owns the bytes between two chunks. The work for a frame is proportional to its size, however it
is cut: what is parsed already is set aside and not looked at again, and while bytes are known
to be missing chunks are only collected. Never knows what a frame means.

This module is hot. It is plain Python that Cython compiles as it stands, typed by `window.pxd`;
loops over single bytes are there because compiled they are far cheaper than `find` and `int`.
A `view` is the same bytes under another name. Compiled it is a pointer: cheap to index and to
cut, and unchecked, so that every index is compared with the size first, and none is negative.
"""

from __future__ import annotations

from io import BytesIO

# Bytes that are known to be missing, or a frame has already, at which it is stored.
_BIG = 1024 * 1024
# Bytes a length may have: more digits than any limit, and no overflow when compiled.
_MAX_DIGITS = 18


class Window:
    """What both scanners keep of an unfinished frame between two chunks.

    `_parts` are its parsed bytes, `_base` how many. `_tail` are chunks not parsed yet, `_held`
    their size; parsing makes no progress before `_need` bytes of them are there, or, where a
    line is unfinished and `_need` is 0, before a CR or LF comes. `_value` is the number that
    `_header` read.

    A big frame is not in `_parts` and `_tail`: all of it is in `_store`, which grows in place, so
    that it is in memory once, and comes out of it without a copy. Then `_resume` is where the
    scan goes on, and `_rest` what came behind the bytes that were missing.
    """

    __slots__ = (
        "_base", "_held", "_need", "_parts", "_rest", "_resume", "_store", "_tail", "_value",
    )  # fmt: skip

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._base = 0
        self._tail: list[bytes] = []
        self._held = 0
        self._need = 0
        self._value = 0
        self._store: BytesIO | None = None
        self._resume = 0
        self._rest: bytes | None = None

    @property
    def pending(self) -> int:
        """Bytes held of a frame that is not complete."""
        return self._base + self._held

    def _gather(self, data: bytes, patience: int) -> bytes | None:
        """Everything unparsed, once it is worth parsing; `patience` bounds an unfinished line."""
        if self._store is not None:
            return self._stored(data, self._store)
        if not self._held:
            return data
        if self._need:
            is_enough = self._held + len(data) >= self._need
        else:
            is_enough = (
                b"\n" in data
                or b"\r" in data
                or self._tail[-1].endswith(b"\r")
                or self._held + len(data) > patience
            )
        self._tail.append(data)
        self._held += len(data)
        if not is_enough:
            return None
        data = b"".join(self._tail)
        self._tail.clear()
        self._held = self._need = 0
        return data

    def _stored(self, data: bytes, store: BytesIO) -> bytes | None:
        """The same for a big frame. What it gives begins with the frame, parsed up to `_resume`."""
        missing = self._need - self._held
        if len(data) < missing:
            store.write(data)
            self._held += len(data)
            return None
        if 0 < missing < len(data):
            # Nothing behind the frame, or to cut that off would be a copy of all of it.
            self._rest = data[missing:]
            data = data[:missing]
        store.write(data)
        self._store = None
        self._resume = self._base
        self._base = 0
        self._held = self._need = 0
        return store.getvalue()

    def is_amid(self, size: int) -> bool:
        """Whether an unfinished frame has more than `size` bytes, or is known to get them."""
        return self._need > size or self._base > size

    def _take_rest(self) -> bytes:
        rest, self._rest = self._rest, None
        assert rest is not None
        return rest

    def _set_aside(self, data: bytes, start: int, at: int, need: int) -> None:
        """Keeps the frame that began at `start` and is parsed up to `at` for the next chunk."""
        if need > _BIG or at - start > _BIG:
            self._store_all(data, start)
            self._base += at - start
            self._held = len(data) - at
            self._need = need
            return
        if at > start:
            self._parts.append(data[start:at])
            self._base += at - start
        if at < len(data):
            self._tail.append(data[at:])
            self._held = len(data) - at
        self._need = need

    def _store_all(self, data: bytes, start: int) -> None:
        if start == 0 and not self._base:
            # It is shared until the next write, and nobody else has it then: no copy.
            self._store = BytesIO(data)
            self._store.seek(len(data))
        else:
            self._store = BytesIO()
            self._store.writelines(self._parts)
            self._store.write(data[start:])
            self._parts.clear()

    def _whole(self, data: bytes, start: int, end: int) -> bytes:
        """The bytes of a frame that ends here."""
        if start == 0 and end == len(data):
            piece = data
        else:
            view = data
            piece = view[start:end]
        if not self._base:
            return piece
        self._parts.append(piece)
        raw = b"".join(self._parts)
        self._parts.clear()
        self._base = 0
        return raw

    def _header(self, data: bytes, at: int, size: int) -> int:
        """Reads the number of a line such as `$64`, from behind its type byte, into `_value`.

        Returns the position behind the line, 0 when its end is not there yet, -1 when it is no
        number, -2 when its CR is not followed by LF. As strict as `string2ll` in util.c: no
        plus, no leading zero, no blank.
        """
        view = data
        start = at
        value = 0
        while at < size:
            byte = view[at]
            if byte < 48 or byte > 57:
                break
            if at - start >= _MAX_DIGITS:
                break
            value = value * 10 + (byte - 48)
            at += 1
        if at + 1 < size and view[at] == 13 and view[at + 1] == 10:
            digits = at - start
            if digits == 1 or (digits and view[start] != 48):
                self._value = value
                return at + 2
        return self._odd_header(data, start)

    def _odd_header(self, data: bytes, start: int) -> int:
        """The rest of `_header`: unfinished, negative, wrong."""
        if data.startswith(b"-1\r\n", start):
            self._value = -1
            return start + 4
        end = data.find(b"\r", start)
        if end < 0 or end + 1 == len(data):
            return 0
        if data[end + 1] != 10:
            return -2
        digits = data[start + 1 : end]
        if data[start : start + 1] != b"-" or not digits.isdigit() or digits[:1] == b"0":
            return -1
        if len(digits) > _MAX_DIGITS:
            return -1
        self._value = -int(digits)
        return end + 2
