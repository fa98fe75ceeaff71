"""Random conversations with clients that wait: with a server, and through the proxy before it.

Several clients wait for one or more of a few keys, in both protocols; another one sends pipelines
of whatever may serve them, or get in the way. Who is served what, and what the pipelines are
answered, must be the same to the byte.
"""

from __future__ import annotations

import random

from tests.servers import Server, every_engine

from .clients import Client, Proxied, connected, started
from .test_blocking import equal
from .waits import settled

KEYS = ("a", "b", "c")
CLIENTS = 5
STEPS = 30
SEEDS = 8


class Story:
    """What is sent, step by step: (who, lines); the same for both."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.ids = 0

    def key(self) -> str:
        return self.random.choice(KEYS)

    def waits(self) -> str:
        """A command that waits."""
        key, other = self.key(), self.key()
        side = self.random.choice(("LEFT", "RIGHT"))
        return self.random.choice(
            (
                f"BLPOP {key} 0",
                f"BLPOP {key} {other} 0",
                f"BRPOP {key} {other} 0",
                f"BLMOVE {key} {other} {side} LEFT 0",
                f"BRPOPLPUSH {key} {other} 0",
                f"BLPOP {key} 0",
                f"BLMOVE {key} {other} {side} RIGHT 0",
                f"BZPOPMIN z{key} z{other} 0",
                f"XREAD BLOCK 0 STREAMS s{key} s{other} $ $",
                f"XREADGROUP GROUP g c{self.random.randrange(3)} COUNT 1 BLOCK 0 STREAMS s{key} >",
                f"XREADGROUP GROUP g c BLOCK 0 STREAMS s{key} s{other} > >",
            )
        )

    def act(self) -> str:
        """A command that serves somebody, or gets in the way."""
        key, other, number = self.key(), self.key(), self.random.randrange(100)
        self.ids += 1
        return self.random.choice(
            (
                f"RPUSH {key} {number}",
                f"LPUSH {key} {number} {number + 1}",
                f"RPUSH {key} {number}",
                f"RPUSHX {key} {number}",
                f"LPOP {key}",
                f"LLEN {key}",
                f"LMOVE {key} {other} LEFT RIGHT",
                f"RENAME {key} {other}",
                f"COPY {key} {other}",
                f"DEL {key}",
                f"SET {key} {number}",
                f"EXPIRE {key} 1000",
                f"EVAL return(redis.call('rpush',KEYS[1],{number})) 1 {key}",
                f"ZADD z{key} {number} m{number}",
                f"ZCARD z{key}",
                f"XADD s{key} {self.ids}-1 f {number}",
                f"XLEN s{key}",
                f"XGROUP CREATE s{key} g $ MKSTREAM",
                f"DEL s{key}",
                f"XGROUP DESTROY s{key} g",
            )
        )

    def acts(self) -> list[str]:
        """A pipeline of them; some of it in a block."""
        lines = [self.act() for _ in range(self.random.randrange(1, 5))]
        if self.random.random() < 0.25:
            lines = ["MULTI", *lines, "EXEC", self.act()]
        return lines


async def told(port: int, seed: int, proxied: Proxied | None = None) -> list[object]:
    """The story as it goes with one of the two: who heard what, step by step."""
    story = Story(seed)
    random = story.random
    heard: list[object] = []
    async with connected(*[port] * (CLIENTS + 2)) as (admin, actor, *clients):
        for each in (actor, *clients):
            if random.random() < 0.3:
                await each.call("HELLO 3")
        waiting: list[Client] = []
        idle = list(clients)
        await actor.calls(*(f"XGROUP CREATE s{key} g $ MKSTREAM" for key in KEYS))
        for _ in range(STEPS):
            if idle and random.random() < 0.5:
                client = idle.pop(random.randrange(len(idle)))
                waiting.append(client)
                line = story.waits()
                client.send(line)
                step: list[object] = [clients.index(client), line]
            else:
                lines = story.acts()
                step = [lines, await actor.calls(*lines)]
            await settled(proxied, admin, waiting)
            for client in [each for each in waiting if each.frames]:
                waiting.remove(client)
                idle.append(client)
                step.append((clients.index(client), client.frames))
                client.frames = []
            # Who hears first is not said; in which order they wait again must be the same.
            idle.sort(key=clients.index)
            heard.append(step)
    return heard


@every_engine
async def test_everybody_hears_what_the_server_would_say(server: Server, target: Server) -> None:
    proxied = await started(server, target)
    await proxied.start_mirror()
    try:
        for seed in range(SEEDS):
            server.cli("FLUSHALL")
            direct = await told(server.port, seed)
            server.cli("FLUSHALL")
            target.cli("FLUSHALL")
            through = await told(proxied.port, seed, proxied)
            for at, (one, other) in enumerate(zip(through, direct, strict=True)):
                before = "\n".join(map(str, through[:at]))
                assert one == other, f"seed {seed}\n{before}\nproxy  {one}\nserver {other}"
            assert await equal(proxied) == [], seed
            proxied.proxy.table.unproven.clear()
    finally:
        await proxied.close()
