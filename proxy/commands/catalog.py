"""What the list of commands in ``docs`` says beside the table: groups, engines, notes.

Used by :mod:`proxy.commands.document` only. Groups are those of the servers' COMMAND DOCS; engines
are those whose COMMAND, or HELP of Redis 6.2, has the command. Tests compare both with servers.
"""

from __future__ import annotations

GROUPS = {
    "Strings": """
        append decr decrby delifeq get getdel getex getrange getset incr incrby incrbyfloat
        lcs mget mset msetex msetnx psetex set setex setnx setrange stralgo strlen substr
    """,
    "Bitmaps": "bitcount bitfield bitfield_ro bitop bitpos getbit setbit",
    "Hashes": """
        hdel hexists hexpire hexpireat hexpiretime hget hgetall hgetdel hgetex hincrby
        hincrbyfloat hkeys hlen hmget hmset hpersist hpexpire hpexpireat hpexpiretime hpttl
        hrandfield hscan hset hsetex hsetnx hstrlen httl hvals
    """,
    "Lists": """
        blmove blmpop blpop brpop brpoplpush lindex linsert llen lmove lmpop lpop lpos lpush
        lpushx lrange lrem lset ltrim rpop rpoplpush rpush rpushx
    """,
    "Sets": """
        sadd scard sdiff sdiffstore sinter sintercard sinterstore sismember smembers
        smismember smove spop srandmember srem sscan sunion sunionstore
    """,
    "Sorted sets": """
        bzmpop bzpopmax bzpopmin zadd zcard zcount zdiff zdiffstore zincrby zinter
        zintercard zinterstore zlexcount zmpop zmscore zpopmax zpopmin zrandmember zrange
        zrangebylex zrangebyscore zrangestore zrank zrem zremrangebylex zremrangebyrank
        zremrangebyscore zrevrange zrevrangebylex zrevrangebyscore zrevrank zscan zscore
        zunion zunionstore
    """,
    "Streams": """
        xack xadd xautoclaim xclaim xdel xgroup xinfo xlen xpending xrange xread xreadgroup
        xrevrange xsetid xtrim
    """,
    "Geo": """
        geoadd geodist geohash geopos georadius georadius_ro georadiusbymember
        georadiusbymember_ro geosearch geosearchstore
    """,
    "HyperLogLog": "pfadd pfcount pfdebug pfmerge pfselftest",
    "Keys of any type": """
        copy del dump exists expire expireat expiretime keys migrate move object persist
        pexpire pexpireat pexpiretime pttl randomkey rename renamenx restore scan sort
        sort_ro touch ttl type unlink wait waitaof
    """,
    "Transactions": "discard exec multi unwatch watch",
    "Scripts and functions": "eval eval_ro evalsha evalsha_ro fcall fcall_ro function script",
    "Pub/sub": """
        psubscribe publish pubsub punsubscribe spublish ssubscribe subscribe sunsubscribe
        unsubscribe
    """,
    "Connection": "auth client echo hello ping quit reset select",
    "Server": """
        acl bgrewriteaof bgsave command commandlog config dbsize debug failover flushall
        flushdb host: info lastsave latency lolwut memory module monitor post psync replconf
        replicaof restore-asking role save shutdown slaveof slowlog swapdb sync time
    """,
    "Cluster": "asking cluster clusterscan readonly readwrite",
}

ENGINES = {
    "Redis 6.2 only": "stralgo",
    "Redis 7.0, Valkey": """
        acl|dryrun blmpop bzmpop client|no-evict cluster|addslotsrange cluster|delslotsrange
        cluster|links cluster|shards command|docs command|getkeysandflags command|list eval_ro
        evalsha_ro expiretime fcall fcall_ro function function|delete function|dump
        function|flush function|help function|kill function|list function|load function|restore
        function|stats latency|histogram lcs lmpop module|loadex pexpiretime
        pubsub|shardchannels pubsub|shardnumsub sintercard sort_ro spublish ssubscribe
        sunsubscribe zintercard zmpop
    """,
    "Redis 7.4, Valkey": "client|no-touch client|setinfo cluster|myshardid waitaof",
    "Redis 7.4, Valkey 9": """
        hexpire hexpireat hexpiretime hpersist hpexpire hpexpireat hpexpiretime hpttl httl
    """,
    "Valkey": """
        client|capa client|import-source cluster|slot-stats commandlog commandlog|get
        commandlog|help commandlog|len commandlog|reset script|show
    """,
    "Valkey 9": """
        cluster|cancelslotmigrations cluster|flushslot cluster|getslotmigrations
        cluster|migrateslots cluster|syncslots clusterscan delifeq hgetdel hgetex hsetex msetex
    """,
}
"""The first version of what not every engine has, from Redis 6.2 on; the others all have."""

_SCRIPT = "keys copied: those that its text says it writes, or that were seen to change"
_LIBRARIES = "the other side's libraries are made the same, before a flip at the latest"
_LINE_OF_HTTP = "the connection is closed, as a server does"
_TO_THE_PRIMARY = "to the subscribers of the primary, which all clients of the proxy are"

MIRRORED = {
    "eval": _SCRIPT,
    "evalsha": _SCRIPT,
    "fcall": _SCRIPT,
    "function|delete": _LIBRARIES,
    "function|flush": _LIBRARIES,
    "function|load": _LIBRARIES,
    "function|restore": _LIBRARIES,
    "script|flush": "as it is",
    "script|load": "as it is; what came with EVAL is loaded before a flip",
}
"""What becomes of writes that are none of keys."""

NOTES = {
    "bitfield": "a read with nothing but GET and OVERFLOW",
    "client|kill": "clients of the proxy; the store is asked for the right to it",
    "client|list": "clients of the proxy, in the store's words",
    "client|no-evict": "noted, and done nowhere",
    "client|no-touch": "noted, and done nowhere",
    "client|unblock": "clients of the proxy; the store is asked for the right to it",
    "config|get": "of the primary",
    "dbsize": "counts Keyferry's own key, too",
    "eval_ro": "a read",
    "evalsha_ro": "a read",
    "fcall_ro": "a read",
    "georadius": "a read without STORE and STOREDIST",
    "georadiusbymember": "a read without STORE and STOREDIST",
    "host:": _LINE_OF_HTTP,
    "info": "of the primary",
    "pfcount": "a read of several keys; of one it may write the count that the value caches",
    "post": _LINE_OF_HTTP,
    "publish": _TO_THE_PRIMARY,
    "sort": "a read without STORE; alone if BY or GET has a pattern, which reads any key",
    "sort_ro": "on the primary if BY or GET has a pattern",
    "spublish": _TO_THE_PRIMARY,
    "xadd": "trimmed with ~: XLEN behind it on the lane tells the length",
    "xread": "parked, as blocking ones are, with BLOCK",
    "xreadgroup": "parked, as blocking ones are, with BLOCK",
    "xtrim": "trimmed with ~: XLEN behind it on the lane tells the length",
}
