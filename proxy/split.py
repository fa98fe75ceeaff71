"""Reads of one client that are under way on both sides at once.

Owns their order: replies are delivered in the order of the requests, and what the client sees is
what the primary alone could have answered (design, section 4). If nobody wrote the keys of a read
on the secondary since it was sent, its answer is the primary's at every moment until it is
delivered. So it is also right at a moment between those in which the primary executed the client's
reads before it and behind it. If somebody did, or the secondary has failed, the primary is asked,
and for all later reads as well: what they were answered is older than what the first one will see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .fifo import Fifo
from .keytable import Place
from .op import Op
from .resp.requests import Request

if TYPE_CHECKING:
    from .plane import Client

# Reads of one client that are under way so. More wait: each holds its reply until its turn.
MAX_SPLIT = 1024
# Bytes of replies that wait for their turn, past each of which the client is weighed again.
WEIGHED_EACH = 64 * 1024


class SplitRead(Op):
    """One read of a :class:`Split`: on the secondary (then its place is known, or its places), or
    on the primary.

    split: None once nobody waits for its reply. frame: the reply that waits for its turn. since:
    the table's count of touches when it was sent.
    """

    __slots__ = ("frame", "place", "places", "request", "since", "split")

    split: Split | None
    request: Request
    frame: bytes | None
    place: Place | None
    places: Sequence[Place] | None
    since: int

    def reply(self, frame: bytes) -> None:
        split = self.split
        if split is not None:
            self.frame = frame
            split.answered(self, frame)

    def lost(self) -> None:
        split = self.split
        if split is None:
            return
        if self.is_shifted():
            self.frame = b"-"
            split.answered(self, b"-")
        else:
            split.client.lost()

    def is_shifted(self) -> bool:
        """Whether the secondary was asked."""
        return self.place is not None or self.places is not None

    def is_doubtful(self) -> bool:
        """Whether the answer in `frame` may not be the primary's now."""
        if not self.is_shifted():
            return False
        split = self.split
        assert self.frame is not None
        assert split is not None
        first = self.frame[0]
        if first in (45, 33):  # ERROR_BYTES: an error of the secondary is never shown.
            return True
        touches = split.touches
        if touches.count == self.since:
            return False
        if self.place is not None:
            return touches.has_touched(self.place, self.since)
        assert self.places is not None
        for place in self.places:  # noqa: SIM110  a generator cannot be compiled into a loop
            if touches.has_touched(place, self.since):
                return True
        return False


class Split:
    """See the module's docstring. ``reads``: all of a client's from the oldest one on the secondary
    that is not delivered; ``size``: how many, and ``most`` at
    once; ``held``: bytes of their replies."""

    __slots__ = ("_weighed", "client", "held", "most", "reads", "size", "touches")

    def __init__(self, client: Client) -> None:
        self.client = client
        self.reads = Fifo()
        self.size = 0
        self.most = MAX_SPLIT
        self.held = 0
        self._weighed = WEIGHED_EACH
        self.touches = client.plane.table.touches

    def ask(self, request: Request) -> SplitRead:
        """A read that the primary is to be sent now, behind others."""
        read = SplitRead()
        read.split = self
        read.request = request
        read.frame = None
        read.place = None
        read.places = None
        self.reads.append(read)
        self.size += 1
        return read

    def shift(
        self, request: Request, place: Place | None, places: Sequence[Place] | None
    ) -> SplitRead:
        """A read that the secondary is to be sent now: of one place, or of several, all settled."""
        read = self.ask(request)
        read.place = place
        read.places = places
        read.since = self.touches.count
        return read

    def answered(self, read: SplitRead, frame: bytes) -> None:
        """A reply has come. It waits for those before it; the oldest has all the others go on."""
        self.held += len(frame)
        if self.held > self._weighed:
            self._weighed = self.held + WEIGHED_EACH
            self.client.weigh()
        if self.reads.peek() is read:
            self.client.soil()

    def deliver(self) -> None:
        """Behind a batch of replies: give the client those whose turn it is."""
        client = self.client
        reads = self.reads
        # As many are outstanding as there are reads here: all that was sent before is answered.
        while self.size and client.outstanding == self.size:
            read: SplitRead = reads.peek()
            frame = read.frame
            if frame is None:
                break
            if read.is_doubtful():
                self._ask_again()
                return
            reads.popleft()
            self.size -= 1
            self.held -= len(frame)
            read.split = None
            client.reply(frame)
        if not self.size:
            self._weighed = WEIGHED_EACH

    def _ask_again(self) -> None:
        """Ask the primary for the oldest, and for all behind it: their answers are older."""
        client = self.client
        old = self.reads.items()
        self.clear()
        client.plane.stats.reads_asked_again += len(old)
        for read in [self.ask(each.request) for each in old]:
            # If the lane is lost, so is the client, and nobody waits for the rest.
            if read.split is self:
                client.ask_primary(read, read.request)

    def clear(self) -> None:
        """Nobody waits for what is under way."""
        reads = self.reads.items()
        self.reads.clear()
        self.size = self.held = 0
        for read in reads:
            read.split = None
