"""Conversations with clients that wait: who waits in which order, and what others do meanwhile.

The server's own answers are what is right, so a conversation is held with the server and with a
proxy before it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .clients import Client, Proxied, connected


class Wait(NamedTuple):
    """setup: before anybody waits. waiters: each a client of its own, in order of arrival; with
    ``;`` what it sends in front. acts: of another client, one by one."""

    waiters: Sequence[str]
    acts: Sequence[str]
    setup: Sequence[str] = ()


GROUP = ["XGROUP CREATE s g $ MKSTREAM"]
READS = "XREADGROUP GROUP g {} {}BLOCK 0 STREAMS s >"
READER = READS.format("c1", "")
EACH_ONE = [READS.format("c1", "COUNT 1 "), READS.format("c2", "COUNT 1 "), READER]

LISTS: dict[str, Wait] = {
    "a push": Wait(["BLPOP k 0"], ["RPUSH k a b", "LRANGE k 0 -1"]),
    "the right end": Wait(["BRPOP k 0"], ["RPUSH k a b", "LRANGE k 0 -1"]),
    "as many as there are": Wait(["BLPOP k 0", "BRPOP k 0", "BLPOP k 0"], ["RPUSH k a b"]),
    "in order of arrival": Wait(["BLPOP k 0"] * 3, ["RPUSH k a", "LPUSH k b c"]),
    "push and pop in one block": Wait(["BLPOP k 0"], ["MULTI", "RPUSH k a", "LPOP k", "EXEC"]),
    "pushes in one block": Wait(
        ["BLPOP k 0", "BRPOP k 0"], ["MULTI", "RPUSH k a", "RPUSH k b", "RPUSH k c", "EXEC"]
    ),
    "a block that is discarded": Wait(["BLPOP k 0"], ["MULTI", "RPUSH k a", "DISCARD"]),
    "another database": Wait(["SELECT 1;BLPOP k 0"], ["RPUSH k a", "SELECT 1", "RPUSH k b"]),
    "databases in one block": Wait(
        ["BLPOP k 0", "SELECT 1;BLPOP k 0"],
        ["MULTI", "RPUSH k a", "SELECT 1", "RPUSH k b", "SELECT 0", "EXEC"],
    ),
    "keys in one block, the later ones first": Wait(
        ["BLPOP k l 0"], ["MULTI", "RPUSH l b", "RPUSH k a", "EXEC", "LRANGE l 0 -1"]
    ),
    "a key of another type in front": Wait(["BLPOP k l 0"], ["SET k x", "RPUSH l b"]),
    "and nothing behind it": Wait(
        ["BLPOP k l 0"], ["SET k x", "MULTI", "RPUSH l b", "LPOP l", "EXEC"]
    ),
    "a key that becomes a string": Wait(["BLPOP k 0"], ["SET k x", "RPUSH k a"]),
    "and a list behind that": Wait(["BLPOP k 0"], ["SET k x", "DEL k", "RPUSH k a"]),
    "a second key": Wait(["BLPOP k l 0", "BLPOP l 0"], ["RPUSH l a", "RPUSH l b"]),
    "a key twice": Wait(["BLPOP k k 0"], ["RPUSH k a"]),
    "lists and sorted sets": Wait(["BZPOPMIN k 0", "BLPOP k 0"], ["RPUSH k a"]),
    "a script": Wait(
        ["BLPOP k 0", "BRPOP k 0"],
        ["EVAL redis.call('rpush',KEYS[1],1,2,3);return(redis.call('llen',KEYS[1])) 1 k"],
    ),
    "a script that names no keys": Wait(
        ["BLPOP k 0", "BLPOP k l 0"],
        ["EVAL redis.call('rpush',ARGV[1],1,2,3);return(redis.call('llen',ARGV[1])) 0 k"],
    ),
    "a script in a block": Wait(
        ["BLPOP k 0", "BLPOP k l 0"],
        ["MULTI", "EVAL return(redis.call('rpush',KEYS[1],1,2,3)) 1 k", "LPOP k", "EXEC"],
    ),
    "rename": Wait(["BLPOP k 0", "BLPOP k 0"], ["RENAME x k", "LRANGE k 0 -1"], ["RPUSH x a b c"]),
    "rename of nothing": Wait(["BLPOP k 0"], ["RENAME x k", "RPUSH k a"]),
    "copy": Wait(["BLPOP k 0"], ["COPY x k", "LRANGE k 0 -1"], ["RPUSH x a b"]),
    "sort": Wait(["BLPOP k 0"], ["SORT x STORE k", "LRANGE k 0 -1"], ["RPUSH x 2 1"]),
    "lmove": Wait(["BLPOP k 0"], ["LMOVE x k LEFT LEFT"], ["RPUSH x a b"]),
    "lmove of nothing": Wait(["BLPOP k 0"], ["LMOVE x k LEFT LEFT", "RPUSH k a"]),
    "pushx": Wait(["BLPOP k 0"], ["RPUSHX k a", "LPUSHX k b", "RPUSH k c"]),
    "move": Wait(["BLPOP k 0"], ["SELECT 1", "RPUSH k a b", "MOVE k 0", "SELECT 0", "LLEN k"]),
    "swapdb": Wait(["BLPOP k 0"], ["SELECT 1", "RPUSH k a b", "SWAPDB 0 1", "LLEN k"]),
    "blmpop": Wait(
        ["BLMPOP 0 2 k l LEFT COUNT 2", "BLMPOP 0 1 l RIGHT"],
        ["RPUSH l a b c d", "LRANGE l 0 -1"],
    ),
    "blmpop, keys in one block": Wait(
        ["BLMPOP 0 2 k l LEFT COUNT 2"], ["MULTI", "RPUSH l a b c", "RPUSH k x", "EXEC"]
    ),
}  # fmt: skip

MOVES: dict[str, Wait] = {
    "a move": Wait(["BLMOVE k l LEFT RIGHT 0"], ["RPUSH k a b", "LRANGE l 0 -1"]),
    "brpoplpush": Wait(["BRPOPLPUSH k l 0"], ["RPUSH k a b", "LRANGE l 0 -1"]),
    "moves in a chain": Wait(
        ["BLPOP m 0", "BLMOVE l m LEFT RIGHT 0", "BLMOVE k l LEFT RIGHT 0"], ["RPUSH k a"]
    ),
    "moves in a chain, backwards": Wait(
        ["BLMOVE k l LEFT RIGHT 0", "BLMOVE l m LEFT RIGHT 0", "BLPOP m 0"], ["RPUSH k a"]
    ),
    "moves in a circle": Wait(
        ["BLMOVE k l LEFT RIGHT 0", "BLMOVE l k LEFT RIGHT 0"], ["RPUSH k a", "LRANGE k 0 -1"]
    ),
    "a move onto itself": Wait(
        ["BLMOVE k k LEFT RIGHT 0", "BLPOP k 0"], ["RPUSH k a b", "LRANGE k 0 -1"]
    ),
    "a move that arrives": Wait(["BLPOP l 0", "BLMOVE k l LEFT LEFT 0"], ["RPUSH k a b"]),
    "a move from what is there": Wait(["BLPOP l 0"], ["BLMOVE k l LEFT LEFT 0"], ["RPUSH k a"]),
    "a destination of another type": Wait(
        ["BLMOVE k d LEFT RIGHT 0", "BLPOP k 0"], ["SET d x", "RPUSH k a"]
    ),
    "a source of another type": Wait(["BLMOVE k d LEFT RIGHT 0"], ["SET k x", "DEL k"]),
}  # fmt: skip

SORTED_SETS: dict[str, Wait] = {
    "zadd": Wait(["BZPOPMIN k 0", "BZPOPMAX k 0"], ["ZADD k 1 a 2 b 3 c", "ZRANGE k 0 -1"]),
    "zadd of what is not there": Wait(["BZPOPMIN k 0"], ["ZADD k XX 1 a", "ZADD k NX 1 b"]),
    "zadd, keys in one block": Wait(
        ["BZPOPMIN k l 0"], ["MULTI", "ZADD l 1 a", "ZADD k 2 b", "EXEC"]
    ),
    "zincrby": Wait(["BZPOPMIN k 0"], ["ZINCRBY k 1.5 a"]),
    "geoadd": Wait(["BZPOPMIN k 0"], ["GEOADD k 1 1 a"]),
    "zunionstore": Wait(["BZPOPMIN k 0"], ["ZUNIONSTORE k 1 x"], ["ZADD x 1 a 2 b"]),
    "zrangestore": Wait(["BZPOPMIN k 0"], ["ZRANGESTORE k x 0 -1"], ["ZADD x 1 a 2 b"]),
    "georadius": Wait(["BZPOPMIN k 0"], ["GEORADIUS x 1 1 9 km STORE k"], ["GEOADD x 1 1 a"]),
    "bzmpop": Wait(
        ["BZMPOP 0 2 k l MIN COUNT 2", "BZMPOP 0 1 l MAX"], ["ZADD l 1 a 2 b 3 c", "ZCARD l"]
    ),
}  # fmt: skip

STREAMS: dict[str, Wait] = {
    "xread from the end": Wait(
        ["XREAD BLOCK 0 STREAMS s $", "XREAD BLOCK 0 STREAMS s 5-1"], ["XADD s 5-2 c d"],
        ["XADD s 5-1 a b"],
    ),
    "xread of no stream": Wait(["XREAD BLOCK 0 STREAMS s $"], ["XADD s 5-2 c d"]),
    "xread from behind the end": Wait(
        ["XREAD BLOCK 0 STREAMS s 7-0"], ["XADD s 5-2 c d", "XADD s 7-1 e f"]
    ),
    "xread of two": Wait(
        ["XREAD BLOCK 0 STREAMS s t $ $"],
        ["MULTI", "XADD t 5-2 c d", "XADD s 5-3 e f", "XADD t 6-1 x y", "EXEC"],
    ),
    "xread of one that is a string": Wait(
        ["XREAD BLOCK 0 STREAMS s t $ $"], ["SET s x", "XADD t 5-2 c d"]
    ),
    "xread with a count": Wait(
        ["XREAD COUNT 1 BLOCK 0 STREAMS s $"], ["MULTI", "XADD s 5-2 c d", "XADD s 5-3 c d", "EXEC"]
    ),
    "xread of a stream that begins again": Wait(
        ["XREAD BLOCK 0 STREAMS s $"], ["DEL s", "XADD s 1-1 a b", "XADD s 6-1 a b"],
        ["XADD s 5-1 a b"],
    ),
    "xread of an empty stream": Wait(
        ["XREAD BLOCK 0 STREAMS s $"], ["XADD s 6-1 a b"], ["XADD s 5-1 a b", "XDEL s 5-1"]
    ),
    "xread of the last entry": Wait(["XREAD BLOCK 0 STREAMS s +"], ["XADD s 5-2 c d"]),
    "xread, renamed": Wait(["XREAD BLOCK 0 STREAMS s 0"], ["RENAME x s"], ["XADD x 5-1 a b"]),
    "xread, swapped": Wait(
        ["XREAD BLOCK 0 STREAMS s 0"], ["SELECT 1", "XADD s 5-1 a b", "SWAPDB 0 1"]
    ),
    "xadd that fails": Wait(
        ["XREAD BLOCK 0 STREAMS s $"], ["XADD s 1-1 c d", "XADD s NOMKSTREAM 6-1 c d"],
        ["XADD s 5-1 a b"],
    ),
}  # fmt: skip

GROUPS: dict[str, Wait] = {
    "a group takes from itself": Wait(
        [READER, READS.format("c2", "")], ["XADD s 5-2 c d", "XADD s 5-3 c d"], GROUP
    ),
    "two groups": Wait(
        [READER, READER.replace("GROUP g", "GROUP h")], ["XADD s 5-2 c d"],
        [*GROUP, "XGROUP CREATE s h $"],
    ),
    "a group, one by one": Wait(
        EACH_ONE, ["MULTI", "XADD s 5-2 c d", "XADD s 5-3 c d", "XADD s 5-4 e f", "EXEC"], GROUP
    ),
    "a group without acknowledgement": Wait(
        [READS.format("c1", "NOACK ")], ["XADD s 2-1 a b", "XPENDING s g"], GROUP
    ),
    "a group that is set back": Wait(
        [READER], ["XGROUP SETID s g 0", "XADD s 2-1 a b"],
        [*GROUP, "XADD s 1-1 a b", "XGROUP SETID s g $"],
    ),
    "its stream is deleted": Wait([READER], ["DEL s"], GROUP),
    "its stream is deleted, and there is one without": Wait(
        [READER], ["DEL s", "XADD s 7-1 a b"], GROUP
    ),
    "its stream is made again": Wait(
        [READER], ["MULTI", "DEL s", *GROUP, "EXEC", "XADD s 7-1 a b"], GROUP
    ),
    "its group is destroyed": Wait([READER], ["XGROUP DESTROY s g"], GROUP),
    "another group is destroyed": Wait(
        [READER], ["XGROUP DESTROY s h", "XADD s 7-1 a b"], [*GROUP, "XGROUP CREATE s h $"]
    ),
    "the group of its second stream": Wait(
        ["XREADGROUP GROUP g c BLOCK 0 STREAMS s t > >"], ["XGROUP DESTROY t g"],
        [*GROUP, "XGROUP CREATE t g $ MKSTREAM"],
    ),
    "the other one is written": Wait(
        ["XREADGROUP GROUP g c BLOCK 0 STREAMS s t > >"],
        ["MULTI", "XADD t 1-1 a b", "XGROUP DESTROY s g", "EXEC"],
        [*GROUP, "XGROUP CREATE t g $ MKSTREAM"],
    ),
    "its stream becomes a string": Wait([READER], ["SET s x"], GROUP),
    "its stream is renamed": Wait([READER], ["RENAME s t"], GROUP),
    "a list is renamed over it": Wait([READER], ["RENAME l s"], [*GROUP, "RPUSH l a"]),
    "a stream is renamed over it": Wait([READER], ["RENAME t s"], [*GROUP, "XADD t 1-1 a b"]),
    "its stream is moved": Wait([READER], ["MOVE s 1"], GROUP),
    "its stream expires at once": Wait([READER], ["PEXPIRE s -1"], GROUP),
    "flushall": Wait([READER, "BLPOP k 0"], ["FLUSHALL", "RPUSH k a"], GROUP),
    "flushdb": Wait([READER, "BLPOP k 0"], ["FLUSHDB", "RPUSH k a"], GROUP),
    "swapdb of its stream": Wait([READER], ["SWAPDB 0 1"], GROUP),
}  # fmt: skip

WAITS = {
    "lists": LISTS, "moves": MOVES, "sorted sets": SORTED_SETS, "streams": STREAMS,
    "groups": GROUPS,
}  # fmt: skip

# What answers at once, on `RPUSH l a b`, `SET str x`, `ZADD z 1 a 2 b` and a stream with a group.
STANDING = ["RPUSH l a b c", "SET str x", "ZADD z 1 a 2 b", "XADD s 5-1 a b", "XGROUP CREATE s g 0"]
AT_ONCE = [
    "BLPOP l 0", "BLPOP k l 0", "BRPOP l 1", "BLPOP k str l 0", "BLPOP str 0", "BLPOP k", "BLPOP",
    "BLMOVE l m LEFT RIGHT 0", "BLMOVE l l LEFT RIGHT 0", "BLMOVE l str LEFT RIGHT 0",
    "BLMOVE l m UP DOWN 0", "BLMOVE l m LEFT RIGHT x", "BLMOVE str m LEFT RIGHT 0",
    "BRPOPLPUSH l m 0", "BRPOPLPUSH l str 0", "BLMPOP 0 2 k l LEFT COUNT 2", "BLMPOP 0 1 l RIGHT",
    "BLMPOP 0 0 l LEFT", "BLMPOP 0 x l LEFT", "BLMPOP 0 9 l LEFT", "BLMPOP x 1 l LEFT",
    "BLMPOP 0 1 l LEFT COUNT 0", "BLMPOP 0 1 l UP", "BZPOPMIN z 0", "BZPOPMAX k z 0",
    "BZPOPMIN l 0", "BZMPOP 0 2 k z MIN", "BZMPOP 0 1 z MAX COUNT 9", "BZMPOP 0 1 z MID",
    "XREAD BLOCK 0 STREAMS s 0", "XREAD BLOCK 0 STREAMS s t 0 $",
    "XREAD COUNT 1 BLOCK 0 STREAMS s 0",
    "XREAD BLOCK 0 STREAMS str 0", "XREAD BLOCK 0 STREAMS s", "XREAD BLOCK x STREAMS s 0",
    "XREAD BLOCK -1 STREAMS s 0", "XREAD BLOCK 0 STREAMS s x", "XREAD BLOCK 0 STREAMS s >",
    "XREAD BLOCK 0 STREAMS s +", "XREADGROUP GROUP g c BLOCK 0 STREAMS s >",
    "XREADGROUP GROUP g c BLOCK 0 STREAMS s 0", "XREADGROUP GROUP g c BLOCK 0 STREAMS s $",
    "XREADGROUP GROUP no c BLOCK 0 STREAMS s >", "XREADGROUP GROUP g c BLOCK 0 STREAMS t >",
    "XREADGROUP GROUP g c COUNT 1 NOACK BLOCK 0 STREAMS s >",
    "XREADGROUP GROUP g BLOCK 0 STREAMS s >",
    "BLPOP l -1", "BLPOP l nan", "BLPOP l inf", "BLPOP l 1e400", "BLPOP l 1e16", "BLPOP l 0x",
    'BLPOP l ""', "BLPOP l 1_0", "BLPOP l 0x10", "BLPOP l +1", "BLPOP l .5", "BLPOP l 5.",
    "XREAD BLOCK +1 STREAMS s 0", "XREAD BLOCK 01 STREAMS s 0", "XREAD BLOCK 1.5 STREAMS s 0",
]  # fmt: skip

# What waits for a moment, and is told that nothing came.
TIMES_OUT = [
    "BLPOP k 0.01", "BRPOP k l 0.01", "BLMOVE k d LEFT RIGHT 0.01", "BRPOPLPUSH k d 0.01",
    "BLMPOP 0.01 1 k LEFT", "BZPOPMIN k 0.01", "BZPOPMAX k 0.01", "BZMPOP 0.01 1 k MIN",
    "XREAD BLOCK 10 STREAMS k $", "XREAD BLOCK 1 STREAMS k l 0 0",
    "XREADGROUP GROUP g c BLOCK 10 STREAMS s >", "BLPOP k 0x1p-6", "BLPOP k 1e-2", "BLPOP k +.01",
]  # fmt: skip


async def waiting(proxied: Proxied | None, admin: Client) -> int:
    """How many clients wait: in the server, or in the proxy when nothing is under way there."""
    if proxied is None:
        info = await admin.call("INFO clients")
        return int(info.split(b"blocked_clients:")[1].split(b"\r\n")[0])
    proxy = proxied.proxy
    waiters = [each.waiter for each in proxy.sessions if each.waiter is not None]
    is_still = not proxy.table.active and all(each.is_parked for each in waiters)
    return len(waiters) if is_still else -1


async def settled(proxied: Proxied | None, admin: Client, clients: Sequence[Client]) -> int:
    """Every client is answered or waits; returns how many wait."""
    for _ in range(2000):
        for client in clients:
            await client.glance()
        # Behind the glance: who was counted as waiting before it may have been served since.
        left = await waiting(proxied, admin)
        if left + sum(bool(client.frames) for client in clients) == len(clients):
            return left
    raise AssertionError("somebody is neither answered nor waits")


async def held(port: int, wait: Wait, resp: int, proxied: Proxied | None = None) -> list[object]:
    """The conversation: what the acts are answered, then each waiter, and how many wait on."""
    async with connected(*[port] * (len(wait.waiters) + 2)) as (admin, actor, *clients):
        if resp == 3:
            for client in (actor, *clients):
                await client.call("HELLO 3")
        for line in wait.setup:
            await actor.call(line)
        for at, (client, line) in enumerate(zip(clients, wait.waiters, strict=True)):
            *first, last = line.split(";")
            for each in first:
                await client.call(each)
            client.send(last)
            await settled(proxied, admin, clients[: at + 1])
        answers: list[object] = [await actor.call(line) for line in wait.acts]
        left = await settled(proxied, admin, clients)
        return [*answers, *(client.frames for client in clients), left]
