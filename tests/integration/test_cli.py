"""The command as operators and scripts meet it: exit codes, one line of complaint, JSON."""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys

import pytest

from proxy import compiled
from tests.integration.keyferry import ROOT, Process


async def keyferry(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "migrator", *words]
    return await asyncio.to_thread(
        subprocess.run, command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


async def complains(code: int, *words: str, about: str) -> None:
    done = await keyferry(*words)
    assert done.returncode == code, done
    assert done.stdout == ""
    [line] = [each for each in done.stderr.splitlines() if " INFO " not in each]
    assert line.startswith("keyferry: ")
    assert about in line


@pytest.mark.parametrize(
    ("words", "about"),
    [
        (("--source", "http://a", "--target", "redis://b"), "--source"),
        (("--source", "redis://a:port", "--target", "redis://b"), "--source"),
        (("--source", "redis://a", "--target", "redis://a"), "--target"),
        (("--target", "redis://b"), "--source"),
        (("--source", "redis://a", "--target", "redis://b", "--listen", "here"), "--listen"),
        (("--source", "redis://a", "--target", "redis://b", "--admin", "0.0.0.0:1"), "--admin"),
        (("--source", "redis://a", "--target", "redis://b", "--nonsense"), "--nonsense"),
    ],
    ids=["scheme", "port", "same", "missing", "listen", "token", "option"],
)
async def test_a_wrong_value_is_one_line_that_names_the_setting(
    words: tuple[str, ...], about: str
) -> None:
    await complains(2, "run", *words, about=about)


@pytest.mark.parametrize("setting", ["listen", "admin"])
async def test_a_port_in_use_is_one_line_that_names_the_setting(
    process: Process, setting: str
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process.port = port if setting == "listen" else process.port
        process.admin_port = port if setting == "admin" else process.admin_port
        await complains(1, "run", *process.arguments, about=f"--{setting}")


async def test_a_source_that_nobody_answers_at_is_one_line(process: Process) -> None:
    process.source.kill()
    await complains(1, "run", *process.arguments, about="--source")
    process.source.start()


async def test_verbs_without_a_process_say_so_with_code_3(process: Process) -> None:
    admin = f"http://127.0.0.1:{process.admin_port}"
    await complains(3, "status", "--admin", admin, about=admin)
    await complains(3, "cutover", "--admin", admin, about=admin)


async def test_verbs_exit_codes_and_one_json_object(process: Process) -> None:
    await process.start()
    admin = ("--admin", f"http://127.0.0.1:{process.admin_port}")
    done = await keyferry("cutover", *admin)
    assert done.returncode == 1
    assert done.stdout == ""
    names = [line.split(": ")[1] for line in done.stderr.splitlines()]
    assert names == ["illegal_step", "not_started", "backfill_incomplete", "not_verified"]
    done = await keyferry("cutover", "--json", *admin)
    assert done.returncode == 1
    assert [each["name"] for each in json.loads(done.stdout)["blockers"]] == names
    assert (await keyferry("shift", "101", *admin)).returncode == 2
    assert (await keyferry("shift", *admin)).returncode == 2
    assert (await keyferry("cutover", "--max-pause", "soon", *admin)).returncode == 2
    for words, phase in (
        (("start", "--wait"), "mirroring"),
        (("verify", "--wait"), "mirroring"),
        (("cutover", "--dry-run"), "mirroring"),
        (("shift", "50"), "mirroring"),
        (("cutover",), "cutover"),
        (("rollback",), "mirroring"),
        (("cutover", "--max-pause", "2s"), "cutover"),
        (("finish",), "finished"),
    ):
        done = await keyferry(*words, "--json", *admin)
        assert done.returncode == 0, (words, done)
        answer = json.loads(done.stdout)
        assert answer["before"]["phase"]
        assert answer["after"]["phase"] == phase
    done = await keyferry("status", *admin)
    assert done.returncode == 0
    assert "finished" in done.stdout
    assert (await keyferry("rollback", *admin)).returncode == 1


async def test_the_log_says_at_start_which_form_runs(process: Process) -> None:
    await process.start()
    [line] = [each for each in process.log.splitlines() if " serving on " in each]
    slower = "" if compiled.is_compiled() else " (slower)"
    assert line.endswith(f"; hot path: {compiled.form()}{slower}")
