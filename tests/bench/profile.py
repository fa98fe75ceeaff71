"""Where each microsecond of a command goes in Keyferry's process: CPU by layer, from `perf`.

    python -m tests.bench.profile [COMMAND:DEPTH...] [--requests N]

Needs Linux's `perf` and the rights to use it. 50 clients, mirroring. A sample counts for the layer
of the innermost frame that belongs to one, so what the interpreter does for a module (memory,
dictionaries, calls) is that module's; the kernel's work counts for the system call. Beside it
stands what the stores and the load cost: on a machine with few cores they are the rest of the time.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from . import load
from .load import Cell
from .process import cpu_seconds
from .stage import MIRRORING, staged

HERTZ = 499
# Enough for the frames between a system call and the event loop.
STACK_BYTES = 4096
KERNEL = "[kernel"
# The first that a stack's frames have, from the innermost, decides; looked at frame by frame.
LAYERS = (
    ("requests: framing, names, keys", re.compile(r"resp_*\d*requests|resp_*\d*window")),
    ("replies: framing", re.compile(r"resp_*\d*replies")),
    ("key table", re.compile(r"\d+keytable")),
    ("mirror: append, compare", re.compile(r"_\d+append_|_\d+sent_|_\d+mirror_|_\d+log_")),
    ("session: dispatch, tickets", re.compile(r"_\d+(session|ops|plane|places|counts|model)_")),
    ("lanes and their queues", re.compile(r"_\d+(lane|fifo|op)_")),
    ("uvloop", re.compile(r"uvloop|uv__|uv_run")),
)
SYSTEM_CALLS = (
    ("kernel: writing to sockets", re.compile(r"\b(ksys_write|sock_sendmsg|do_writev)\b")),
    ("kernel: reading from sockets", re.compile(r"\b(ksys_read|sock_recvmsg)\b")),
    ("kernel: waiting for events", re.compile(r"epoll")),
)
OTHER_KERNEL = "kernel: other"
OTHER = "interpreter, and all else"


def layer(frames: Sequence[str]) -> str:
    """Of one sample. ``frames`` are ``symbol (object)``, the innermost first."""
    if frames and KERNEL in frames[0]:
        for name, pattern in SYSTEM_CALLS:
            if any(pattern.search(frame) for frame in frames):
                return name
        return OTHER_KERNEL
    for frame in frames:
        for name, pattern in LAYERS:
            if pattern.search(frame):
                return name
    return OTHER


def samples(text: str) -> Iterator[list[str]]:
    """The stacks that ``perf script -F ip,sym,dso`` prints."""
    for block in text.split("\n\n"):
        frames = [line.split(None, 1)[1] for line in block.splitlines() if len(line.split()) > 1]
        if frames:
            yield frames


def shares(text: str) -> dict[str, float]:
    """Layer -> its share of all samples, the largest first."""
    counted = Counter(layer(frames) for frames in samples(text))
    total = sum(counted.values())
    return {name: count / total for name, count in counted.most_common()}


def _load_seconds() -> float:
    """CPU of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def profiled(cells: Sequence[Cell], requests: int) -> None:
    async with staged(peers=()) as stage:
        (contender,) = (each for each in stage.contenders if each.name == MIRRORING)
        assert contender.pid is not None
        for cell in cells:
            count = requests * min(cell.depth, 8)
            await load.run(contender.port, cell, count // 10)
            with tempfile.TemporaryDirectory() as directory:
                data = Path(directory) / "perf.data"
                perf = await asyncio.create_subprocess_exec(
                    "perf", "record", "-e", "cpu-clock", "-F", str(HERTZ),
                    "--call-graph", f"dwarf,{STACK_BYTES}", "-p", str(contender.pid),
                    "-o", str(data), stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                await load.run(contender.port, cell, count)
                perf.send_signal(signal.SIGINT)
                await perf.wait()
                script = await asyncio.create_subprocess_exec(
                    "perf", "script", "-i", str(data), "-F", "ip,sym,dso", "--no-inline",
                    stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
                )  # fmt: skip
                output, _ = await script.communicate()
            # perf costs time itself: what a command costs is measured without it.
            pids = (contender.pid, stage.source.pid, stage.target.pid)
            before = [*map(cpu_seconds, pids), _load_seconds()]
            run = await load.run(contender.port, cell, count)
            await stage.drained()
            after = [*map(cpu_seconds, pids), _load_seconds()]
            costs = [(b - a) / count * 1e6 for a, b in zip(before, after, strict=True)]
            each_us, source, target, sender = costs
            print(
                f"\n{cell}: {run.per_second:,.0f}/s; CPU for each command: {each_us:.2f} us, "
                f"source {source:.2f}, target {target:.2f}, load {sender:.2f}\n"
            )
            for name, share in shares(output.decode(errors="replace")).items():
                print(f"| {name} | {share * each_us:.2f} | {share:.0%} |")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench.profile",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("cells", nargs="*", default=["SET:1", "GET:1", "SET:16", "GET:16"])
    parser.add_argument("--requests", type=int, default=200_000)
    options = parser.parse_args()
    if shutil.which("perf") is None or load.program() is None:
        print("perf and redis-benchmark are needed (Debian: linux-perf, redis-tools)")
        return 1
    cells = [Cell(name, int(depth)) for name, _, depth in (c.partition(":") for c in options.cells)]
    asyncio.run(profiled(cells, options.requests))
    return 0


if __name__ == "__main__":
    sys.exit(main())
