"""What has to follow a flip: subscriptions, parked clients, scripts, tracked keys.

Owns the steps of it. The fence calls them in this order; who follows knows nothing of
gates, commits or of the others.
"""

from __future__ import annotations

from typing import Protocol

from .sides import Side


class NotPrepared(Exception):
    """What is needed on the other side is not there; says why, in words for the operator."""


class Follower(Protocol):
    """Something of the clients that lives on the primary's connections."""

    async def prepare(self, side: Side) -> list[str]:
        """Before the fence: have on ``side`` what will be needed there.

        Returns what stands in the way, in words for the operator; that refuses the flip.
        """

    async def settle(self) -> None:
        """Inside the fence, before the commit: what came before has reached the clients.

        Raises NotPrepared, ConnectionError: the flip is refused.
        """

    def flipped(self) -> None:
        """The other side is the primary, and nobody has sent anything to it yet."""

    def abandoned(self) -> None:
        """The flip was not done: what was prepared is not needed."""


class Nothing:
    """A follower that need not do anything; what others begin with."""

    async def prepare(self, side: Side) -> list[str]:
        return []

    async def settle(self) -> None:
        pass

    def flipped(self) -> None:
        pass

    def abandoned(self) -> None:
        pass
