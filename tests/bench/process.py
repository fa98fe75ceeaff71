"""What a process costs: CPU, memory; and how many files one may have open.

Reads /proc; where there is none (not Linux) every figure is 0.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
from pathlib import Path

NANOSECONDS = 1e9
# What is needed for 10,000 clients and as many connections behind a proxy.
OPEN_FILES = 65_536


def cpu_seconds(pid: int | None) -> float:
    """CPU time of all threads so far, in steps far below a clock tick."""
    if pid is None:
        return 0.0
    total = 0
    for each in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        # A thread may end between the listing and the look.
        with contextlib.suppress(OSError):
            total += int(each.read_text().split()[0])
    return total / NANOSECONDS


def resident_bytes(pid: int | None) -> int:
    return _status(pid, "VmRSS")


def peak_bytes(pid: int | None) -> int:
    """The most it had resident since `forget_peak`, or since it began."""
    return _status(pid, "VmHWM")


def forget_peak(pid: int) -> None:
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/clear_refs").write_text("5")


def raise_open_files() -> int:
    """As many open files as can be had, up to OPEN_FILES; children inherit it. Returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, OPEN_FILES)
    # Only a privileged process may raise the hard limit.
    for limit in ((wanted, max(hard, wanted)), (min(wanted, hard), hard)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
            break
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def _status(pid: int | None, name: str) -> int:
    if pid is None or not os.path.isdir(f"/proc/{pid}"):  # noqa: PTH112
        return 0
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE)
    return int(found[1]) * 1024 if found else 0
