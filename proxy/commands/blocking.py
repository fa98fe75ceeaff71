"""Commands that wait: what each waits for, the form of it that tries once, and what a try says.

Pure. Facts are measured on Redis 6.2.14 and 7.0.15, Valkey 8.1.8 and 9.1.2: see
``tests/proxy/test_blocking.py``. Where servers differ, :class:`Engine` says which kind it is:
newer ones execute the command of a waiting client again as it stands, older ones serve it from
the key that became ready and look at no other.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ..resp import parse, request
from .complete import copy_keys
from .engine import Engine
from .keys import counted, streams, whole_number, xread_options

if TYPE_CHECKING:
    from ..resp import Request
    from .model import Command


class Waits(enum.Enum):
    """What a command waits for; the value is the type as TYPE names it."""

    LIST = "list"
    ZSET = "zset"
    STREAM = "stream"
    """XREAD: it takes nothing away, so all who wait are served."""
    GROUP = "stream of a group"
    """XREADGROUP: the clients of one group take from each other."""

    @property
    def type_name(self) -> bytes:
        return b"stream" if self is Waits.GROUP else self.value.encode()


# The shortest time that every server takes for one: Redis 6.2 rounds 0.001 down to 0, for ever.
_SHORTEST_S = b"0.002"
_SHORTEST_MS = b"1"
# What strtold reads and the servers take: no space, no infinity, nothing that is not a number.
_DECIMAL = re.compile(rb"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_HEXADECIMAL = re.compile(rb"[+-]?0[xX]([0-9a-fA-F]+\.?[0-9a-fA-F]*|\.[0-9a-fA-F]+)([pP][+-]?\d+)?")
# LLONG_MAX ms are too many, and so are those of a deadline that would be past it.
_TOO_LONG_MS = 2.0**63 - 1e14


class Form(NamedTuple):
    """How a command that waits is written.

    timeout_at: where its timeout stands. keys_at: the keys that it waits on, which are all but
    the destination of a move. of_key: the same command for one of these alone.
    """

    waits: Waits
    timeout_at: Callable[[Request], int]
    keys_at: Callable[[Request], Sequence[int]]
    of_key: Callable[[Request, bytes], list[bytes]]
    is_in_ms: bool = False

    def keys(self, req: Request) -> list[bytes]:
        """The keys it waits on, each once."""
        return list(dict.fromkeys(req.arg(i) for i in self.keys_at(req)))

    def timeout_s(self, req: Request, engine: Engine) -> float | None:
        """How long it waits; 0 is for ever, None is what the servers refuse."""
        at = self.timeout_at(req)
        if at >= req.argc:  # XREAD … BLOCK, and nothing behind it
            return None
        text = req.arg(at)
        if self.is_in_ms:
            whole = whole_number(text)
            return None if whole is None or whole < 0 else whole / 1000.0
        if _DECIMAL.fullmatch(text):
            ms = float(text) * 1000.0
        elif _HEXADECIMAL.fullmatch(text):
            ms = float.fromhex(text.decode()) * 1000.0
        else:
            return None
        if not -1.0 < ms < _TOO_LONG_MS:
            return None
        ms = math.floor(ms) if engine.rounds_timeouts_down else math.ceil(ms)
        return max(ms, 0) / 1000.0

    def shortest(self, req: Request, engine: Engine) -> Request:
        """The same with the shortest timeout; one that the servers refuse is left to them."""
        if self.timeout_s(req, engine) is None:
            return req
        return self.with_timeout(req, _SHORTEST_MS if self.is_in_ms else _SHORTEST_S)

    def lasting(self, req: Request, seconds: float) -> Request:
        """The same with a timeout of so long, or of a moment where that is over."""
        if self.is_in_ms:
            return self.with_timeout(req, b"%d" % max(math.ceil(seconds * 1000.0), 1))
        return self.with_timeout(req, b"%.3f" % max(seconds, 0.002))

    def with_timeout(self, req: Request, timeout: bytes) -> Request:
        args = req.args()
        args[self.timeout_at(req)] = timeout
        return request(*args)

    def one_key(self, req: Request, key: bytes) -> Request:
        """The same of one of its keys alone."""
        return req if len(self.keys_at(req)) == 1 else request(*self.of_key(req, key))


def _last(req: Request) -> int:
    return req.argc - 1


def _pop(req: Request, key: bytes) -> list[bytes]:
    return [req.arg(0), key, req.arg(req.argc - 1)]


def _all_but_last(req: Request) -> Sequence[int]:
    return range(1, req.argc - 1)


def _first(req: Request) -> Sequence[int]:
    return (1,)


def _as_it_is(req: Request, key: bytes) -> list[bytes]:
    return req.args()


_NUMBERED = counted(2, 3)


def _numbered_of_key(req: Request, key: bytes) -> list[bytes]:
    args = req.args()
    return [*args[:2], b"1", key, *args[3 + len(_NUMBERED(req)) :]]


def _block_at(req: Request) -> int:
    return xread_options(req)[b"BLOCK"] + 1


def _stream_of_key(req: Request, key: bytes) -> list[bytes]:
    args = req.args()
    at = list(streams(req))
    index = next(i for i in at if args[i] == key)
    return [*args[: at[0]], key, args[index + len(at)]]


_LIST_POP = Form(Waits.LIST, _last, _all_but_last, _pop)
_ZSET_POP = Form(Waits.ZSET, _last, _all_but_last, _pop)
_MOVE = Form(Waits.LIST, _last, _first, _as_it_is)

FORMS: dict[bytes, Form] = {
    b"BLPOP": _LIST_POP,
    b"BRPOP": _LIST_POP,
    b"BLMOVE": _MOVE,
    b"BRPOPLPUSH": _MOVE,
    b"BLMPOP": Form(Waits.LIST, lambda req: 1, _NUMBERED, _numbered_of_key),
    b"BZPOPMIN": _ZSET_POP,
    b"BZPOPMAX": _ZSET_POP,
    b"BZMPOP": Form(Waits.ZSET, lambda req: 1, _NUMBERED, _numbered_of_key),
    b"XREAD": Form(Waits.STREAM, _block_at, streams, _stream_of_key, is_in_ms=True),
    b"XREADGROUP": Form(Waits.GROUP, _block_at, streams, _stream_of_key, is_in_ms=True),
}


def group_of(req: Request) -> bytes:
    """Whose entries an XREADGROUP takes."""
    at = xread_options(req).get(b"GROUP")
    return b"" if at is None or at + 1 >= req.argc else req.arg(at + 1)


# -- the last id -----------------------------------------------------------------------------

_LAST = (b"$", b"+")


def of_last_id(req: Request) -> list[bytes]:
    """The keys of an XREAD whose id is "the last one": what that is has to be asked at once."""
    at = streams(req) if req.name == b"XREAD" else ()
    return [req.arg(i) for i in at if req.arg(i + len(at)) in _LAST]


def with_last_ids(req: Request, answers: Sequence[bytes]) -> Request:
    """The XREAD with ids in the places of "the last one": XINFO STREAM's answers, in that order."""
    args = req.args()
    at = streams(req)
    left = iter(answers)
    for i in at:
        if args[i + len(at)] in _LAST:
            args[i + len(at)] = _last_generated_id(parse(next(left)))
    return request(*args)


def _last_generated_id(info: Any) -> bytes:
    if isinstance(info, list):
        info = dict(zip(info[::2], info[1::2], strict=True))
    # An error: there is no such stream.
    return bytes(info[b"last-generated-id"]) if isinstance(info, dict) else b"0-0"


# -- what a try says --------------------------------------------------------------------------


class Verdict(enum.Enum):
    """What becomes of a waiting client whose try was answered by an error."""

    WAITS = "it waits on"
    LATER = "it waits on, and is tried for again in a while"
    ANSWERED = "the error is its answer"


NO_SUCH_GROUP = b"-NOGROUP the consumer group this client was blocked on no longer exists\r\n"
NO_SUCH_STREAM = b"-UNBLOCKED the stream key no longer exists\r\n"
UNBLOCKED = b"-UNBLOCKED client unblocked via CLIENT UNBLOCK\r\n"
_WRONG_TYPE = b"-WRONGTYPE"
# Of the server, and not of the command: a client that waits in a server sees nothing of it.
_FOR_A_WHILE = (
    b"-BUSY ", b"-CLUSTERDOWN", b"-LOADING", b"-MASTERDOWN", b"-MISCONF", b"-NOREPLICAS", b"-OOM",
    b"-READONLY", b"-TRYAGAIN",
)  # fmt: skip


def is_about_types(form: Form, req: Request, engine: Engine) -> bool:
    """Whether an error is understood only with the type of the key that became ready.

    Servers pass over a key of another type. The error may be about another one: one in front of
    it, where the whole command is executed again, or the destination of a move. And older servers
    tell a stream that is gone from a group that is.
    """
    if form.waits is Waits.GROUP:
        return not engine.reruns_blocked
    return form is _MOVE or (bool(engine.reruns_blocked) and len(form.keys_at(req)) > 1)


def judge(
    form: Form, req: Request, engine: Engine, error: bytes, type_name: bytes | None
) -> tuple[Verdict, bytes]:
    """What an error means to a client that has been waiting, and the bytes that it gets.

    type_name: what TYPE says of the key that became ready, where the user may ask.
    """
    if error.startswith(_FOR_A_WHILE):
        return Verdict.LATER, error
    if form.waits is Waits.GROUP:
        return _judge_group(engine, error, type_name)
    if not error.startswith(_WRONG_TYPE):
        return Verdict.ANSWERED, error
    is_of_another_key = is_about_types(form, req, engine) and type_name == form.waits.type_name
    return Verdict.ANSWERED if is_of_another_key else Verdict.WAITS, error


def _judge_group(engine: Engine, error: bytes, type_name: bytes | None) -> tuple[Verdict, bytes]:
    if engine.reruns_blocked or not error.startswith((_WRONG_TYPE, b"-NOGROUP")):
        return Verdict.ANSWERED, error
    if type_name is None or type_name == Waits.GROUP.type_name:
        return Verdict.ANSWERED, NO_SUCH_GROUP
    return Verdict.ANSWERED if engine.ends_readers_of_none else Verdict.WAITS, NO_SUCH_STREAM


# -- what a write brings ----------------------------------------------------------------------


class Push(NamedTuple):
    """What a write may bring to those who wait on its keys.

    most: how many of one kind it can serve; None: nobody knows. is_sure: unless it fails, it
    brings that many.
    """

    waits: frozenset[Waits]
    most: int | None = None
    is_sure: bool = False


_LISTS = frozenset((Waits.LIST,))
_ZSETS = frozenset((Waits.ZSET,))
_STREAMS = frozenset((Waits.STREAM, Waits.GROUP))
_GROUPS = frozenset((Waits.GROUP,))

ANYTHING = Push(frozenset(Waits))
"""Nobody knows what it did."""
ONE_ELEMENT = Push(_LISTS, 1)
GONE = Push(_GROUPS)
"""It may have removed a stream or a group that clients wait for."""

_FLAGS_OF_ZADD = (b"NX", b"XX", b"GT", b"LT", b"CH", b"INCR")

_PUSHES: dict[str, Push | Callable[[Request], Push] | None] = {
    "lpush": lambda req: Push(_LISTS, req.argc - 2, True),
    "rpush": lambda req: Push(_LISTS, req.argc - 2, True),
    "lpushx": lambda req: Push(_LISTS, req.argc - 2),
    "rpushx": lambda req: Push(_LISTS, req.argc - 2),
    "lmove": ONE_ELEMENT,
    "rpoplpush": ONE_ELEMENT,
    "blmove": ONE_ELEMENT,
    "brpoplpush": ONE_ELEMENT,
    "zadd": lambda req: Push(_ZSETS, (req.argc - 2) // 2, req.arg(2).upper() not in _FLAGS_OF_ZADD),
    "zincrby": Push(_ZSETS, 1, True),
    "geoadd": lambda req: Push(_ZSETS, (req.argc - 2) // 3),
    "xadd": lambda req: Push(_STREAMS, 1, req.arg(2) == b"*"),
    # What they store takes the place of whatever was there.
    **dict.fromkeys(("sort", "georadius", "georadiusbymember", "geosearchstore"), ANYTHING),
    **dict.fromkeys(("zunionstore", "zinterstore", "zdiffstore", "zrangestore"), ANYTHING),
    **dict.fromkeys(("rename", "renamenx", "copy", "move", "restore", "restore-asking"), ANYTHING),
    **dict.fromkeys(("swapdb",), ANYTHING),
    # Of a stream, and it brings nothing and takes no group away.
    **dict.fromkeys(("xack", "xdel", "xtrim", "xclaim", "xautoclaim", "xreadgroup"), None),
    **dict.fromkeys(("xreadgroup|block", "xsetid", "xgroup|create", "xgroup|setid"), None),
    **dict.fromkeys(("xgroup|createconsumer", "xgroup|delconsumer"), None),
}


def pushed(command: Command, req: Request) -> Push | None:
    """What a write brings to those who wait on its keys; None: nothing.

    A write that only the server knows may bring anything; any other may take a stream away.
    """
    found = _PUSHES.get(command.name, ANYTHING if command.effect is copy_keys else GONE)
    return found(req) if callable(found) else found


def together(pushes: Sequence[Push]) -> Push:
    """What several writes of one step bring."""
    if len(pushes) == 1:
        return pushes[0]
    waits = frozenset[Waits]().union(*(each.waits for each in pushes))
    numbers = [each.most for each in pushes]
    return Push(waits, None if None in numbers else sum(filter(None, numbers)))
