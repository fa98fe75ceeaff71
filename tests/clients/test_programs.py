"""What cannot be had is skipped for a reason that can be read."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.clients import programs
from tests.clients.programs import GROUPS, Unavailable, installed, run, tool

HERE = Path(__file__).parent
DOCUMENT = HERE.parent.parent / "docs" / "clients.md"
EVERYBODY = [client for clients in GROUPS.values() for client in clients]


def test_a_tool_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Unavailable, match="there is no node on this machine"):
        tool("node", 20)


@pytest.mark.parametrize("client", EVERYBODY, ids=str)
def test_without_any_tools_only_the_clients_in_python_are_there(
    client: programs.Client, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    if client.name.startswith("redis-py"):
        assert client.command()
    else:
        with pytest.raises(Unavailable):
            client.command()


def test_a_tool_that_is_too_old_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "redis-cli"
    old.write_text("#!/bin/sh\necho redis-cli 6.0.16\n")
    old.chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    with pytest.raises(Unavailable, match=r"'redis-cli 6\.0\.16' is older than redis-cli 7"):
        tool("redis-cli", 7)


def test_what_failed_is_the_line_with_the_address_or_the_last_one(tmp_path: Path) -> None:
    loud = "echo 'get http://127.0.0.1:9/: refused' >&2; echo 'see the log' >&2; exit 1"
    failure = run(["sh", "-c", loud], tmp_path, 10)
    assert failure is not None and failure.endswith(": get http://127.0.0.1:9/: refused")
    failure = run(["sh", "-c", "echo one; echo two; exit 3"], tmp_path, 10)
    assert failure is not None and failure.endswith(": two")
    assert run(["true"], tmp_path, 10) is None


def test_who_takes_too_long_is_not_waited_for(tmp_path: Path) -> None:
    assert run(["sleep", "60"], tmp_path, 0.1) == "sleep 60: not in 0.1 s"


def test_what_could_not_be_fetched_is_not_tried_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(programs, "BUILD", tmp_path)
    monkeypatch.setattr(programs, "_failed", {})
    for fetch in (["sh", "-c", "echo no network; exit 1"], ["true"]):
        with pytest.raises(Unavailable, match="no network"):
            installed("node", fetch)


def test_what_cannot_be_built_is_a_defect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(programs, "BUILD", tmp_path)
    monkeypatch.setattr(programs, "_failed", {})
    with pytest.raises(AssertionError, match="not Go"):
        installed("go", ["true"], ["sh", "-c", "echo 'not Go'; exit 2"])


def test_the_documentation_has_the_versions_that_are_fetched() -> None:
    rows = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| ")]
    node = json.loads((HERE / "node" / "package.json").read_text())["dependencies"]
    go = (HERE / "go" / "go.mod").read_text()
    java = (HERE / "java" / "pom.xml").read_text()
    fetched = {
        "ioredis": node["ioredis"],
        "node-redis": node["redis"],
        "go-redis": go.split("redis/v9 v")[1].split()[0],
        "Jedis": re.findall(r"<artifactId>jedis</artifactId>\s*<version>([\d.]+)", java)[0],
        "Lettuce": re.findall(
            r"<artifactId>lettuce-core</artifactId>\s*<version>([\d.]+)\.R", java
        )[0],
    }
    for name, version in fetched.items():
        (row,) = [row for row in rows if row.startswith(f"| [{name}]")]
        assert f"| {version} |" in row
