"""A `keyferry run` of one's own: started as a process, asked over its admin API, ended.

Used by the demo and by tests. Owns the process and nothing of what it does.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from migrator.client import AdminClient
from migrator.errors import KeyferryError, Unreachable
from migrator.servers import free_port

Json = dict[str, Any]

START_SECONDS = 20.0
STOP_SECONDS = 20.0
POLL_SECONDS = 0.05
COMMAND = (sys.executable, "-m", "migrator")

# Ends the process $1 when its owner has, however that ended: the pipe to its stdin closes then.
_GUARD = 'cat > /dev/null; kill "$1" 2> /dev/null'


class Instance:
    """`directory` holds its state and its log. `command` is what `run …` is appended to."""

    def __init__(
        self,
        source: str,
        target: str,
        directory: Path,
        *,
        command: Sequence[str] = COMMAND,
        options: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.log = directory / "keyferry.log"
        self.port = free_port()
        self.admin = AdminClient(f"http://127.0.0.1:{free_port()}")
        self._words = [
            *command, "run", "--source", source, "--target", target,
            "--listen", f"127.0.0.1:{self.port}", "--admin", self.admin.url,
            "--state", str(directory / "state"), *options,
        ]  # fmt: skip
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Of the process, while there is one."""
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    async def start(self) -> None:
        """Run it, and return when it serves. Raises KeyferryError with the end of its log."""
        self._launch()
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if not self.is_running:
                break
            try:
                await self.status()
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
            except (Unreachable, OSError):
                await asyncio.sleep(POLL_SECONDS)
            else:
                writer.close()
                return
        self.kill()
        raise KeyferryError("keyferry run did not start:\n" + self.log_end())

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self._environment, start_new_session=True,
            )  # fmt: skip
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self._process.pid)],
            stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            start_new_session=True,
        )  # fmt: skip

    async def stop(self) -> int:
        """An orderly end; returns the exit code. Past its time it is killed."""
        process = self._process
        if process is None:
            return 0
        process.send_signal(signal.SIGTERM)
        try:
            code = await asyncio.to_thread(process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            return -signal.SIGKILL
        self.kill()
        return code

    def kill(self) -> None:
        """kill -9; `start` runs it again on the same state."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.kill()
            guard.wait()
            assert guard.stdin is not None
            guard.stdin.close()

    def log_end(self, lines: int = 15) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    async def status(self) -> Json:
        """Raises Unreachable."""
        return await asyncio.to_thread(self.admin.status)

    async def ask(self, verb: str, **options: Any) -> Json:
        """A verb's answer. Raises Refused, BadInput, Unreachable, KeyferryError."""
        return await asyncio.to_thread(self.admin.post, verb, options)

    async def until(
        self,
        is_true: Callable[[Json], bool],
        what: str,
        *,
        deadline_s: float = 60.0,
        tell: Callable[[Json], None] = lambda status: None,
    ) -> Json:
        """Ask for the status until it is so; `tell` gets each one. Raises KeyferryError."""
        deadline = time.monotonic() + deadline_s
        while True:
            status = await self.status()
            tell(status)
            if is_true(status):
                return status
            if time.monotonic() > deadline:
                raise KeyferryError(f"{what}: not so after {deadline_s:g} s: {status}")
            await asyncio.sleep(POLL_SECONDS)
