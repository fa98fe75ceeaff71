"""What stands in the FIFO of a lane: something that waits for one reply."""

from __future__ import annotations


class Op:
    """Base of all that is sent on a lane. Compiled, a reply reaches it without a lookup."""

    __slots__ = ()

    def reply(self, frame: bytes) -> None:
        """The raw reply frame, called in the order of sending."""
        raise NotImplementedError

    def lost(self) -> None:
        """The connection ended first: the outcome is unknown."""
        raise NotImplementedError
