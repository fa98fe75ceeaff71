"""What a process has in memory, as Linux tells it."""

from __future__ import annotations

from pathlib import Path

import pytest

MEGABYTE = 1 << 20

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="memory is read from Linux's /proc"
)


class Memory:
    """One process. `base` is its resident memory when this was made, or at the last `restart`."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        self.base = 0
        self.restart()

    def restart(self) -> None:
        """The peak is what it is from here on."""
        (self._proc / "clear_refs").write_text("5")
        self.base = self.now

    @property
    def now(self) -> int:
        return self._bytes("VmRSS")

    @property
    def grown(self) -> int:
        """Bytes of the peak above the base."""
        return self._bytes("VmHWM") - self.base

    def _bytes(self, name: str) -> int:
        for line in (self._proc / "status").read_text().splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
        raise AssertionError(f"{name} is not in /proc's status")
