"""A load of our own, where redis-benchmark has none: blocks, steady rates, churn, idle clients.

    python -m tests.bench.sender '{"port": 6379, "mode": "load", ...}'

A process of its own, so that it has a core of its own; prints one JSON object. Raw sockets and
epoll: requests are composed before the clock starts, and a reply is compared with the bytes that it
must be, so that a wrong or an error reply ends the run. That makes it about as fast as a proxy, not
as fast as a store: against one it measures itself when it is not held to a rate. So redis-benchmark
is the load wherever it can be, and this one where it cannot:

- MULTI of 4: redis-benchmark cannot send a block as one item of a pipeline.
- a rate: redis-benchmark sends as fast as it can. Here each client has its turns, evenly, whether
  replies come or not; a latency counts from the moment at which its request was due, so that
  neither a busy connection nor a sender that is late hides anything. How late, and which share of
  a core it needed, is said too.
- connections that come and go, or only stay; values too large for redis-benchmark.
"""

from __future__ import annotations

import gc
import json
import random
import select
import socket
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from .process import cpu_seconds

CHUNK = 1 << 20
PATIENCE_SECONDS = 60.0
# Distinct requests that are composed, in all.
POOL = 100_000
OPEN_AT_ONCE = 200


class WrongReply(Exception):
    """Something was answered that must not be; the first bytes of it."""


def encode(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words)


def item(work: str, key: bytes, value: bytes) -> tuple[bytes, bytes]:
    """One item of a pipeline and its reply. Keys that are read must be there with that value."""
    if work == "SET":
        return encode(b"SET", key, value), b"+OK\r\n"
    if work == "GET":
        return encode(b"GET", key), b"$%d\r\n%s\r\n" % (len(value), value)
    if work == "MULTI 4":
        sets = b"".join(encode(b"SET", key + b":%d" % n, value) for n in range(4))
        replies = b"+OK\r\n" + b"+QUEUED\r\n" * 4 + b"*4\r\n" + b"+OK\r\n" * 4
        return encode(b"MULTI") + sets + encode(b"EXEC"), replies
    raise ValueError(work)


def batches(
    work: str, depth: int, size: int, keys: int, pattern: str, most: int = POOL, seed: int = 1
) -> list[tuple[bytes, bytes]]:
    """Pipelines of `depth` items and their replies, of random keys; "mixed": SET or GET, evenly.

    About `most` items in all, which are sent again and again.
    """
    chance = random.Random(seed)
    value = b"x" * size
    made = []
    for _ in range(max(64, min(most, 200 * CHUNK // (size + 64)) // depth)):
        one = []
        for _ in range(depth):
            kind = chance.choice(("SET", "GET")) if work == "mixed" else work
            one.append(item(kind, (pattern % chance.randrange(keys)).encode(), value))
        made.append((b"".join(r for r, _ in one), b"".join(a for _, a in one)))
    return made


@dataclass(slots=True)
class Client:
    """One connection: what it waits for, and the turns that came meanwhile."""

    socket: socket.socket
    position: int
    expected: bytes = b""
    received: bytearray = field(default_factory=bytearray)
    since: float = 0.0
    rest: bytes = b""
    due: deque[float] = field(default_factory=deque)


class Load:
    """Clients that send batches and wait for their replies, at a rate or as fast as they can."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._made = batches(
            options["work"], options["depth"], options["size"], options["keys"],
            options.get("pattern", "key:%012d"), min(POOL, self._items(options)),
        )  # fmt: skip
        self._depth = options["depth"]
        # Whose CPU counts: from when all connections are there.
        self._pid = options.get("pid")
        self._rate = options.get("rate", 0)
        self._seconds = options.get("seconds", 0.0)
        self._wanted = options.get("requests", 0) // self._depth
        self._epoll = select.epoll()
        self._clients: dict[int, Client] = {}
        for n in range(options["clients"]):
            opened = connected(options["port"])
            opened.setblocking(False)
            self._epoll.register(opened, select.EPOLLIN)
            # Apart from each other, or all of them write the same keys in step.
            position = n * len(self._made) // options["clients"]
            self._clients[opened.fileno()] = Client(opened, position)
        self._latencies: list[float] = []
        # How long after their turn requests went whose connection was free: the sender's own.
        self._late: list[float] = []
        self._sent = 0
        # Nothing here is cyclic, and a look at all that was composed takes milliseconds.
        gc.collect()
        gc.disable()

    @staticmethod
    def _items(options: dict[str, Any]) -> int:
        """How many will be sent."""
        steadily = options.get("rate", 0) * options.get("seconds", 0)
        return int(options.get("requests") or steadily)

    def run(self) -> dict[str, Any]:
        before = cpu_seconds(self._pid)
        own = time.process_time()
        began = time.perf_counter()
        if self._rate:
            self._steadily(began)
        else:
            self._at_once()
        took = time.perf_counter() - began
        done = len(self._latencies) * self._depth
        cpu = cpu_seconds(self._pid) - before
        return {
            "per_second": done / took, "requests": done, "cpu_us": cpu / max(1, done) * 1e6,
            "busy": round((time.process_time() - own) / took, 3),
            "late_ms": summary(self._late)["latency_ms"],
            **summary(self._latencies),
        }  # fmt: skip

    def _at_once(self) -> None:
        for client in list(self._clients.values())[: self._wanted]:
            self._send(client, time.perf_counter())
        deadline = time.perf_counter() + PATIENCE_SECONDS
        while len(self._latencies) < self._wanted:
            for number, event in self._epoll.poll(1.0):
                client = self._clients[number]
                if self._moves(client, event) and self._sent < self._wanted:
                    self._send(client, time.perf_counter())
            if time.perf_counter() > deadline:
                raise TimeoutError(
                    f"{len(self._latencies)} of {self._wanted} batches were answered"
                )

    def _steadily(self, began: float) -> None:
        turns = list(self._clients.values())
        interval = self._depth / self._rate
        ends, turn = began + self._seconds, 0
        while True:
            now = time.perf_counter()
            while (due := began + turn * interval) <= now and due < ends:
                client = turns[turn % len(turns)]
                turn += 1
                if client.expected:
                    client.due.append(due)
                else:
                    self._late.append(now - due)
                    self._send(client, due)
            if due >= ends and len(self._latencies) == turn:
                return
            if now > ends + PATIENCE_SECONDS:
                raise TimeoutError(f"{turn - len(self._latencies)} batches were not answered")
            # Not epoll's own timeout, which is in whole milliseconds.
            select.select([self._epoll.fileno()], [], [], max(0.0, min(due - now, 0.1)))
            for number, event in self._epoll.poll(0):
                client = self._clients[number]
                if self._moves(client, event) and client.due:
                    self._send(client, client.due.popleft())

    def _send(self, client: Client, since: float) -> None:
        request, client.expected = self._made[client.position]
        client.position = (client.position + 1) % len(self._made)
        client.since = since
        self._sent += 1
        self._write(client, request)

    def _write(self, client: Client, data: bytes) -> None:
        try:
            sent = client.socket.send(data)
        except BlockingIOError:
            sent = 0
        was_waiting, client.rest = bool(client.rest), data[sent:]
        if was_waiting != bool(client.rest):
            events = select.EPOLLIN | (select.EPOLLOUT if client.rest else 0)
            self._epoll.modify(client.socket, events)

    def _moves(self, client: Client, event: int) -> bool:
        """Writes what can be written and reads what came: whether the whole reply is here."""
        if event & select.EPOLLOUT and client.rest:
            self._write(client, client.rest)
        if not event & ~select.EPOLLOUT:
            return False
        data: bytes | bytearray = client.socket.recv(CHUNK)
        if not data:
            raise WrongReply("the connection was closed")
        if client.received or len(data) < len(client.expected):
            client.received += data
            data = client.received
            # Nothing may be waited for behind a reply that is wrong and shorter.
            if not client.expected.startswith(bytes(data[: len(client.expected)])):
                raise WrongReply(bytes(data[:200]))
            if len(data) < len(client.expected):
                return False
        if data != client.expected:
            raise WrongReply(bytes(data[:200]))
        self._latencies.append(time.perf_counter() - client.since)
        client.expected = b""
        client.received.clear()
        return True


def churn(options: dict[str, Any]) -> dict[str, Any]:
    """`rate` connections a second for `seconds`: each is opened, asks once, and is closed."""
    epoll = select.epoll()
    opened: dict[int, tuple[socket.socket, float]] = {}
    latencies: list[float] = []
    failed, turn, interval = 0, 0, 1.0 / options["rate"]
    request, expected = item("SET", b"churn", b"x" * 64)
    began = time.perf_counter()
    total = int(options["rate"] * options["seconds"])
    while len(latencies) + failed < total:
        now = time.perf_counter()
        if now > began + options["seconds"] + PATIENCE_SECONDS:
            failed = total - len(latencies)
            break
        while turn < total and began + turn * interval <= now:
            turn += 1
            new = socket.socket()
            new.setblocking(False)
            new.connect_ex(("127.0.0.1", options["port"]))
            epoll.register(new, select.EPOLLOUT)
            opened[new.fileno()] = (new, time.perf_counter())
        wait = began + turn * interval - time.perf_counter() if turn < total else 0.1
        select.select([epoll.fileno()], [], [], max(0.0, wait))
        for number, event in epoll.poll(0):
            one, since = opened[number]
            try:
                if event & select.EPOLLOUT:
                    one.send(request)
                    epoll.modify(one, select.EPOLLIN)
                    continue
                is_right = one.recv(CHUNK) == expected
            except OSError:
                is_right = False
            if is_right:
                latencies.append(time.perf_counter() - since)
            else:
                failed += 1
            epoll.unregister(one)
            del opened[number]
            one.close()
    took = time.perf_counter() - began
    return {"per_second": len(latencies) / took, "failed": failed, **summary(latencies)}


def queue(options: dict[str, Any]) -> dict[str, Any]:
    """`producers` push `requests` elements, one after another each; `workers` wait for them.

    A latency is from the sending of an element to its coming to a worker. Each must come once.
    """
    total, key = options["requests"], b"queue"
    pop = encode(b"BLPOP", key, b"0")
    head = b"*2\r\n$%d\r\n%s\r\n$20\r\n" % (len(key), key)
    whole = len(head) + 22
    epoll = select.epoll()
    sockets: dict[int, socket.socket] = {}
    workers: set[int] = set()
    producers: list[socket.socket] = []
    for n in range(options["workers"] + options["producers"]):
        one = connected(options["port"])
        sockets[one.fileno()] = one
        epoll.register(one, select.EPOLLIN)
        if n < options["workers"]:
            workers.add(one.fileno())
            one.sendall(pop)
        else:
            producers.append(one)
    came: dict[int, bytes] = {}
    since: list[float] = []
    latencies: list[float] = []
    seen = bytearray(total)

    def push(one: socket.socket) -> None:
        if len(since) < total:
            number = len(since)
            since.append(time.perf_counter())
            one.sendall(encode(b"RPUSH", key, b"%020d" % number))

    began = time.perf_counter()
    for one in producers:
        push(one)
    while len(latencies) < total:
        now = time.perf_counter()
        if now > began + PATIENCE_SECONDS:
            raise TimeoutError(f"{len(latencies)} of {total} elements came")
        for number, _ in epoll.poll(1.0):
            one = sockets[number]
            data = came.pop(number, b"") + one.recv(CHUNK)
            if number not in workers:
                if not data.startswith(b":"):
                    raise WrongReply(data[:200] or "the connection was closed")
                push(one)
            elif len(data) < whole and data and head.startswith(data[: len(head)]):
                came[number] = data
            elif len(data) != whole or not data.startswith(head):
                raise WrongReply(data[:200] or "the connection was closed")
            else:
                at = int(data[len(head) : -2])
                if seen[at]:
                    raise WrongReply(f"element {at} came twice")
                seen[at] = 1
                latencies.append(time.perf_counter() - since[at])
                one.sendall(pop)
    took = time.perf_counter() - began
    return {"per_second": total / took, **summary(latencies)}


def stay(options: dict[str, Any]) -> None:
    """Opens `clients` connections, each asks once; says so, and keeps them until stdin ends."""
    request, expected = item("SET", b"idle", b"x" * 64)
    kept: list[socket.socket] = []
    while len(kept) < options["clients"]:
        new = [
            connected(options["port"])
            for _ in range(min(OPEN_AT_ONCE, options["clients"] - len(kept)))
        ]
        for each in new:
            each.sendall(request)
        for each in new:
            if (got := each.recv(CHUNK)) != expected:
                raise WrongReply(got[:200])
        kept += new
    print(json.dumps({"clients": len(kept)}), flush=True)
    sys.stdin.buffer.read()


def large(options: dict[str, Any]) -> dict[str, Any]:
    """One value of `size` bytes, written (`work` SET) or read (GET)."""
    size = options["size"]
    one = connected(options["port"])
    began = time.perf_counter()
    if options["work"] == "SET":
        chunk = random.Random(1).randbytes(CHUNK)
        one.sendall(b"*3\r\n$3\r\nSET\r\n$3\r\nbig\r\n$%d\r\n" % size)
        for at in range(0, size, CHUNK):
            one.sendall(chunk[: min(CHUNK, size - at)])
        one.sendall(b"\r\n")
        if (got := one.recv(CHUNK)) != b"+OK\r\n":
            raise WrongReply(got[:200] or "the connection was closed")
        return {"seconds": time.perf_counter() - began}
    one.sendall(encode(b"GET", b"big"))
    whole = left = len(b"$%d\r\n\r\n" % size) + size
    while left > 0:
        got = one.recv(CHUNK)
        if not got:
            raise WrongReply(f"the connection was closed {left} bytes before the end")
        if left == whole and not got.startswith(b"$%d" % size):
            raise WrongReply(got[:200])
        left -= len(got)
    return {"seconds": time.perf_counter() - began}


def connected(port: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return one


def summary(latencies: list[float]) -> dict[str, Any]:
    """`latency_ms`: percentile -> milliseconds; of nothing: 0."""
    ordered = sorted(latencies) or [0.0]
    return {
        "latency_ms": {
            str(at): round(ordered[min(len(ordered) - 1, int(len(ordered) * at / 100))] * 1e3, 4)
            for at in (50.0, 99.0, 99.9)
        },
        "worst_ms": round(ordered[-1] * 1e3, 3),
    }


def main() -> int:
    options = json.loads(sys.argv[1])
    try:
        if options["mode"] == "idle":
            stay(options)
            return 0
        modes = {"load": lambda o: Load(o).run(), "churn": churn, "large": large, "queue": queue}
        print(json.dumps(modes[options["mode"]](options)))
    except (OSError, WrongReply, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
