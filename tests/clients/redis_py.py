"""redis-py as most use it: threads with one client, and so with one pool of connections.

The first argument is the protocol, 2 or 3; then as harness.py says.
"""

from __future__ import annotations

import sys
import threading
import time

import redis
from redis.backoff import NoBackoff
from redis.cache import CacheConfig
from redis.connection import CacheProxyConnection
from redis.retry import Retry

from tests.clients.harness import Load, Wrong, pairs, same, streams_of

PROTOCOL = int(sys.argv.pop(1))
load = Load()


def client(db: int = 0, **options: object) -> redis.Redis:
    """Nothing is tried again."""
    return redis.Redis(
        port=load.port,
        db=db,
        protocol=PROTOCOL,
        decode_responses=True,
        client_name=load.name,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=30,
        **options,
    )


r = client()


def strings() -> None:
    key, counter = load.key("string"), load.key("counter")
    for n in load.rounds("strings"):
        same(r.set(key, f"value {n}"), True, "SET")
        same(r.append(key, "!"), len(f"value {n}!"), "APPEND")
        same(r.get(key), f"value {n}!", "GET")
        same(r.incrby(counter, 3), 3 * n, "INCRBY")
        same(r.incrbyfloat(counter + ":f", 0.5), n / 2, "INCRBYFLOAT")
        same(r.set(key, "no", nx=True), None, "SET NX")
        same(r.mset({key + ":a": n, key + ":b": -n}), True, "MSET")
        same(r.mget(key + ":a", key + ":none", key + ":b"), [str(n), None, str(-n)], "MGET")
        same(r.getdel(key), f"value {n}!", "GETDEL")
        same(r.exists(key), 0, "EXISTS")
        same(r.setbit(key + ":bits", n, 1), 0, "SETBIT")
        same(r.bitcount(key + ":bits"), n, "BITCOUNT")


def collections() -> None:
    hashed, many, ranked, row = (load.key(k) for k in ("hash", "set", "zset", "list"))
    for n in load.rounds("collections"):
        field = f"f{n % 7}"
        same(r.hset(hashed, mapping={field: n, "same": "x"}), 2 if n == 1 else int(n <= 7), "HSET")
        same(r.hget(hashed, field), str(n), "HGET")
        same(r.hincrby(hashed, "sum", n), n * (n + 1) // 2, "HINCRBY")
        same(r.sadd(many, n, n + 1), 2 if n == 1 else 1, "SADD")
        same(r.sismember(many, n + 1), 1, "SISMEMBER")
        same(r.scard(many), n + 1, "SCARD")
        same(r.zadd(ranked, {f"m{n}": n}), 1, "ZADD")
        same(r.zincrby(ranked, 0.5, f"m{n}"), n + 0.5, "ZINCRBY")
        same(pairs(r.zrange(ranked, -1, -1, withscores=True)), [(f"m{n}", n + 0.5)], "ZRANGE")
        if n % 2 == 0:
            same(pairs(r.zpopmax(ranked, 1)), [(f"m{n}", n + 0.5)], "ZPOPMAX")
        same(r.zcard(ranked), (n + 1) // 2, "ZCARD")
        same(r.rpush(row, n), min(n, 11), "RPUSH")
        same(r.ltrim(row, -10, -1), True, "LTRIM")
        same(r.lrange(row, 0, -1), [str(i) for i in range(max(1, n - 9), n + 1)], "LRANGE")
    held = r.smembers(many)
    same(held, {str(i) for i in range(1, len(held) + 1)}, "SMEMBERS")


def pipelines() -> None:
    for n in load.rounds("pipelines"):
        with r.pipeline(transaction=False) as pipe:
            for i in range(20):
                pipe.incr(load.key("piped", str(i)))
            for i in range(20):
                pipe.get(load.key("piped", str(i)))
            same(pipe.execute(), [n] * 20 + [str(n)] * 20, "pipeline")


def transactions() -> None:
    key = load.key("block")
    for n in load.rounds("transactions"):
        with r.pipeline() as pipe:
            pipe.incr(key).hset(key + ":h", "n", n).sadd(key + ":s", n).get(key)
            same(pipe.execute(), [n, int(n == 1), 1, str(n)], "EXEC")


def watch() -> None:
    """Counters that only WATCH keeps right."""
    key = load.key("watched")
    added: list[int] = []

    def add(pipe: redis.client.Pipeline) -> None:
        was = int(pipe.get(key) or 0)
        pipe.multi()
        pipe.set(key, was + 1)

    def worker() -> None:
        for _ in load.rounds("watch"):
            r.transaction(add, key)
            added.append(1)

    load.together(worker, worker, worker)
    same(int(r.get(key) or 0), len(added), "the watched counter")


def scan() -> None:
    keys = {load.key("scanned", str(i)): str(i) for i in range(150)}
    r.mset(keys)
    members = {f"m{i}": i for i in range(600)}
    r.zadd(load.key("many"), members)
    for _ in load.rounds("scan"):
        same(set(r.scan_iter(load.key("scanned", "*"), count=200)), keys.keys(), "SCAN")
        same({m for m, _ in r.zscan_iter(load.key("many"), count=100)}, members.keys(), "ZSCAN")


def expiry() -> None:
    key = load.key("expiring")
    for n in load.rounds("expiry"):
        same(r.set(key, n, ex=100), True, "SET EX")
        same(98 <= r.ttl(key) <= 100, True, "TTL")
        same(r.persist(key), 1, "PERSIST")
        same(r.pttl(key), -1, "PTTL")
        same(r.expireat(key, int(time.time()) + 60), 1, "EXPIREAT")
        same(57 <= r.ttl(key) <= 60, True, "TTL after EXPIREAT")
        same(r.getex(key, persist=True), str(n), "GETEX")
        if n % 10 == 0:
            ends = time.monotonic() + 10
            same(r.set(key + ":soon", n, px=40), True, "SET PX")
            while (value := r.get(key + ":soon")) is not None:
                same(value, str(n), "GET of a key that will expire")
                same(time.monotonic() < ends, True, "the key has expired")


def databases() -> None:
    key = load.key("db")
    with client(db=1) as one, client(db=2) as two:
        for n in load.rounds("databases"):
            same(one.set(key, n), True, "SET in 1")
            same(two.set(key, -n), True, "SET in 2")
            same(one.get(key), str(n), "GET in 1")
            same(two.get(key), str(-n), "GET in 2")
            same(r.get(key), None, "GET in 0")
            same(one.set(key + ":moved", n), True, "SET of what moves")
            same(one.move(key + ":moved", 2), 1, "MOVE")
            same(two.getdel(key + ":moved"), str(n), "GETDEL of what moved")


def identity() -> None:
    """What a connection knows of itself."""
    with client(single_connection_client=True) as own:
        me = own.client_id()
        for _ in load.rounds("identity"):
            same(own.client_id(), me, "CLIENT ID")
            same(own.client_getname(), load.name, "CLIENT GETNAME")
            same(own.echo("x"), "x", "ECHO")
            same(own.ping(), True, "PING")


def inspection() -> None:
    with client(single_connection_client=True) as own:
        me = own.client_id()
        for n in load.rounds("inspection"):
            info = own.client_info()
            same((int(info["id"]), info["name"]), (me, load.name), "CLIENT INFO")
            if n % 10 == 1:  # It is long, for all of them are in it.
                listed = {int(c["id"]): c["name"] for c in own.client_list()}
                same(listed.get(me), load.name, "CLIENT LIST")


def queue() -> None:
    """Jobs that come in by LPUSH and are taken by blocking pops, each exactly once."""
    jobs, doing, ranked = load.key("jobs"), load.key("doing"), load.key("ranked")
    sent: list[int] = []
    taken: list[int] = []
    popped: list[int] = []

    def produce() -> None:
        for n in load.rounds("jobs"):
            same(r.lpush(jobs, 2 * n - 1, 2 * n) > 0, True, "LPUSH")
            same(r.zadd(ranked, {str(n): n}), 1, "ZADD")
            sent.append(n)
        r.lpush(jobs, "end", "end")
        r.zadd(ranked, {"end": 1 << 50})

    def in_order(last: int, job: str) -> int:
        same(int(job) > last, True, f"{job} behind {last}")
        taken.append(int(job))
        load.done["queue"] += 1
        return int(job)

    def pop() -> None:
        last = 0
        while (job := r.brpop([doing + ":none", jobs], timeout=0)[1]) != "end":
            last = in_order(last, job)

    def move() -> None:
        last = 0
        while (job := r.blmove(jobs, doing, 0, "RIGHT", "LEFT")) != "end":
            last = in_order(last, job)
            same(r.lrem(doing, 1, job), 1, "LREM")
        same(r.lrem(doing, 1, "end"), 1, "LREM")

    def lowest() -> None:
        while (job := r.bzpopmin(ranked, timeout=0)[1]) != "end":
            same(int(job), len(popped) + 1, "BZPOPMIN")
            popped.append(int(job))

    def none() -> None:
        while not load.stopping.is_set():
            same(r.blpop(load.key("nothing"), timeout=0.1), None, "BLPOP of nothing")

    load.together(produce, pop, move, lowest, none)
    same(sorted(taken), list(range(1, 2 * len(sent) + 1)), "jobs done")
    same(len(popped), len(sent), "BZPOPMIN")
    same(r.exists(jobs, doing, ranked), 0, "jobs that are left")


def streams() -> None:
    """Each entry once to one consumer of the group, and to who reads the tail."""
    key = load.key("stream")
    r.xgroup_create(key, "group", id="0", mkstream=True)
    sent: list[str] = []
    taken: list[str] = []
    seen: list[str] = []
    ended = threading.Event()

    def produce() -> None:
        sent.extend(r.xadd(key, {"n": n}) for n in load.rounds("entries"))
        ended.set()

    def consume(name: str) -> None:
        while not (ended.is_set() and len(taken) >= len(sent)):
            for entry, fields in streams_of(r.xreadgroup("group", name, {key: ">"}, 5, block=100)):
                same(list(fields), ["n"], "XREADGROUP")
                same(r.xack(key, "group", entry), 1, "XACK")
                taken.append(entry)
                load.done["streams"] += 1

    def tail() -> None:
        while not (ended.is_set() and len(seen) >= len(sent)):
            for entry, fields in streams_of(r.xread({key: (seen or "0")[-1]}, block=100)):
                seen.append(entry)
                same(int(fields["n"]), len(seen), "XREAD")

    load.together(produce, lambda: consume("a"), lambda: consume("b"), tail)
    same(sorted(taken), sorted(sent), "entries taken")
    same(seen, sent, "entries read")
    same(r.xpending(key, "group")["pending"], 0, "XPENDING")
    same(r.xlen(key), len(sent), "XLEN")


def pubsub() -> None:
    """Two publishers; a channel and a pattern: each message exactly once, in order."""
    base = load.key("channel")
    listening = threading.Event()

    def listen() -> None:
        last: dict[tuple[str, str], int] = {}
        ends = 0
        with r.pubsub() as subscriber:
            subscriber.subscribe(base + ":a", base + ":b")
            subscriber.psubscribe(base + ":*")
            for message in subscriber.listen():
                if message["type"].endswith("subscribe"):
                    if message["data"] == 3:
                        listening.set()
                    continue
                if message["data"] == "end":
                    ends += 1
                    if ends == 4:
                        return
                    continue
                where = (message["type"], message["channel"])
                same(int(message["data"]), last.get(where, 0) + 1, f"{where}: the next message")
                last[where] = int(message["data"])
                load.done["pubsub"] += 1

    def publish(channel: str) -> None:
        listening.wait()
        for n in load.rounds("messages"):
            same(r.publish(channel, n), 2, "PUBLISH")
        r.publish(channel, "end")

    def come_and_go() -> None:
        with r.pubsub() as subscriber:
            for n in load.rounds("subscriptions"):
                subscriber.subscribe(f"{load.key('own')}:{n}")
                same(subscriber.get_message(timeout=20)["type"], "subscribe", "SUBSCRIBE")
                same(r.publish(f"{load.key('own')}:{n}", n), 1, "PUBLISH to the own one")
                same(subscriber.get_message(timeout=20)["data"], str(n), "its message")
                subscriber.unsubscribe()
                same(subscriber.get_message(timeout=20)["type"], "unsubscribe", "UNSUBSCRIBE")

    load.together(listen, lambda: publish(base + ":a"), lambda: publish(base + ":b"), come_and_go)


ADD = "redis.call('INCRBY', KEYS[1], ARGV[1]) return {redis.call('GET', KEYS[1]), KEYS[1]}"


def scripts() -> None:
    key = load.key("scripted")
    add = r.register_script(ADD)
    loaded = r.script_load(f"return redis.call('RPUSH', KEYS[1], '{load.name}')")
    for n in load.rounds("scripts"):
        same(add(keys=[key], args=[2]), [str(2 * n), key], "a registered script")
        # Loaded once, before the first flip.
        same(r.evalsha(loaded, 1, key + ":list"), n, "EVALSHA")
        same(r.eval("return redis.call('GET', KEYS[1])", 1, key), str(2 * n), "EVAL")
        same(r.script_exists(loaded), [True], "SCRIPT EXISTS")


def locks() -> None:
    """A counter that only redis-py's Lock keeps right."""
    key = load.key("locked")
    added: list[int] = []

    def worker() -> None:
        for _ in load.rounds("locks"):
            with r.lock(key + ":lock", timeout=60, sleep=0.01) as lock:
                r.set(key, int(r.get(key) or 0) + 1)
                lock.extend(60)
            added.append(1)

    load.together(worker, worker, worker)
    same(int(r.get(key) or 0), len(added), "the locked counter")


def cache() -> None:
    """Client-side caching: what another connection writes is seen, soon."""
    key = load.key("cached")
    # It asks for 7.4, but all it uses is there since 6.0.
    CacheProxyConnection.MIN_ALLOWED_VERSION = "6.0.0"
    with client(cache_config=CacheConfig()) as cached:
        for n in load.rounds("cache"):
            same(r.set(key, n), True, "SET")
            ends = time.monotonic() + 10
            while (value := cached.get(key)) != str(n):
                same(value in (None, str(n - 1)), True, f"GET {value!r} of the cache at {n}")
                if time.monotonic() > ends:
                    raise Wrong(f"the cache still has {value!r} at {n}")
                time.sleep(0.001)
            same([cached.get(key) for _ in range(3)], [str(n)] * 3, "GET of the cache")
            same(cached.get_cache().size > 0, True, "the cache is used")


load.run(
    {
        f.__name__: f
        for f in (
            strings,
            collections,
            pipelines,
            transactions,
            watch,
            scan,
            expiry,
            databases,
            identity,
            inspection,
            queue,
            streams,
            pubsub,
            scripts,
            locks,
            cache,
        )
    }
)
