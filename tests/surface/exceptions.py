"""Where a reply through the proxy need not be the bytes of a direct one: all of it, with reasons.

Two servers that were told the same still differ in what comes from chance, from the clock and from
the process; and where the proxy answers itself, it cannot know all that a server knows. Whatever
is not in these tables is compared byte for byte.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.surface.sameness import (
    Same,
    clients_alike,
    clients_but,
    fields_but,
    in_any_order,
    in_any_order_without,
    near,
    pairs_in_any_order,
    same_shape,
    same_type,
    words_in_any_order,
)

HASHED = "in the order of a hash table, whose seed is random"
CHANCE = "chosen at random"
CLOCK = "counts from now: the two sides are asked one after the other"
PROCESS = "of the server's process: ids, addresses, memory, uptime, counters"
OWN_FEED = "Keyferry listens to the store's events itself"
OWN_ID = "connections are counted by the proxy, not by the store"


class Why(NamedTuple):
    reason: str
    same: Same


_ORDER = """
    smembers sinter sunion sdiff keys scan sscan zscan clusterscan hkeys hvals
    command command|list command|info command|docs acl|cat acl|users
    pubsub|shardchannels function|list
"""
_PROCESS = """
    info lolwut memory|stats memory|malloc-stats memory|doctor latency|doctor latency|latest
    latency|histogram slowlog|get slowlog|len commandlog|get commandlog|len acl|log
    cluster|info cluster|nodes cluster|myid cluster|myshardid cluster|shards
"""
_OF_A_CONNECTION = """
    id addr laddr fd age idle qbuf qbuf-free argv-mem multi-mem rbs rbp obl oll omem tot-mem
    tot-net-in tot-net-out tot-cmds
"""


def _each(names: str, reason: str, same: Same) -> dict[str, Why]:
    return dict.fromkeys(names.split(), Why(reason, same))


REPLIES: dict[str, Why] = {
    **_each(_ORDER, HASHED, in_any_order),
    **_each("hgetall hscan config|get", HASHED, pairs_in_any_order),
    **_each("acl|list acl|getuser", HASHED, words_in_any_order),
    **_each("spop srandmember hrandfield zrandmember acl|genpass", CHANCE, same_shape),
    **_each("randomkey", CHANCE, same_type),
    **_each("ttl expiretime httl hexpiretime", CLOCK, near(60)),
    **_each("pttl pexpiretime hpttl hpexpiretime", CLOCK, near(60_000)),
    **_each("xpending xinfo|stream xinfo|consumers", CLOCK, near(60_000)),
    **_each("time lastsave object|idletime", CLOCK, near(60_000_000)),
    **_each("xadd", "ids of XADD * are times", near(60_000)),
    **_each(_PROCESS, PROCESS, same_type),
    **_each("memory|usage", PROCESS, same_shape),
    **_each("role", "the offset of replication counts what else was sent", near(1e12)),
    **_each("client|id", OWN_ID, same_type),
    **_each("pubsub|numpat", OWN_FEED, near(2)),
    **_each("pubsub|channels", OWN_FEED, in_any_order_without(b"keyferry:marker:")),
    **_each("client|info", PROCESS, clients_but(*_OF_A_CONNECTION.encode().split())),
    **_each("client|list", PROCESS, clients_alike),
    **_each("hello", OWN_ID, fields_but(b"id")),
}
"""By command, as the command table names it; inside a block the same holds for its element."""

UNSUBSCRIBED = ("unsubscribe", "punsubscribe", "sunsubscribe")
"""Without an argument these leave all channels, in the order of a hash table."""

NOT_TOLD = {
    "monitor": "it shows what Keyferry does on the store as well: tests/proxy/test_monitoring.py",
}
"""Commands that no conversation has in a form that is carried out. What the proxy refuses is never
told, but for errors that a server finds before it looks at the command: see the policy table."""

LEFT_OUT = (
    (
        "CLIENT REPLY inside MULTI, and CLIENT TRACKING with REDIRECT",
        "refused there: the one breaks the answer to EXEC on servers, too",
    ),
    (
        "AUTH and HELLO … AUTH inside MULTI before Redis from 7.2 on",
        "refused there: where it fails those servers answer nothing, and EXEC is never answered to"
        " its end. Outside, the proxy answers also what they leave out behind unwritten answers",
    ),
    (
        "a HELLO that fails",
        "Redis up to 7.0 keeps what stood before the wrong option, a name or a login; the proxy"
        " keeps nothing, as later servers",
    ),
    (
        "text right behind a closing quote of an inline command",
        "Valkey 9 takes it as part of the word; the proxy answers as older servers, with an error",
    ),
    (
        "QUIT behind CLIENT REPLY OFF",
        "servers do not close the connection, since nothing is written on it; the proxy does",
    ),
    (
        "messages within the answer to an EXEC",
        "Redis up to 7.0 puts what a block publishes to its own client into the answer's array",
    ),
    (
        "requests of more than 16 million arguments",
        "refused, since the proxy would have to hold them all; servers take up to 2^31 - 1",
    ),
    (
        "pushes and answers",
        "each come in their order, but a push may stand before or behind an answer: RESP3 clients"
        " take pushes apart from answers anyway",
    ),
)
"""Where the proxy is known to answer otherwise, and the conversations have nothing of it."""
