"""The rows of the commands that work on keys: Redis 6.2 to 7.4 and Valkey 8 to 9.1.

One line per command: name, arity, keys (see :mod:`proxy.commands.keys`). Rules of effects are
joined by name below; a write without one is replayed verbatim. Commands that ask a server or the
connection are in :mod:`proxy.commands.builtin_server`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import options
from .effect import Rule
from .effects import expiry, generic, geo, hashes, lists, sets, streams, strings, zsets
from .keys import Keys, after_last, keys
from .keys import streams as stream_keys

if TYPE_CHECKING:
    from ..resp import Request

READS = """
    bitcount -2 r1              bitfield_ro -2 r1           bitpos -3 r1
    dump 2 r1                   exists -2 r1..              expiretime 2 r1
    geodist -4 r1               geohash -2 r1               geopos -2 r1
    georadius_ro -6 r1          georadiusbymember_ro -5 r1  geosearch -7 r1
    get 2 r1                    getbit 3 r1                 getrange 4 r1
    hexists 3 r1                hexpiretime -5 r1           hget 3 r1
    hgetall 2 r1                hkeys 2 r1                  hlen 2 r1
    hmget -3 r1                 hpexpiretime -5 r1          hpttl -5 r1
    hrandfield -2 r1            hstrlen 3 r1                httl -5 r1
    hvals 2 r1                  lcs -3 r1+2                 lindex 3 r1
    llen 2 r1                   lpos -3 r1                  lrange 4 r1
    memory|usage -3 r2          mget -2 r1..                object|encoding 3 r2
    object|freq 3 r2            object|idletime 3 r2        object|refcount 3 r2
    pexpiretime 2 r1            pttl 2 r1                   scard 2 r1
    sdiff -2 r1..               sinter -2 r1..              sintercard -3 r#1
    sismember 3 r1              smembers 2 r1               smismember -3 r1
    sort_ro -2 r1               srandmember -2 r1           strlen 2 r1
    substr 4 r1                 sunion -2 r1..              touch -2 r1..
    ttl 2 r1                    type 2 r1                   xinfo|consumers 4 r2
    xinfo|groups 3 r2           xinfo|stream -3 r2          xlen 2 r1
    xpending -3 r1              xrange -4 r1                xrevrange -4 r1
    zcard 2 r1                  zcount 4 r1                 zdiff -3 r#1
    zinter -3 r#1               zintercard -3 r#1           zlexcount 4 r1
    zmscore -3 r1               zrandmember -2 r1           zrange -4 r1
    zrangebylex -4 r1           zrangebyscore -4 r1         zrank -3 r1
    zrevrange -4 r1             zrevrangebylex -4 r1        zrevrangebyscore -4 r1
    zrevrank -3 r1              zscore 3 r1                 zunion -3 r#1
    stralgo -2 *                xread -4 *
"""

WRITES = """
    append 3 w1                 bitfield -2 w1              bitop -4 w2;r3..
    copy -3 r1;w2               decr 2 w1                   decrby 3 w1
    del -2 w1..                 delifeq 3 w1                expire -3 w1
    expireat -3 w1              geoadd -5 w1                georadius -6 *
    georadiusbymember -5 *      geosearchstore -8 w1;r2     getdel 2 w1
    getex -2 w1                 getset 3 w1                 hdel -3 w1
    hexpire -6 w1               hexpireat -6 w1             hgetdel -5 w1
    hgetex -5 w1                hincrby 4 w1                hincrbyfloat 4 w1
    hmset -4 w1                 hpersist -5 w1              hpexpire -6 w1
    hpexpireat -6 w1            hset -4 w1                  hsetex -6 w1
    hsetnx 4 w1                 incr 2 w1                   incrby 3 w1
    incrbyfloat 3 w1            linsert 5 w1                lmove 5 w1+2
    lmpop -4 w#1                lpop -2 w1                  lpush -3 w1
    lpushx -3 w1                lrem 4 w1                   lset 4 w1
    ltrim 4 w1                  move 3 w1                   mset -3 w1../2
    msetex -4 w#1/2             msetnx -3 w1../2            persist 2 w1
    pexpire -3 w1               pexpireat -3 w1             pfadd -2 w1
    pfcount -2 w1..             pfmerge -2 w1;r2..          psetex 4 w1
    rename 3 w1+2               renamenx 3 w1+2             restore -4 w1
    rpop -2 w1                  rpoplpush 3 w1+2            rpush -3 w1
    rpushx -3 w1                sadd -3 w1                  sdiffstore -3 w1;r2..
    set -3 w1                   setbit 4 w1                 setex 4 w1
    setnx 3 w1                  setrange 4 w1               sinterstore -3 w1;r2..
    smove 4 w1+2                sort -2 *                   spop -2 w1
    srem -3 w1                  sunionstore -3 w1;r2..      unlink -2 w1..
    xack -4 w1                  xadd -5 w1                  xautoclaim -6 w1
    xclaim -6 w1                xdel -3 w1                  xgroup|create -5 w2
    xgroup|createconsumer 5 w2  xgroup|delconsumer 5 w2     xgroup|destroy 4 w2
    xgroup|setid -5 w2          xreadgroup -7 *             xsetid -3 w1
    xtrim -4 w1                 zadd -4 w1                  zdiffstore -4 w1;r#2
    zincrby 4 w1                zinterstore -4 w1;r#2       zmpop -4 w#1
    zpopmax -2 w1               zpopmin -2 w1               zrangestore -5 w1;r2
    zrem -3 w1                  zremrangebylex 4 w1         zremrangebyrank 4 w1
    zremrangebyscore 4 w1       zunionstore -4 w1;r#2
"""

BLOCKING = """
    blmove 6 w1+2               blmpop -5 w#2               blpop -3 w1..-2
    brpop -3 w1..-2             brpoplpush 4 w1+2           bzmpop -5 w#2
    bzpopmax -3 w1..-2          bzpopmin -3 w1..-2
"""

BARRIERS = "flushall -1 -  flushdb -1 -  swapdb 3 -"

CURSORS = "scan -2 -  hscan -3 r1  sscan -3 r1  zscan -3 r1"

SCRIPTS = """
    eval -3 w#2            evalsha -3 w#2         fcall -3 w#2
    eval_ro -3 r#2         evalsha_ro -3 r#2      fcall_ro -3 r#2
    script|flush -2 -      script|load 3 -
    function|delete 3 -    function|flush -2 -    function|load -3 -     function|restore -3 -
"""

SPECIAL_KEYS: dict[str, Keys] = {
    "georadius": keys("r1", write=after_last(b"STORE", b"STOREDIST", first=6)),
    "georadiusbymember": keys("r1", write=after_last(b"STORE", b"STOREDIST", first=5)),
    "sort": keys("r1", write=after_last(b"STORE", first=2)),
    "stralgo": keys("", read=options.stralgo_keys),
    "xread": keys("", read=stream_keys),
    "xreadgroup": keys("", write=stream_keys),
}
"""The keys of the rows with ``*``: behind a keyword."""

MOVES_DATA = """
    bitop blmove brpoplpush copy georadius georadiusbymember geosearchstore lmove move pfmerge
    rename renamenx rpoplpush sdiffstore sinterstore smove sort sunionstore zdiffstore
    zinterstore zrangestore zunionstore
"""
"""Writes whose outcome depends on other keys than the ones they write."""

RULES: dict[str, Rule] = {
    "blmove": lists.blmove,
    "blmpop": lists.blmpop,
    "blpop": lists.blpop,
    "brpop": lists.brpop,
    "brpoplpush": lists.brpoplpush,
    "bzmpop": zsets.zmpop,
    "bzpopmax": zsets.bzpop,
    "bzpopmin": zsets.bzpop,
    "copy": generic.copy,
    "delifeq": strings.delifeq,
    "expire": expiry.expire,
    "expireat": expiry.expireat,
    "georadius": geo.georadius_store,
    "georadiusbymember": geo.georadiusbymember_store,
    "geosearchstore": geo.geosearchstore,
    "getdel": strings.getdel,
    "getex": strings.getex,
    "hexpire": hashes.hexpire,
    "hexpireat": hashes.hexpireat,
    "hgetdel": hashes.hgetdel,
    "hgetex": hashes.hgetex,
    "hpexpire": hashes.hpexpire,
    "hpexpireat": hashes.hpexpireat,
    "hsetex": hashes.hsetex,
    "hsetnx": hashes.hsetnx,
    "incrbyfloat": strings.incrbyfloat,
    "lmpop": lists.lmpop,
    "lpushx": lists.lpushx,
    "move": generic.move,
    "msetex": strings.msetex,
    "msetnx": strings.msetnx,
    "pexpire": expiry.pexpire,
    "pexpireat": expiry.pexpireat,
    "psetex": strings.psetex,
    "renamenx": generic.renamenx,
    "restore": generic.restore,
    "rpushx": lists.rpushx,
    "set": strings.set_,
    "setex": strings.setex,
    "setnx": strings.setnx,
    "smove": sets.smove,
    "sort": generic.sort_store,
    "spop": sets.spop,
    "xadd": streams.xadd,
    "xautoclaim": streams.xautoclaim,
    "xclaim": streams.xclaim,
    "xgroup|create": streams.xgroup_create,
    "xgroup|setid": streams.xgroup_setid,
    "xreadgroup": streams.xreadgroup,
    "xtrim": streams.xtrim,
    "zinterstore": zsets.aggregate_store,
    "zmpop": zsets.zmpop,
    "zpopmax": zsets.zpop,
    "zpopmin": zsets.zpop,
    "zunionstore": zsets.aggregate_store,
}

NEEDS = dict.fromkeys(
    ("hexpire", "hexpireat", "hgetex", "hpexpire", "hpexpireat", "hsetex"), "hpexpireat"
)
"""Rules whose effects not every server knows, and what the secondary must know for them. The
others send what Redis 6.2 knows; a command without a rule needs itself."""

VERBATIM_ARGC = {"set": 3}
"""Where a command with a rule is so often plain that the hot path should not ask the rule."""

PROBES: dict[str, Callable[[Request], bytes | None]] = {
    "xadd": streams.length_after_xadd,
    "xtrim": streams.length_after_xtrim,
}

# Reads whose answers are of the store, not of the data: encodings, payloads, idle times.
OF_THE_STORE = ("dump", "memory", "object", "xinfo", "xpending")
UNKNOWN_KEYS: dict[str, Callable[[Request], bool]] = {
    "sort": options.sort_follows_patterns,
    "sort_ro": options.sort_follows_patterns,
}

OTHER_DB: dict[str, Callable[[Request], int | None]] = {
    "copy": options.copy_db,
    "move": options.move_db,
}

READ_UNLESS: dict[str, Callable[[Request], bool]] = {
    "bitfield": options.changes_bits,
    "georadius": options.stores,
    "georadiusbymember": options.stores,
    "pfcount": options.is_of_one_key,
    "sort": options.stores,
}
"""Writes that only read unless this holds of the request."""

BLOCKS: dict[str, Callable[[Request], bool]] = {
    "xread": options.blocks,
    "xreadgroup": options.blocks,
}
"""Commands that wait when this holds of the request."""
