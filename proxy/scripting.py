"""EVAL, EVALSHA, FCALL and their kin, and what fills the store's memory of them.

Owns what each of them means to the mirror. A script's effect is never replayed: replaying differs
by time, chance and the order of members, and no reply need show it. The keys that it may have
written become unproven and are copied, also behind an error. Which keys these are the text tells
(:mod:`proxy.lua`), or the witness (:mod:`proxy.unnamed`); a script that only reads goes as a read.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .commands import Command, Kind
from .counts import CommandClass
from .keytable import Place
from .lane import Lane
from .lua import UNKNOWN, Script
from .ops import Barrier, Reaction, Write
from .own import select
from .resp import Request, encode_command, is_error, parse
from .scriptcopies import ScriptCopies
from .scripts import Scripts, places_written
from .sent import ERROR_BYTES
from .unnamed import Round, UnnamedCall
from .witness import Witness

if TYPE_CHECKING:
    from .server import Proxy
    from .session import Session

# Of the servers' own errors the only one that many clients live with: nothing ran.
NOSCRIPT = b"-NOSCRIPT No matching script. Please use EVAL.\r\n"
CALLS = ("eval", "evalsha", "fcall")
READ_ONLY_CALLS = ("eval_ro", "evalsha_ro", "fcall_ro")
# A script that holds up everybody is ended by these.
PAST_THE_GATE = ("script|kill", "function|kill", "function|stats")


class Scripting:
    """What all clients' scripts share."""

    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.scripts = Scripts(proxy.commands)
        self.copies = ScriptCopies(proxy, self.scripts, self.settle)
        self.witness = Witness(proxy)
        self.round = Round(proxy, self.witness)
        self._can_show = True
        # Of scripts that may last, by user, database and protocol.
        self._lanes: dict[tuple[tuple[bytes, bytes] | None, int, int], Lane] = {}

    def close(self) -> None:
        self.witness.close()
        self.copies.close()

    def verdict(self, command: Command, request: Request) -> Script:
        """What a call of a script may write. It remembers a body that comes along."""
        script = self._script(command, request)
        return script.read_only() if command.name in READ_ONLY_CALLS else script

    def _script(self, command: Command, request: Request) -> Script:
        if command.name in ("eval", "eval_ro"):
            return self.scripts.evaluate(request.arg(1))
        if command.name in ("fcall", "fcall_ro"):
            return self.scripts.function(request.arg(1))
        known = self.scripts.verdict(request.arg(1))
        if known is None:
            self._ask_for(request.arg(1))
        return known or UNKNOWN

    def lane(self, session: Session, script: Script) -> Lane:
        """Where a script goes: by itself if it may last, for a store answers nothing behind it.

        So what others send meanwhile is answered as the store does it: BUSY.
        """
        if not script.may_last or session.pinned is not None:
            return session.primary_lane()
        proxy = self.proxy
        of = (session.user, session.db, session.resp)
        lane = self._lanes.get(of)
        if lane is None or lane.is_lost or lane.side is not proxy.primary:
            if lane is not None and not lane.ops:
                lane.close()
            lane = self._lanes[of] = proxy.open_own(proxy.primary, session.user, session.resp)
            select(lane, session.db)
            session.uses_lanes = True
        return lane

    async def settle(self) -> None:
        """Every script that needed no ticket is answered, too. Raises ConnectionError."""
        await asyncio.gather(*(each.call(b"PING") for each in self._lanes.values() if each.ops))

    def is_unnamed(self, command: Command, request: Request) -> bool:
        """Whether it may write keys that nobody can name, and somebody has to know them."""
        return (
            command.name in CALLS
            and self.proxy.mirror is not None
            and self.verdict(command, request).written is None
        )

    def touched(self, db: int, command: Command, request: Request) -> Sequence[Place] | None:
        """The places that it may write, for a ticket; None: nobody can name them."""
        if command.name.startswith("function|"):
            # No call runs meanwhile, so that each is of one known library.
            return None
        if command.name not in CALLS:
            return ()
        script = self.verdict(command, request)
        if script.written is None:
            return None if self.proxy.mirror is not None else ()
        return places_written(script, db, request)

    def remember(self, command: Command, request: Request, frame: bytes) -> None:
        """What changes the store's memory of scripts was answered."""
        name = command.name
        if frame[0] in ERROR_BYTES:
            return
        if name == "script|load":
            self.scripts.load(request.arg(2))
            self._mirror(request, frame)
        elif name == "script|flush":
            self.scripts.flush()
            self._mirror(request, frame)
        elif name == "function|load":
            self.scripts.load_library(request.arg(request.argc - 1))
            self.copies.functions_changed()
        elif name == "function|delete":
            self.scripts.delete_library(request.arg(2))
            self.copies.functions_changed()
        elif name in ("function|flush", "function|restore"):
            # What a payload holds is seen when the libraries are copied.
            self.scripts.flush_libraries()
            self.copies.functions_changed()

    def _mirror(self, request: Request, frame: bytes) -> None:
        mirror = self.proxy.mirror
        if mirror is not None:
            mirror.append(0, request.raw, (), frame, "script")

    def _ask_for(self, sha: bytes) -> None:
        """Valkey 8 shows the body of a script that was loaded past us, or before."""
        if not self._can_show:
            return

        def shown(frame: bytes | None) -> None:
            if frame is None:
                return
            if not is_error(frame):
                self.scripts.load(parse(frame))
            elif not frame.startswith(b"-NOSCRIPT"):
                self._can_show = False

        lane = self.proxy.admin_lane(self.proxy.primary)
        lane.send(Reaction(shown), encode_command(b"SCRIPT", b"SHOW", sha))

    # -- the gate --------------------------------------------------------------------------

    def passes(self, session: Session, request: Request) -> bool:
        """Everything waits: whether this may go all the same. If not, the session is held."""
        proxy = self.proxy
        command = proxy.commands.lookup(request) if session.mode is None else None
        if command is not None and command.fits(request.argc):
            if command.name in PAST_THE_GATE:
                return True
            if command.kind in (Kind.READ, Kind.NODE) and self.round.is_running:
                # The primary's answer is right at any time, and BUSY if need be.
                return True
            if command.kind is Kind.SCRIPT and self.is_unnamed(command, request):
                if self.round.takes_more:
                    return True
                self.round.wait(session)
                return False
        session.hold()
        proxy.table.when_open(session.unhold)
        return False


class ScriptCall(Write):
    """A call of a script that writes these places at most."""

    __slots__ = ()

    def reply(self, frame: bytes) -> None:
        session = self.session
        if frame != NOSCRIPT or self.command.name == "eval":
            self._mark()
        session.proxy.table.release(self)
        session.reply(frame)

    def lost(self) -> None:
        session = self.session
        self._mark()
        session.proxy.table.release(self)
        session.lost()

    def _mark(self) -> None:
        proxy = self.session.proxy
        if proxy.mirror is not None:
            for place in self.places:
                proxy.table.mark_unproven(place)


class MemoryChange(Write):
    """SCRIPT LOAD or FLUSH."""

    __slots__ = ()

    def reply(self, frame: bytes) -> None:
        session = self.session
        session.proxy.scripting.remember(self.command, self.request, frame)
        session.proxy.table.release(self)
        session.reply(frame)


class LibraryChange(Barrier):
    """FUNCTION LOAD and its like: no call runs meanwhile, so that each is of one known library."""

    __slots__ = ()

    def reply(self, frame: bytes) -> None:
        self.session.proxy.scripting.remember(self.command, self.request, frame)
        self._done()
        self.session.reply(frame)

    def lost(self) -> None:
        scripting = self.session.proxy.scripting
        scripting.scripts.flush_libraries()
        scripting.copies.functions_changed()
        self._done()
        self.session.lost()


def serve(session: Session, command: Command, request: Request) -> bool:
    """A command of Kind.SCRIPT. False: it cannot go yet."""
    scripting = session.proxy.scripting
    name = command.name
    if name not in CALLS and name not in READ_ONLY_CALLS:
        return _serve_memory(session, command, request)
    script = scripting.verdict(command, request)
    round_ = scripting.round
    only_reads = script.written is not None and not script.written
    is_unnamed = script.written is None and session.proxy.mirror is not None
    if is_unnamed and not round_.takes_more and not round_.may_begin:
        round_.wait(session)
        return False
    lane = scripting.lane(session, script)
    if not session.use(lane):
        return False
    session.count(lane.side, CommandClass.READ if only_reads else CommandClass.WRITE)
    if only_reads:
        lane.send(session, request.raw)
        return True
    if is_unnamed:
        round_.join(UnnamedCall(round_, session, lane, request, script))
        return True
    places = () if script.written is None else places_written(script, session.db, request)
    call = ScriptCall()
    call.begin(session, lane, command, request, places, session.proxy.now())
    _acquire(call)
    return True


def _serve_memory(session: Session, command: Command, request: Request) -> bool:
    lane = session.primary_lane()
    if not session.use(lane):
        return False
    proxy = session.proxy
    session.count(lane.side, CommandClass.OTHER)
    if command.name.startswith("script|"):
        change = MemoryChange()
        change.begin(session, lane, command, request, (), proxy.now())
        _acquire(change)
    else:
        session.hold()
        proxy.table.close(LibraryChange(session, lane, command, request).go)
    return True


def _acquire(op: Write) -> None:
    proxy = op.session.proxy
    if proxy.table.acquire(op):
        op.dispatch()
    else:
        op.session.hold()
    if proxy.parking.waiting:
        proxy.parking.wrote(op.places, sessions=(op.session,), lane=op.lane)
