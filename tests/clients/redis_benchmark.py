"""redis-benchmark with all its tests, again and again: it ends at the first error that it gets.

As harness.py says, but for the features: each is a way to run it. It has no model of what is
right; its part is 50 clients that come and go, and deep pipelines.
"""

from __future__ import annotations

import shutil
import subprocess

from tests.clients.harness import Load

load = Load()
OPTIONS = {
    "plain": (),
    "pipelined": ("-P", "16"),
    "threads": ("--threads", "2"),
    "resp3": ("-3", "-r", "100"),
}


ALL_TESTS = 20
# It takes what it can get, and others want to be served, too.
PAUSE_S = 0.5


def benchmark(way: str) -> None:
    program = shutil.which("redis-benchmark")
    assert program is not None
    command = (program, "-p", str(load.port), "-n", "200", "-c", "50", "-q", *OPTIONS[way])
    most = 0
    while not load.stopping.wait(PAUSE_S):
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as running:
            most = max(most, judge(running, way, is_enough=most >= ALL_TESTS))
    if most < ALL_TESTS:
        raise RuntimeError(f"no more than {most} tests in one run")


def judge(running: subprocess.Popen[str], way: str, *, is_enough: bool) -> int:
    """How many tests were done; all of them, if it was not stopped.

    is_enough: a whole run was seen before. Without one the last is not stopped: how many fit into
    the time of a migration is the machine's affair.
    """
    assert running.stdout is not None
    tests, told = 0, []
    # Lines end with a carriage return while a test runs.
    for line in running.stdout:
        if is_enough and load.stopping.is_set() and tests < ALL_TESTS:
            running.terminate()
            return tests
        if "requests per second" in line:
            tests += 1
            load.done[way] += 1
        elif line.strip() and "rps=" not in line:
            told.append(line)
    if running.wait() or told:
        raise RuntimeError(f"exit code {running.returncode}: {told[-3:]}")
    return tests


load.run({way: lambda way=way: benchmark(way) for way in OPTIONS})
