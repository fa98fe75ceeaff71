"""The page, its checklist and its chart, made of figures that are known."""

from __future__ import annotations

import copy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from tests.bench import __main__ as bench
from tests.bench.chart import chart
from tests.bench.report import report, table
from tests.bench.stage import DIRECT, MIRRORING, PROXY_ONLY
from tests.bench.suites import CORE, NO_SHIFT, SHIFTED
from tests.bench.tail import bounds_of_median
from tests.bench.targets import Target, checklist

Json = dict[str, Any]


def contender(ratio: float, p50: float = 0.1, p999: float = 1.0) -> Json:
    return {
        "ratio": ratio, "lowest": ratio - 0.05, "highest": ratio + 0.05,
        "per_second": 1e5 * ratio, "cpu_us": 1.25, "resident": 50 << 20, "drain_ms": 0.0,
        "latency_ms": {"50.0": p50, "99.0": 0.5, "99.9": p999},
    }  # fmt: skip


def row(cell: str, **ratios: float) -> Json:
    return {"cell": cell, "contenders": {name: contender(r) for name, r in ratios.items()}}


def good() -> Json:
    """Figures with which every target is reached."""
    names = {DIRECT: 1.0, MIRRORING: 0.95, PROXY_ONLY: 0.96, "Envoy": 0.6,
             "Envoy, mirroring": 0.5, "nutcracker": 0.7}  # fmt: skip
    fast = {name: names[name] for name in (DIRECT, MIRRORING, "Envoy")}
    return {
        "machine": {"CPU": "Some CPU", "cores": "2"},
        "suites": {
            "core": {"rows": [row(str(cell), **names) for cell in CORE]},
            "tail": {"figures": {c: {
                "peer": "Envoy", "own_ms": 1.9, "peer_ms": 2.0, "ratio": 0.95, "low": 0.9,
                "high": 1.1} for c in ("SET", "GET", "mixed")}},
            "clients": {"figures": {
                DIRECT: {c: {"50.0": 60.0} for c in ("SET", "GET")},
                MIRRORING: {c: {"50.0": 79.0} for c in ("SET", "GET")}}},
            "shift": {"rows": [row("GET -P 16", **{NO_SHIFT: 0.8, SHIFTED: 0.75})]},
            "tls": {"rows": [row("SET -P 1", **fast)]},
            "connections": {"figures": {
                "connections": 10_000, MIRRORING: {"kib_each": 8.0, "resident": 90 << 20},
                "Envoy": {"kib_each": 10.0, "resident": 150 << 20}}},
            "copy": {"figures": {
                "backfill_keys": 310_000, "verify_keys": 160_000, "large_mb": 200,
                "p99_ratio": 1.5, "beside_keys": 50_000}},
            "growth": {"figures": {
                "keys": {"1000": 9.0, "10000000": 9.5}, "clients": {"10": 9.0, "1000": 9.1}}},
            "big": {"figures": {"times": 1.5, "SET": 0.5, "GET": 0.5},
                    "table": {"columns": ["", ""], "rows": [["a", "b"]]},
                    "notes": ["One value."]},
            "churn": {"figures": {MIRRORING: {"per_second": 999.0, "failed": 0}}},
        },
    }  # fmt: skip


def found(result: Json, text: str) -> Target:
    [target] = [each for each in checklist(result) if text in each.text]
    return target


def test_every_target_can_be_reached() -> None:
    assert [each.text for each in checklist(good()) if each.reached is not True] == []


def test_what_was_not_measured_is_neither_reached_nor_missed() -> None:
    targets = checklist({"machine": {}, "suites": {}})
    assert len(targets) == len(checklist(good()))
    assert {each.reached for each in targets} == {None}
    assert {each.figure for each in targets} == {"not measured"}


def set_ratio(result: Json, suite: str, cell: str, name: str, ratio: float) -> None:
    [at] = [each for each in result["suites"][suite]["rows"] if each["cell"] == cell]
    at["contenders"][name]["ratio"] = ratio


@pytest.mark.parametrize(
    ("text", "suite", "cell", "name", "ratio"),
    [
        ("SET, mirrored, 50 clients, -P 1:", "core", "SET -P 1", MIRRORING, 0.84),
        ("SET, mirrored, 50 clients, -P 16", "core", "SET -P 16", MIRRORING, 0.69),
        ("GET while mirroring, -P 1:", "core", "GET -P 1", MIRRORING, 0.89),
        ("GET while mirroring, -P 16", "core", "GET -P 16", MIRRORING, 0.74),
        ("ahead of nutcracker", "core", "mixed -P 128", "nutcracker", 0.96),
        ("at a 50% shift", "shift", "GET -P 16", SHIFTED, 0.71),
        ("TLS on both sides", "tls", "SET -P 1", "Envoy", 0.97),
    ],
)
def test_a_ratio_that_is_too_small_is_told(
    text: str, suite: str, cell: str, name: str, ratio: float
) -> None:
    result = good()
    set_ratio(result, suite, cell, name, ratio)
    assert found(result, text).reached is False


@pytest.mark.parametrize(
    ("text", "path", "value"),
    [
        ("idle connections", ("connections", MIRRORING, "kib_each"), 10.5),
        ("RSS of the process", ("connections", MIRRORING, "resident"), 151 << 20),
        ("backfill alone", ("copy", "backfill_keys"), 299_000),
        ("1 GB", ("copy", "large_mb"), 149),
        ("verify", ("copy", "verify_keys"), 149_000),
        ("half the proxy's capacity", ("copy", "p99_ratio"), 2.1),
        ("half the proxy's capacity", ("copy", "beside_keys"), 0),
        ("10,000,000 keys", ("growth", "keys", "10000000"), 10.0),
        ("1,000 clients", ("growth", "clients", "1000"), 10.0),
        ("512 MB", ("big", "times"), 2.1),
        ("512 MB", ("big", "GET"), "closed"),
        ("connections a second", ("churn", MIRRORING, "failed"), 1),
    ],
)
def test_a_figure_past_its_target_is_told(text: str, path: tuple[str, ...], value: Any) -> None:
    result = good()
    at = result["suites"][path[0]]["figures"]
    for step in path[1:-1]:
        at = at[step]
    at[path[-1]] = value
    assert found(result, text).reached is False


def test_fewer_keys_or_connections_than_wanted_answer_nothing() -> None:
    result = good()
    result["suites"]["growth"]["figures"]["keys"] = {"1000": 9.0, "1000000": 9.0}
    result["suites"]["connections"]["figures"]["connections"] = 1_000
    assert found(result, "10,000,000 keys").reached is None
    assert found(result, "idle connections").reached is None


def test_latency_over_direct_and_beside_envoy_is_told() -> None:
    result = good()
    result["suites"]["clients"]["figures"][MIRRORING]["GET"]["50.0"] = 80.5
    assert found(result, "p50 at most 20").reached is False
    assert "SET 1.90 ms, Envoy 2.00 ms: 0.95 times (0.90–1.10)" in (
        found(result, "p99.9 under load").figure
    )
    result["suites"]["tail"]["figures"]["GET"]["ratio"] = 1.01
    assert found(result, "p99.9 under load").reached is False


@pytest.mark.parametrize(
    ("count", "low"), [(1, 1), (5, 1), (6, 1), (9, 2), (10, 2), (12, 3), (20, 6)]
)
def test_the_bounds_of_a_median_are_those_of_the_sign_test(count: int, low: int) -> None:
    values = [float(n) for n in range(count, 0, -1)]
    assert bounds_of_median(values) == (low, count + 1 - low)


def test_the_page_has_targets_machine_and_each_suite() -> None:
    result = good()
    result["suites"]["tls"] = {"skipped": "no certificates"}
    result["suites"]["core"]["rows"][0]["contenders"]["HAProxy"] = {"skipped": "it is\nbroken"}
    result["suites"]["core"]["missing"] = {"nutcracker": "not installed"}
    result["suites"]["core"]["measured"] = {
        "date": "2026-01-01", "command": "make bench", "hot_path": "compiled", "is_quick": False,
    }  # fmt: skip
    page = report(result, chart="performance.svg", beside="hot-path.md")
    for text in (
        "Some CPU", "](performance.svg)", "](hot-path.md)", "No" "t measured: no certificates.",
        "0.95 (0.90–1.00)", "1.25; 50", "Not served: HAProxy, SET -P 1: it is broken.",
        "nutcracker: not installed.", "`make bench`, 2026-01-01, hot path: compiled", "One value.",
    ):  # fmt: skip
        assert text in page, text
    assert "quick run" not in page
    widths = {line.count("|") for line in page.splitlines() if line.startswith("| SET -P 16 |")}
    assert widths and all(line.endswith("|") for line in page.splitlines() if line.startswith("|"))


def test_a_quick_run_says_so() -> None:
    result = good()
    result["suites"]["core"]["measured"] = {
        "date": "",
        "command": "",
        "hot_path": "",
        "is_quick": True,
    }
    assert "quick run" in report(result)


def test_a_cell_of_a_table_cannot_end_it() -> None:
    assert table(["a|b"], [["c\nd"]]) == ["| a\\|b |", "|---|", "| c d |"]


def test_the_chart_has_a_bar_for_each_figure_and_stays_in_its_frame() -> None:
    result = good()
    del result["suites"]["core"]["rows"][0]["contenders"]["nutcracker"]
    drawn = chart(result)
    assert drawn is not None
    root = ET.fromstring(drawn)
    space = "{http://www.w3.org/2000/svg}"
    width, height = map(float, root.attrib["viewBox"].split()[2:])
    bars = [each for each in root.iter(f"{space}rect") if each.find(f"{space}title") is not None]
    # All but the direct connection, which is what they are shares of.
    assert len(bars) == 9 * 5 - 1
    for bar in bars:
        x, y, wide, high = (float(bar.attrib[name]) for name in ("x", "y", "width", "height"))
        assert x >= 0 and x + wide <= width and y >= 0 and y + high <= height
        assert high > 0 and wide > 4
    assert "prefers-color-scheme: dark" in drawn


def test_without_the_core_suite_there_is_no_chart() -> None:
    result = good()
    del result["suites"]["core"]
    assert chart(result) is None


def test_a_page_is_rendered_from_stored_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = good(), copy.deepcopy(good())
    del one["suites"]["core"], two["suites"]["copy"]
    words = ["bench", "--report", str(tmp_path / "page.md")]
    for number, each in enumerate((one, two)):
        path = tmp_path / f"{number}.json"
        bench.figures.write(path, each)
        words += ["--from", str(path)]
    monkeypatch.setattr("sys.argv", words)
    assert bench.main() == 0
    page = (tmp_path / "page.md").read_text()
    assert "](page.svg)" in page and (tmp_path / "page.svg").exists()
    assert "## Copying and comparing" in page and "not measured" not in page


def test_each_suite_has_a_title_and_is_known() -> None:
    assert set(bench.SUITES) == set(bench.TITLES)
    assert bench.arguments([]).suites == list(bench.SUITES)
    with pytest.raises(SystemExit):
        bench.arguments(["nothing"])
