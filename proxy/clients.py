"""CLIENT LIST, INFO, KILL and UNBLOCK: what one client asks of all.

Owns which of the proxy's clients a filter means, and the line that shows one. A store knows
only the proxy's connections, and must not end those; but it is asked first, with a form that
finds nobody, so that the user's rights and the words of mistakes are the store's. The line is
made after the store's own: the same fields in the same order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import takewhile
from typing import TYPE_CHECKING

from . import profile, tracking
from .commands import Command
from .commands.keys import whole_number
from .resp import Request, encode_command, is_error, parse
from .resp import request as made
from .resp.encoder import OK, integer, verbatim

if TYPE_CHECKING:
    from .server import Proxy
    from .session import Session

SYNTAX = b"-ERR syntax error\r\n"
# No client has this address.
NOBODY = b"0.0.0.0:0"
_NO_SUCH_CLIENT = b"-ERR No such client"
_TYPES = (b"NORMAL", b"PUBSUB", b"MASTER", b"PRIMARY", b"REPLICA", b"SLAVE")

_FILTERS = (
    b"ID", b"TYPE", b"ADDR", b"LADDR", b"USER", b"MAXAGE", b"NAME", b"IDLE", b"FLAGS", b"LIB-NAME",
    b"LIB-VER", b"DB", b"CAPA", b"IP",
)  # fmt: skip

Chooses = Callable[["Session"], bool]


# -- CLIENT LIST and INFO ------------------------------------------------------------------------


def serve_info(session: Session, request: Request) -> bool:
    """CLIENT INFO. False: it cannot go yet."""

    return profile.ask(
        session, request.raw, lambda frame: session.answer(info_shown(session, request, frame))
    )


def info_shown(session: Session, request: Request, frame: bytes, queued: int = -1) -> bytes:
    """What the client is told when the store answers so for the connection.

    queued: how many commands the block has that is executed at the moment; -1: there is none.
    """
    return frame if is_error(frame) else _shown([session], frame, session, request, queued)


def serve_list(session: Session, request: Request) -> bool:
    """CLIENT LIST. False: it cannot go yet."""
    asked = _list_that_finds_few(request)

    def judged(frame: bytes) -> None:
        """The store takes the filters: now the line that ours are made after."""
        if is_error(frame):
            session.answer(frame)
        elif not profile.ask(session, _line_of_the_lane(session), listed):
            raise AssertionError("the lane was ready a moment ago")

    def listed(frame: bytes) -> None:
        if not is_error(frame):
            chooses = filters(session, request, is_kill=False)
            if chooses is None:
                frame = SYNTAX
            else:
                found = _chosen(session.proxy, chooses)
                frame = _shown(found, frame, session, request)
        session.answer(frame)

    if asked is None:
        return profile.ask(session, _line_of_the_lane(session), listed)
    return profile.ask(session, asked, judged)


def _line_of_the_lane(session: Session) -> bytes:
    number = session.primary_lane().client_id
    if number is None:  # The user may not ask for it.
        return encode_command(b"CLIENT", b"LIST", b"TYPE", b"normal")
    return encode_command(b"CLIENT", b"LIST", b"ID", b"%d" % number)


def _list_that_finds_few(request: Request) -> bytes | None:
    """What shows how the store likes the filters; None: it is known to."""
    args = request.args()[2:]
    if not args or (len(args) == 2 and args[0].upper() == b"TYPE" and args[1].upper() in _TYPES):
        return None
    if args[0].upper() in (b"ID", b"TYPE"):
        return request.raw
    # In front, so that the end of the command is what it was.
    return encode_command(b"CLIENT", b"LIST", b"ADDR", NOBODY, *args)


def _chosen(proxy: Proxy, chooses: Chooses) -> list[Session]:
    found = [each for each in proxy.sessions if not each.is_closed and chooses(each)]
    return sorted(found, key=lambda each: each.id)


def _shown(
    sessions: Iterable[Session], frame: bytes, asking: Session, request: Request, queued: int = -1
) -> bytes:
    """Lines like the one in the store's ``frame``."""
    text = parse(frame)
    pairs = [field.partition(b"=")[::2] for field in text.partition(b"\n")[0].split(b" ")]
    said = b"exec" if queued >= 0 else _name_of(asking.proxy.commands.lookup(request))
    lines = [
        _line(pairs, _fields(each, said, queued) if each is asking else _fields(each))
        for each in sessions
    ]
    return verbatim(b"".join(lines), asking.resp)


def _line(pairs: Sequence[tuple[bytes, bytes]], known: dict[bytes, bytes]) -> bytes:
    """One client, in the store's form."""
    if not any(field == b"ssub" for field, _ in pairs):
        # Redis 6 names no subcommands.
        known[b"cmd"] = known[b"cmd"].partition(b"|")[0]
    shown = [b"%b=%b" % (field, known.get(field, like)) for field, like in pairs]
    return b" ".join(shown) + b"\n"


def _fields(session: Session, said: bytes | None = None, queued: int = -1) -> dict[bytes, bytes]:
    """What is known of a client, by the names that stores give it.

    said: what it is asking at the moment, rather than the last that it sent. queued: see
    :func:`info_shown`.
    """
    about = session.profile
    now = session.proxy.now()
    transport = session.transport
    waiting = transport.get_write_buffer_size() if transport is not None else 0
    fd = transport.get_extra_info("socket").fileno() if transport is not None else -1
    channels, patterns, shards = _subscriptions(session)
    options = tracking.options_of(session)
    redirect = -1 if options is None else options.redirect or 0
    if session.mode is not None:
        queued = max(queued, session.mode.queued)
    watches = session.borrowed is not None and session.borrowed.watches
    numbers = {
        b"id": session.id, b"fd": fd, b"age": int(now - about.connected_at),
        b"idle": int(now - session.heard_at), b"db": session.db, b"sub": channels,
        b"psub": patterns, b"ssub": shards, b"multi": queued, b"watch": watches,
        b"qbuf": 0, b"qbuf-free": 0, b"argv-mem": 0, b"multi-mem": 0, b"obl": 0, b"oll": 0,
        b"omem": waiting, b"redir": redirect, b"resp": session.resp,
    }  # fmt: skip
    return {name: b"%d" % number for name, number in numbers.items()} | {
        b"addr": address(session),
        b"laddr": address(session, "sockname"),
        b"name": about.name,
        b"flags": _flags(session, channels + patterns + shards > 0, queued >= 0),
        b"capa": about.capabilities,
        b"cmd": said or _name_of(session.last),
        b"user": user_of(session),
        b"lib-name": about.lib_name,
        b"lib-ver": about.lib_ver,
    }


def address(session: Session, end: str = "peername") -> bytes:
    """``host:port`` of the client, or (``sockname``) of the proxy, as stores write it."""
    name = session.transport.get_extra_info(end) if session.transport is not None else None
    if not isinstance(name, tuple):
        return b""
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"{host}:{name[1]}".encode()


def user_of(session: Session) -> bytes:
    return b"default" if session.user is None else session.user[0]


def _subscriptions(session: Session) -> tuple[int, int, int]:
    return (0, 0, 0) if session.subscriber is None else session.subscriber.counts()


def _is_subscribed(session: Session) -> bool:
    return any(_subscriptions(session))


def _flags(session: Session, is_subscribed: bool, is_in_multi: bool) -> bytes:
    about = session.profile
    pinned, waiter = session.pinned, session.waiter
    options = None if pinned is None else pinned.options
    holds = (
        (b"P", is_subscribed),
        (b"x", is_in_multi),
        (b"b", waiter is not None and not waiter.is_gone),
        (b"t", options is not None),
        (b"R", pinned is not None and pinned.is_broken),
        (b"B", options is not None and options.is_broadcast),
        (b"e", about.stays),
        (b"T", pinned is not None and pinned.leaves_no_trace),
    )
    return b"".join(letter for letter, is_so in holds if is_so) or b"N"


def _name_of(command: Command | None) -> bytes:
    return b"NULL" if command is None else command.name.encode()


# -- filters -------------------------------------------------------------------------------------


def filters(session: Session, request: Request, *, is_kill: bool) -> Chooses | None:
    """Which clients the options mean; None: there is one that only the store knows."""
    skips_itself = is_kill
    # Of an option that is given twice the last one counts, but for Valkey's IDs.
    wanted: dict[bytes, list[bytes]] = {}
    for option, values in _options(request):
        if option == b"SKIPME":
            skips_itself = values[0].upper() == b"YES"
        elif option.removeprefix(b"NOT-") not in _FILTERS:
            return None
        elif is_kill and option == b"ID" and values == [b"0"]:
            # Redis 6 takes it for no filter; the others refuse it.
            wanted.pop(option, None)
        elif option == b"ID" and _is_valkey(session.proxy):
            wanted[option] = wanted.get(option, []) + values
        else:
            wanted[option] = values

    def chooses(each: Session) -> bool:
        if skips_itself and each is session:
            return False
        return all(
            _meets(option.removeprefix(b"NOT-"), values, each) is not option.startswith(b"NOT-")
            for option, values in wanted.items()
        )

    return chooses


def _options(request: Request) -> Iterator[tuple[bytes, list[bytes]]]:
    """Each option of a LIST or KILL with its values: of IDs there may be several, else one.

    No value for an option at the end that misses it.
    """
    args = request.args()
    at = 2
    while at < len(args):
        option = args[at].upper()
        values = args[at + 1 : at + 2]
        if option in (b"ID", b"NOT-ID"):
            values = list(takewhile(bytes.isdigit, args[at + 1 :])) or values
        yield option, values
        at += 1 + len(values)


def _is_valkey(proxy: Proxy) -> bool:
    return proxy.commands.lookup(made(b"CLIENT", b"CAPA", b"")) is not None


def _meets(option: bytes, values: Sequence[bytes], session: Session) -> bool:
    """Whether a filter holds of a client. The store has seen that the values are in order."""
    value = values[0]
    # These cheaply: there may be many clients.
    if option == b"ID":
        return b"%d" % session.id in values
    if option == b"ADDR":
        return address(session) == value
    if option == b"USER":
        return user_of(session) == value
    fields = _fields(session)
    if option == b"TYPE":
        return value.upper() == (b"PUBSUB" if _is_subscribed(session) else b"NORMAL")
    if option in (b"MAXAGE", b"IDLE"):
        return int(fields[b"age" if option == b"MAXAGE" else b"idle"]) >= int(value)
    if option in (b"FLAGS", b"CAPA"):
        return set(fields[option.lower()]) >= set(value)
    if option == b"IP":
        return fields[b"addr"].rpartition(b":")[0].strip(b"[]") == value.strip(b"[]")
    return fields[option.lower()] == value


# -- CLIENT KILL and UNBLOCK ---------------------------------------------------------------------


def serve_kill(session: Session, request: Request) -> bool:
    """CLIENT KILL. False: it cannot go yet."""
    return profile.ask(
        session,
        kill_that_finds_nobody(request),
        lambda frame: session.answer(killed(session, request, frame)),
    )


def killed(session: Session, request: Request, frame: bytes) -> bytes:
    """End who is meant, if the store's answer to the other form lets it be; what is told of it."""
    if request.argc == 3:
        wanted = request.arg(2)
        found = _chosen(session.proxy, lambda each: address(each) == wanted)
        if not found or not frame.startswith(_NO_SUCH_CLIENT):
            return frame
        answer = OK
    elif is_error(frame):
        return frame
    else:
        chooses = filters(session, request, is_kill=True)
        if chooses is None:
            return SYNTAX
        found = _chosen(session.proxy, chooses)
        answer = integer(len(found))
    for each in found:
        each.backlog.clear()
        # Behind the answer: one of them may be the client that asked.
        asyncio.get_running_loop().call_soon(each.close)
    return answer


def kill_that_finds_nobody(request: Request) -> bytes:
    """The same options, and two that no client meets.

    The last one given of an option counts, so they stand at the end; but in front of an option
    without a value, which would take one of them for it.
    """
    if request.argc == 3:
        return encode_command(b"CLIENT", b"KILL", NOBODY)
    args = request.args()
    is_cut_off = not all(values for _, values in _options(request))
    end = len(args) - 1 if is_cut_off else len(args)
    nobody = (b"LADDR", NOBODY, b"ADDR", NOBODY)
    return encode_command(*args[:end], *nobody, *args[end:])


def serve_unblock(session: Session, request: Request) -> bool:
    """CLIENT UNBLOCK. False: it cannot go yet."""
    args = request.args()
    number = whole_number(args[2])
    if number is not None and abs(number) < 2**63:
        # Of one that waits in the proxy the store knows nothing, and this number nobody has.
        args[2] = b"0"

    def then(frame: bytes) -> None:
        if is_error(frame) or number is None:
            session.answer(frame)
            return
        session.hold()
        is_wrong = request.argc > 3 and args[3].upper() == b"ERROR"
        session.proxy.parking.unblock(number, is_wrong, told)

    def told(was_waiting: bool) -> None:
        session.answer(integer(was_waiting))
        session.unhold()

    return profile.ask(session, encode_command(*args), then)
