"""redis-py on asyncio: tasks that wait for a connection of a bounded pool.

The first argument is the protocol, 2 or 3; then as harness.py says.
"""

from __future__ import annotations

import asyncio
import sys
import time

import redis.asyncio as redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from tests.clients.harness import Load, pairs, same, streams_of

PROTOCOL = int(sys.argv.pop(1))
load = Load()


def client(db: int = 0) -> redis.Redis:
    """Nothing is tried again."""
    pool = redis.BlockingConnectionPool(
        port=load.port,
        db=db,
        protocol=PROTOCOL,
        decode_responses=True,
        client_name=load.name,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=30,
        max_connections=25,
        timeout=30,
    )
    return redis.Redis.from_pool(pool)


async def strings() -> None:
    key, counter = load.key("string"), load.key("counter")
    async for n in load.arounds("strings"):
        same(await r.set(key, f"value {n}"), True, "SET")
        same(await r.append(key, "!"), len(f"value {n}!"), "APPEND")
        same(await r.set(key, f"other {n}!", get=True), f"value {n}!", "SET GET")
        same(await r.getrange(key, 0, 4), "other", "GETRANGE")
        together = [r.incr(counter) for _ in range(5)]
        same(sorted(await asyncio.gather(*together)), [*range(5 * n - 4, 5 * n + 1)], "INCR")
        same(await r.msetnx({key: 1, key + ":x": 1}), False, "MSETNX")
        same(await r.copy(key, key + ":copy", replace=True), True, "COPY")
        same(await r.rename(key + ":copy", key + ":renamed"), True, "RENAME")
        same(await r.getdel(key + ":renamed"), f"other {n}!", "GETDEL")
        same(await r.delete(key), 1, "DEL")
        same(await r.pfadd(key + ":hll", n), 1, "PFADD") if n < 20 else None


async def collections() -> None:
    hashed, many, ranked, row = (load.key(k) for k in ("hash", "set", "zset", "list"))
    model: dict[str, str] = {}
    async for n in load.arounds("collections"):
        model[f"f{n % 5}"] = str(n)
        await r.hset(hashed, f"f{n % 5}", str(n))
        same(await r.hgetall(hashed), model, "HGETALL")
        if n % 3 == 0:
            del model[f"f{n % 5}"]
            same(await r.hdel(hashed, f"f{n % 5}"), 1, "HDEL")
        same(await r.sadd(many, 1, 2, 3), 3, "SADD")
        same(await r.smove(many, many + ":b", 2), 1, "SMOVE")
        same(await r.sunion(many, many + ":b"), {"1", "2", "3"}, "SUNION")
        same(sorted([*await r.spop(many, 2), await r.spop(many + ":b")]), ["1", "2", "3"], "SPOP")
        same(await r.zadd(ranked, {f"m{n % 9}": n}, gt=True, ch=True), 1, "ZADD GT CH")
        same(await r.zrevrank(ranked, f"m{n % 9}"), 0, "ZREVRANK")
        same(pairs(await r.zrange(ranked, -1, -1, withscores=True)), [(f"m{n % 9}", n)], "ZRANGE")
        same(await r.lpush(row, n, n), 2, "LPUSH")
        same(await r.lmove(row, row + ":b"), str(n), "LMOVE")
        same([await r.lpop(row), await r.rpop(row + ":b")], [str(n)] * 2, "LPOP, RPOP")


async def pipelines() -> None:
    async for n in load.arounds("pipelines"):
        async with r.pipeline(transaction=False) as pipe:
            for i in range(30):
                pipe.hincrby(load.key("piped"), str(i), 2).hget(load.key("piped"), str(i))
            same(await pipe.execute(), [2 * n, str(2 * n)] * 30, "pipeline")


async def transactions() -> None:
    key = load.key("block")
    async for n in load.arounds("transactions"):
        async with r.pipeline() as pipe:
            pipe.incr(key).zadd(key + ":z", {str(n): n}).zcard(key + ":z").get(key)
            same(await pipe.execute(), [n, 1, n, str(n)], "EXEC")


async def watch() -> None:
    """Counters that only WATCH keeps right."""
    key = load.key("watched")
    added = 0

    async def worker() -> None:
        nonlocal added
        async for _ in load.arounds("watch"):
            async with r.pipeline() as pipe:
                while True:
                    await pipe.watch(key)
                    was = int(await pipe.get(key) or 0)
                    pipe.multi()
                    pipe.set(key, was + 1)
                    try:
                        await pipe.execute()
                        break
                    except redis.WatchError:
                        pass
            added += 1

    await asyncio.gather(worker(), worker(), worker())
    same(int(await r.get(key) or 0), added, "the watched counter")


async def scan() -> None:
    keys = {load.key("scanned", str(i)): str(i) for i in range(150)}
    await r.mset(keys)
    fields = {f"f{i}": str(i) for i in range(600)}
    await r.hset(load.key("many"), mapping=fields)
    async for _ in load.arounds("scan"):
        found = {key async for key in r.scan_iter(load.key("scanned", "*"), count=200)}
        same(found, keys.keys(), "SCAN")
        same({f: v async for f, v in r.hscan_iter(load.key("many"), count=99)}, fields, "HSCAN")


async def expiry() -> None:
    key = load.key("expiring")
    async for n in load.arounds("expiry"):
        same(await r.set(key, n, ex=100), True, "SET EX")
        same(98 <= await r.ttl(key) <= 100, True, "TTL")
        same(await r.expire(key, 200), True, "EXPIRE")
        same(198_000 <= await r.pttl(key) <= 200_000, True, "PTTL")
        same(await r.set(key, n, keepttl=True), True, "SET KEEPTTL")
        same(198 <= await r.ttl(key) <= 200, True, "TTL that was kept")
        if n % 10 == 0:
            ends = time.monotonic() + 10
            same(await r.set(key + ":soon", n, px=40), True, "SET PX")
            while (value := await r.get(key + ":soon")) is not None:
                same(value, str(n), "GET of a key that will expire")
                same(time.monotonic() < ends, True, "the key has expired")


async def databases() -> None:
    key = load.key("db")
    async with client(db=1) as one, client(db=2) as two:
        async for n in load.arounds("databases"):
            same(await one.set(key, n), True, "SET in 1")
            same(await two.set(key, -n), True, "SET in 2")
            same(await asyncio.gather(one.get(key), two.get(key)), [str(n), str(-n)], "GET")
            same(await r.get(key), None, "GET in 0")
            same(await one.copy(key, key + ":copy", 2), True, "COPY DB")
            same(await two.getdel(key + ":copy"), str(n), "GETDEL of the copy")


async def identity() -> None:
    async with client() as own:
        me = await own.client_id()
        async for _ in load.arounds("identity"):
            same(await own.client_id(), me, "CLIENT ID")
            same(await own.client_getname(), load.name, "CLIENT GETNAME")
            same(await own.ping(), True, "PING")


async def inspection() -> None:
    async with client() as own:
        me = await own.client_id()
        async for n in load.arounds("inspection"):
            info = await own.client_info()
            same((int(info["id"]), info["name"]), (me, load.name), "CLIENT INFO")
            if n % 10 == 1:  # It is long, for all of them are in it.
                listed = {int(c["id"]): c["name"] for c in await own.client_list()}
                same(listed.get(me), load.name, "CLIENT LIST")


async def queue() -> None:
    """Jobs of a list and of a sorted set, taken by waiters, each exactly once."""
    jobs, ranked = load.key("jobs"), load.key("ranked")
    sent: list[int] = []
    taken: list[int] = []
    popped: list[int] = []

    async def produce() -> None:
        async for n in load.arounds("jobs"):
            async with r.pipeline() as pipe:
                pipe.rpush(jobs, 2 * n - 1, 2 * n).zadd(ranked, {str(n): -n})
                await pipe.execute()
            sent.append(n)
        await r.rpush(jobs, "end", "end", "end")
        await r.zadd(ranked, {"end": -(1 << 50)})

    async def consume() -> None:
        last = 0
        while (job := (await r.blpop([jobs, jobs + ":none"], timeout=0))[1]) != "end":
            same(int(job) > last, True, f"{job} behind {last}")
            last = int(job)
            taken.append(last)
            load.done["queue"] += 1

    async def highest() -> None:
        while (job := (await r.bzpopmax(ranked, timeout=0))[1]) != "end":
            popped.append(int(job))

    async def none() -> None:
        while not load.stopping.is_set():
            same(await r.brpop(load.key("nothing"), timeout=0.1), None, "BRPOP of nothing")

    await asyncio.gather(produce(), consume(), consume(), consume(), highest(), none())
    same(sorted(taken), list(range(1, 2 * len(sent) + 1)), "jobs done")
    # The end may overtake the last ones: it has the lowest score.
    left = await r.zrange(ranked, 0, -1)
    same(sorted([*popped, *map(int, left)]), list(range(1, len(sent) + 1)), "BZPOPMAX")
    same(await r.exists(jobs), 0, "jobs that are left")


async def streams() -> None:
    """Each entry once to one consumer of the group, and to who reads the tail."""
    key = load.key("stream")
    await r.xgroup_create(key, "group", id="0", mkstream=True)
    sent: list[str] = []
    taken: list[str] = []
    seen: list[str] = []
    ended = asyncio.Event()

    async def produce() -> None:
        async for n in load.arounds("entries"):
            entry = await r.xadd(key, {"n": n}, maxlen=10_000, approximate=True)
            sent.append(entry)
        ended.set()

    async def consume(name: str) -> None:
        while not (ended.is_set() and len(taken) >= len(sent)):
            reply = await r.xreadgroup("group", name, {key: ">"}, count=5, block=100)
            for entry, fields in streams_of(reply):
                same(list(fields), ["n"], "XREADGROUP")
                same(await r.xack(key, "group", entry), 1, "XACK")
                taken.append(entry)
                load.done["streams"] += 1

    async def tail() -> None:
        while not (ended.is_set() and len(seen) >= len(sent)):
            reply = await r.xread({key: seen[-1] if seen else "0"}, block=100)
            for entry, fields in streams_of(reply):
                seen.append(entry)
                same(int(fields["n"]), len(seen), "XREAD")

    await asyncio.gather(produce(), consume("a"), consume("b"), tail())
    same(sorted(taken), sorted(sent), "entries taken")
    same(seen, sent, "entries read")
    same((await r.xpending(key, "group"))["pending"], 0, "XPENDING")


async def pubsub() -> None:
    """Two publishers; a channel and a pattern: each message exactly once, in order."""
    base = load.key("channel")
    listening = asyncio.Event()

    async def listen() -> None:
        last: dict[tuple[str, str], int] = {}
        ends = 0
        async with r.pubsub() as subscriber:
            await subscriber.subscribe(base + ":a", base + ":b")
            await subscriber.psubscribe(base + ":*")
            async for message in subscriber.listen():
                where = (message["type"], message["channel"])
                if message["type"].endswith("subscribe"):
                    if message["data"] == 3:
                        listening.set()
                elif message["data"] == "end":
                    ends += 1
                    if ends == 4:
                        return
                else:
                    same(int(message["data"]), last.get(where, 0) + 1, f"{where}: the next one")
                    last[where] = int(message["data"])
                    load.done["pubsub"] += 1

    async def publish(channel: str) -> None:
        await listening.wait()
        async for n in load.arounds("messages"):
            same(await r.publish(channel, n), 2, "PUBLISH")
        await r.publish(channel, "end")

    await asyncio.gather(listen(), publish(base + ":a"), publish(base + ":b"))


PUSH = "redis.call('RPUSH', KEYS[1], ARGV[1]) return redis.call('LLEN', KEYS[1])"


async def scripts() -> None:
    key = load.key("scripted")
    push = r.register_script(PUSH)
    loaded = await r.script_load(f"return redis.call('INCR', KEYS[1]) .. ' {load.name}'")
    async for n in load.arounds("scripts"):
        same(await push(keys=[key], args=[n]), n, "a registered script")
        # Loaded once, before the first flip.
        same(await r.evalsha(loaded, 1, key + ":n"), f"{n} {load.name}", "EVALSHA")


async def locks() -> None:
    """A counter that only redis-py's Lock keeps right."""
    key = load.key("locked")
    added = 0

    async def worker() -> None:
        nonlocal added
        async for _ in load.arounds("locks"):
            async with r.lock(key + ":lock", timeout=60, sleep=0.01):
                await r.set(key, int(await r.get(key) or 0) + 1)
            added += 1

    await asyncio.gather(worker(), worker(), worker())
    same(int(await r.get(key) or 0), added, "the locked counter")


async def main() -> None:
    global r
    async with client() as r:
        await load.arun(
            {
                f.__name__: f
                for f in (
                    *(strings, collections, pipelines, transactions, watch, scan, expiry),
                    *(databases, identity, inspection, queue, streams, pubsub, scripts, locks),
                )
            }
        )


r: redis.Redis
asyncio.run(main())
