"""The command line: exit codes, what is on stdout and stderr, what is asked of the process."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from migrator import cli
from migrator.client import AdminClient
from migrator.errors import BadInput, Refused
from tests.admin.controllers import REFUSAL, RememberingController
from tests.admin.threads import serving
from tests.servers import free_port

Said = pytest.CaptureFixture[str]


@pytest.fixture
def controller() -> RememberingController:
    return RememberingController()


@pytest.fixture(autouse=True)
def process(controller: RememberingController, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The URL of a process, which is also where verbs go by default."""
    monkeypatch.setattr(cli, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(cli, "WATCH_SECONDS", 0.01)
    monkeypatch.delenv("KEYFERRY_ADMIN_TOKEN", raising=False)
    with serving(controller) as server:
        monkeypatch.setenv("KEYFERRY_ADMIN", server.url)
        yield server.url


def keyferry(*argv: str) -> int:
    with pytest.raises(SystemExit) as caught:
        cli.main(list(argv))
    assert isinstance(caught.value.code, int)
    return caught.value.code


@pytest.mark.parametrize(
    ("argv", "call"),
    [
        (["analyze"], ("analyze",)),
        (["start"], ("start", [])),
        (["start", "--allow", "a", "--allow", "b"], ("start", ["a", "b"])),
        (["verify", "--sample", "5", "--repair"], ("verify", 5, True)),
        (["shift", "50"], ("shift", 50)),
        (["cutover"], ("cutover", False, 1000.0)),
        (["cutover", "--dry-run", "--max-pause", "250ms"], ("cutover", True, 250.0)),
        (["rollback", "--max-pause", "2s"], ("rollback", False, 2000.0)),
        (["nice", "gentle"], ("nice", "gentle", None)),
        (["nice", "full", "--keys-per-second", "0"], ("nice", "full", 0)),
        (["nice", "--keys-per-second", "500"], ("nice", None, 500)),
        (["finish"], ("finish",)),
        (["cancel"], ("cancel",)),
    ],
)
def test_a_verb_is_asked_of_the_process(
    controller: RememberingController, argv: list[str], call: tuple[object, ...]
) -> None:
    assert keyferry(*argv) == 0
    assert controller.calls == [call]


def test_a_verb_prints_the_state_before_and_after(capsys: Said) -> None:
    assert keyferry("cutover") == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines() == [
        "before  idle, primary source, 0% of reads on the target",
        "after   cutover, primary target, 0% of reads on the target",
        "pause   12.3 ms",
    ]


@pytest.mark.parametrize(
    "argv",
    [["analyze"], ["start"], ["start", "--wait"], ["status"], ["verify", "--wait"], ["shift", "1"],
     ["cutover"], ["rollback"], ["finish"], ["cancel"]],
)  # fmt: skip
def test_with_json_there_is_one_object_on_stdout(capsys: Said, argv: list[str]) -> None:
    assert keyferry(*argv, "--json") == 0
    said = capsys.readouterr()
    assert isinstance(json.loads(said.out), dict)
    assert said.err == ""


def test_a_refusal_is_1_with_a_line_per_blocker(
    controller: RememberingController, capsys: Said
) -> None:
    controller.failure = REFUSAL
    assert keyferry("cutover") == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.splitlines() == [
        "keyferry: not_verified: no verification has covered everything",
        "keyferry: unproven_keys: 12 keys await a copy",
    ]


def test_a_refusal_without_blockers_is_one_line(
    controller: RememberingController, capsys: Said
) -> None:
    controller.failure = Refused("illegal_step", "cutover needs phase mirroring")
    assert keyferry("cutover") == 1
    assert capsys.readouterr().err == "keyferry: illegal_step: cutover needs phase mirroring\n"


def test_a_refusal_with_json_is_on_stdout_as_well(
    controller: RememberingController, capsys: Said
) -> None:
    controller.failure = REFUSAL
    assert keyferry("cutover", "--json") == 1
    said = capsys.readouterr()
    seen = json.loads(said.out)
    assert seen["error"] == "gates_closed"
    assert [b["name"] for b in seen["blockers"]] == ["not_verified", "unproven_keys"]
    assert len(said.err.splitlines()) == 2


@pytest.mark.parametrize(
    ("argv", "line"),
    [
        (["shift"], "keyferry: PERCENT: it is required"),
        (["shift", "101"], "keyferry: PERCENT: 101 is not in the range"),
        (["shift", "half"], "keyferry: PERCENT: 'half' is not a valid integer"),
        (["cutover", "--max-pause", "soon"], "keyferry: --max-pause: 'soon' is not a duration"),
        (["verify", "--sample", "0"], "keyferry: --sample: 0 is not in the range"),
        (["nice"], "keyferry: LEVEL or --keys-per-second is needed"),
        (["nice", "kind"], "keyferry: LEVEL: 'kind' is not one of"),
        (["nonsense"], "keyferry: No such command"),
        (["status", "--admin", "x y"], "keyferry: --admin: 'x y' is not a URL"),
        (["run", "--source", "redis://a"], "keyferry: --target: it is required"),
        (["run", "--source", "x", "--target", "redis://a"], "keyferry: --source: must start"),
    ],
)  # fmt: skip
def test_wrong_usage_is_2_and_one_line(
    controller: RememberingController, capsys: Said, argv: list[str], line: str
) -> None:
    assert keyferry(*argv) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(line)
    assert len(said.err.splitlines()) == 1
    assert controller.calls == []


def test_an_option_that_the_process_refuses_is_2(
    controller: RememberingController, capsys: Said
) -> None:
    controller.failure = BadInput("allow: there is no finding called x")
    assert keyferry("start", "--allow", "x") == 2
    assert capsys.readouterr().err == "keyferry: allow: there is no finding called x\n"


def test_no_process_is_3(capsys: Said) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert keyferry("status", "--admin", url) == 3
    assert (
        capsys.readouterr().err == f"keyferry: no keyferry answers at {url}: Connection refused\n"
    )


def test_something_else_at_the_address_is_3(capsys: Said) -> None:
    program = (
        "import http.server, sys\n"
        "class Other(http.server.BaseHTTPRequestHandler):\n"
        "    def do_GET(self):\n"
        "        self.send_response(200); self.end_headers(); self.wfile.write(b'hello')\n"
        "server = http.server.HTTPServer(('127.0.0.1', 0), Other)\n"
        "print(server.server_port, flush=True)\n"
        "server.handle_request()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as other:
        assert other.stdout is not None
        url = f"http://127.0.0.1:{int(other.stdout.readline())}"
        assert keyferry("status", "--admin", url) == 3
    assert capsys.readouterr().err == f"keyferry: what answers at {url} is not keyferry\n"


def test_a_wrong_token_is_1_and_says_how_to_give_it(
    controller: RememberingController, monkeypatch: pytest.MonkeyPatch, capsys: Said
) -> None:
    with serving(controller, "s3cret") as server:
        assert keyferry("status", "--admin", server.url) == 1
        assert "KEYFERRY_ADMIN_TOKEN" in capsys.readouterr().err
        assert keyferry("status", "--admin", server.url, "--admin-token", "s3cret") == 0
        monkeypatch.setenv("KEYFERRY_ADMIN_TOKEN", "s3cret")
        assert keyferry("status", "--admin", server.url) == 0


def test_a_web_proxy_of_the_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    assert keyferry("status") == 0


def test_status_for_people(capsys: Said) -> None:
    assert keyferry("status") == 0
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["phase"] == "idle"
    assert lines["source"] == "redis 6.2.14, 1,000 keys"
    assert lines["clients"] == "3, 1,234 commands/s"
    assert lines["cutover"] == "blocked by backfill_incomplete"
    assert lines["verify"] == "never"


def test_status_in_json_is_the_apis(capsys: Said) -> None:
    assert keyferry("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == RememberingController().now


def test_start_with_wait_returns_when_the_backfill_is_complete(
    controller: RememberingController, capsys: Said
) -> None:
    assert keyferry("start", "--wait") == 0
    assert controller.now["phase"] == "mirroring"
    assert capsys.readouterr().out.splitlines()[1].startswith("after   mirroring,")


def test_start_without_wait_returns_at_once(
    controller: RememberingController, capsys: Said
) -> None:
    assert keyferry("start") == 0
    assert controller.now["phase"] == "copying"
    assert capsys.readouterr().out.splitlines()[1].startswith("after   copying,")


def test_verify_with_wait_is_1_when_anything_differs(
    controller: RememberingController, capsys: Said
) -> None:
    assert keyferry("verify", "--wait") == 0
    assert "verify  passed: 1,000 keys, 0 differ" in capsys.readouterr().out

    controller.passes, controller.polls_until_done = False, 3
    assert keyferry("verify", "--wait", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["verify"]["mismatches"] == 2
    assert said.err == "keyferry: the verification failed: 1,000 keys, 2 differ\n"


def test_verify_with_wait_is_1_and_says_why_when_there_is_no_verdict(
    controller: RememberingController, capsys: Said
) -> None:
    controller.error = "the secondary does not answer"
    assert keyferry("verify", "--wait", "--json") == 1
    said = capsys.readouterr()
    assert json.loads(said.out)["verify"]["passed"] is None
    assert said.err == (
        "keyferry: the verification ended without a verdict: the secondary does not answer\n"
    )
    assert keyferry("status") == 0
    assert "no verdict: the secondary does not answer" in capsys.readouterr().out


def test_analyze_shows_the_worst_first(capsys: Said) -> None:
    assert keyferry("analyze") == 0
    assert capsys.readouterr().out.splitlines() == [
        "blocker           modules: no json there",
        "warning (waived)  eviction: may evict",
    ]


def test_watching_without_a_terminal_is_a_line_per_look(process: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "migrator", "status", "--watch", "--admin", process],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONUNBUFFERED": "1", "PATH": ""},
        cwd=Path(__file__).parents[2],
    ) as watching:
        assert watching.stdout is not None
        lines = [watching.stdout.readline() for _ in range(2)]
        watching.terminate()
    for line in lines:
        assert re.match(r"idle primary=source reads=0% commands/s=\d+ backfill=0/0 ", line)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        ("http://127.0.0.1:9400", "http://127.0.0.1:9400"),
        ("127.0.0.1:9400/", "http://127.0.0.1:9400"),
        ("0.0.0.0:9400", "http://127.0.0.1:9400"),
        ("[::]:9400", "http://[::1]:9400"),
        ("https://keyferry.example", "https://keyferry.example:9400"),
    ],
)
def test_where_a_process_listens_is_also_where_it_is_asked(given: str, url: str) -> None:
    assert AdminClient(given).url == url


def test_help_names_every_verb(capsys: Said) -> None:
    assert keyferry("--help") == 0
    said = capsys.readouterr().out
    for verb in ("run", "analyze", "start", "status", "verify", "shift", "cutover", "rollback",
                 "nice", "finish", "cancel", "demo"):  # fmt: skip
        assert re.search(rf"^  {verb} ", said, re.MULTILINE)
