"""CLIENT TRACKING, CACHING, TRACKINGINFO, GETREDIR and NO-TOUCH.

Owns how a client comes to a connection of its own, and off it. The store tracks what is read on
that connection, words everything and sends the invalidations, which are passed on as they come.

Of a REDIRECT the store knows a connection of ours for the client that is redirected to, and
what comes there is given to that client in its own protocol.

At a flip whatever was read from the old primary is tracked there, and nowhere else: everybody is
told to forget everything, before anything is read from the new one (:mod:`proxy.pinned`).
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from . import profile
from .caching import Caching
from .invalidations import NOBODY, Options, parse_options, shown
from .resp import Request, encode_command, is_error
from .resp.encoder import integer

if TYPE_CHECKING:
    from .pinned import Inbox, Pinned
    from .session import Session


def serve_tracking(session: Session, request: Request) -> bool:
    """CLIENT TRACKING. False: it cannot go yet."""
    if request.arg(2).upper() != b"ON":
        return profile.ask(session, request.raw, partial(_off, session))
    args = request.args()
    options, ids = parse_options(args[3:])
    pinned = session.proxy.pins.pin(session)
    inboxes = [session.proxy.pins.inbox(int(args[3 + at])) for at in ids]

    def ask(waiting: list[Inbox]) -> None:
        if waiting:
            waiting[0].wire.lane.when_settled(lambda failure: ask(waiting[1:]))
            return
        for at, inbox in zip(ids, inboxes, strict=True):
            number = None if inbox is None else inbox.wire.lane.client_id
            args[3 + at] = NOBODY if number is None else b"%d" % number
        pinned.ask(encode_command(*args), partial(_on, session, pinned, options))

    found = [inbox for inbox in inboxes if inbox is not None]
    for inbox in found:
        inbox.users.add(pinned)
    session.hold()
    pinned.is_asking = True
    ask(found)
    return True


def _on(session: Session, pinned: Pinned, options: Options, frame: bytes) -> None:
    if not is_error(frame):
        pinned.options = options.behind(pinned.options)
        pinned.is_broken = False
        pinned.take_over()
    session.proxy.pins.redirect(pinned, pinned.options.redirect if pinned.options else None)
    pinned.look()
    session.answer(frame)


def _off(session: Session, frame: bytes) -> None:
    pinned = session.pinned
    if pinned is not None and not is_error(frame):
        pinned.options = None
        session.proxy.pins.redirect(pinned, None)
        pinned.look()
    session.answer(frame)


def told(session: Session, request: Request, frame: bytes) -> bytes:
    """A CLIENT TRACKING of a block, without REDIRECT, was executed on the client's connection."""
    pinned = session.pinned
    if pinned is not None and not is_error(frame):
        is_on = request.arg(2).upper() == b"ON"
        options, _ = parse_options(request.args()[3:])
        pinned.options = options.behind(pinned.options) if is_on else None
        session.proxy.pins.redirect(pinned, None)
    return frame


def redirects(request: Request) -> bool:
    """Whether a CLIENT TRACKING names another client."""
    return bool(parse_options(request.args()[3:])[1])


def serve_no_touch(session: Session, request: Request) -> bool:
    """CLIENT NO-TOUCH. False: it cannot go yet."""
    if session.pinned is None and request.arg(2).upper() != b"ON":
        return profile.ask(session, request.raw, session.answer)
    pinned = session.proxy.pins.pin(session)

    def then(frame: bytes) -> None:
        if not is_error(frame):
            pinned.take_over()
        told_no_touch(session, request, frame)
        pinned.look()
        session.answer(frame)

    session.hold()
    pinned.ask(request.raw, then)
    return True


def told_no_touch(session: Session, request: Request, frame: bytes) -> bytes:
    """A CLIENT NO-TOUCH was executed on the client's connection."""
    if session.pinned is not None and not is_error(frame):
        session.pinned.leaves_no_trace = request.arg(2).upper() == b"ON"
    return frame


def serve_caching(session: Session, request: Request) -> bool:
    """CLIENT CACHING. False: it cannot go yet."""

    def then(frame: bytes) -> None:
        if not is_error(frame):
            session.mode = Caching(request.raw, session.mode)
        session.answer(frame)

    return profile.ask(session, request.raw, then)


def serve_info(session: Session, request: Request) -> bool:
    """CLIENT TRACKINGINFO. False: it cannot go yet."""
    return profile.ask(
        session, request.raw, lambda frame: session.answer(info_shown(session, request, frame))
    )


def info_shown(session: Session, request: Request, frame: bytes) -> bytes:
    """TRACKINGINFO as the client is told it."""
    return shown(options_of(session), frame)


def serve_redirect(session: Session, request: Request) -> bool:
    """CLIENT GETREDIR. False: it cannot go yet."""
    return profile.ask(
        session, request.raw, lambda frame: session.answer(redirect_shown(session, request, frame))
    )


def redirect_shown(session: Session, request: Request, frame: bytes) -> bytes:
    """GETREDIR as the client is told it."""
    options = options_of(session)
    if options is None or options.redirect is None or is_error(frame):
        return frame
    return integer(options.redirect)


def options_of(session: Session) -> Options | None:
    """What a client's tracking is on with; None: it is off."""
    return None if session.pinned is None else session.pinned.options
