"""What a client's tracking is, and how an invalidation reads. Pure.

Owns the options of CLIENT TRACKING in a form that can be told to another store, and the frames
of invalidations in either protocol.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from .resp.encoder import NULL_BULK, bulk

# No connection has this id: a store says so of it in its own words.
NOBODY = b"9223372036854775807"
_PUSH = b">2\r\n" + bulk(b"invalidate")
_MESSAGE = b"*3\r\n" + bulk(b"message") + bulk(b"__redis__:invalidate")
_NULL = b"_\r\n"
# What stores send at a FLUSHALL: whatever was read may have changed.
EVERYTHING = _PUSH + _NULL
_BROKEN = re.compile(re.escape(b">2\r\n" + bulk(b"tracking-redir-broken")) + rb":\d+\r\n")
_REDIRECT = re.compile(re.escape(bulk(b"redirect")) + rb":[1-9]\d*\r\n")


class Options(NamedTuple):
    """What tracking is on with.

    words: the options without a value, as in the last CLIENT TRACKING ON. prefixes: those of all
    since it was off; has_all: and all keys. redirect: the client that has the invalidations, by
    the proxy's number.
    """

    words: tuple[bytes, ...] = ()
    prefixes: tuple[bytes, ...] = ()
    has_all: bool = False
    redirect: int | None = None

    @property
    def is_broadcast(self) -> bool:
        return b"BCAST" in self.words

    def commands(self, redirect: bytes | None) -> list[tuple[bytes, ...]]:
        """What brings a new connection to this; ``redirect`` is the store's number for it."""
        words = (b"CLIENT", b"TRACKING", b"ON", *self.words)
        if redirect is not None:
            words += (b"REDIRECT", redirect)
        commands = []
        if self.prefixes:
            prefixes = [word for each in self.prefixes for word in (b"PREFIX", each)]
            commands.append((*words, *prefixes))
        if not self.prefixes or self.has_all:
            # Behind the prefixes: a store refuses a prefix where it sends all keys already.
            commands.append(words)
        return commands

    def behind(self, old: Options | None) -> Options:
        """This, asked for where ``old`` was on: prefixes add up."""
        if old is None or not self.is_broadcast:
            return self
        return self._replace(
            prefixes=tuple(dict.fromkeys((*old.prefixes, *self.prefixes))),
            has_all=self.has_all or old.has_all,
        )


def parse_options(args: Sequence[bytes]) -> tuple[Options, list[int]]:
    """The options of a CLIENT TRACKING ON that a store takes, and where client ids stand in it.

    What a store would refuse is read as far as it goes.
    """
    words: list[bytes] = []
    prefixes: list[bytes] = []
    redirect: int | None = None
    ids: list[int] = []
    at = 0
    while at < len(args):
        word = args[at].upper()
        at += 1
        if word in (b"PREFIX", b"REDIRECT") and at < len(args):
            if word == b"PREFIX":
                prefixes.append(args[at])
            elif _ID.fullmatch(args[at]):
                ids.append(at)
                redirect = int(args[at])
            at += 1
        elif word in (b"BCAST", b"OPTIN", b"OPTOUT", b"NOLOOP"):
            words.append(word)
        else:
            break
    has_all = b"BCAST" in words and not prefixes
    return Options(tuple(dict.fromkeys(words)), tuple(prefixes), has_all, redirect), ids


_ID = re.compile(rb"-?[0-9]{1,18}")


def shown(options: Options | None, frame: bytes) -> bytes:
    """A push, or an answer of TRACKINGINFO, with the proxy's number for the store's."""
    if options is None or options.redirect is None:
        return frame
    if is_broken_redirect(frame):
        return frame[: frame.rindex(b":")] + b":%d\r\n" % options.redirect
    return _REDIRECT.sub(bulk(b"redirect") + b":%d\r\n" % options.redirect, frame)


def is_broken_redirect(frame: bytes) -> bool:
    """The client that invalidations were redirected to is gone."""
    return _BROKEN.fullmatch(frame) is not None


def invalidation(keys: Collection[bytes]) -> bytes:
    """The push that names them."""
    return _PUSH + b"*%d\r\n" % len(keys) + b"".join(bulk(key) for key in keys)


def as_message(frame: bytes) -> bytes:
    """An invalidation, as a client of RESP2 has it: a message of a channel."""
    value = frame.removeprefix(_PUSH)
    return _MESSAGE + (NULL_BULK if value == _NULL else value)


def is_invalidation(frame: bytes) -> bool:
    return frame.startswith(_PUSH)
