"""What is made of measurements: percentiles, rows, merged runs. No clock, no process."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import figures
from tests.bench.load import Cell, LoadError, Run, understood
from tests.bench.rounds import Measured, Row, requests_of, summarized
from tests.bench.sender import batches, summary

SAID = """
====== SET ======
  20000 requests completed in 0.15 seconds

Latency by percentile distribution:
0.000% <= 0.047 milliseconds (cumulative count 1)
50.000% <= 0.199 milliseconds (cumulative count 12192)
99.219% <= 0.567 milliseconds (cumulative count 19856)
99.805% <= 0.767 milliseconds (cumulative count 19961)
99.902% <= 0.831 milliseconds (cumulative count 19981)
100.000% <= 0.927 milliseconds (cumulative count 20000)

Cumulative distribution of latencies:
70.895% <= 0.207 milliseconds (cumulative count 14179)
100.000% <= 1.007 milliseconds (cumulative count 20000)

Summary:
  throughput summary: 136054.42 requests per second
  latency summary (msec):
          avg       min       p50       p95       p99       max
        0.207     0.040     0.199     0.295     0.527     0.927
"""


def test_redis_benchmark_is_understood() -> None:
    run = understood(SAID)
    assert run.per_second == 136054.42
    assert run.latencies_ms == {"50.0": 0.199, "99.0": 0.527, "99.9": 0.831}


@pytest.mark.parametrize("said", ["", "Error from server: ERR no\n" + SAID, SAID[:400]])
def test_what_is_no_result_is_an_error(said: str) -> None:
    with pytest.raises(LoadError):
        understood(said)


def test_percentiles_are_of_the_ordered_latencies_in_milliseconds() -> None:
    found = summary([n / 1e3 for n in range(1000, 0, -1)])
    assert found["latency_ms"] == {"50.0": 501.0, "99.0": 991.0, "99.9": 1000.0}
    assert found["worst_ms"] == 1000.0
    assert summary([])["latency_ms"]["99.9"] == 0.0


def test_a_batch_has_as_many_items_as_its_pipeline_is_deep_and_their_replies() -> None:
    for request, reply in batches("MULTI 4", 3, 8, 100, "key:%012d")[:20]:
        assert request.count(b"EXEC") == request.count(b"MULTI") == 3
        assert request.count(b"SET") == 12
        assert reply.count(b"+QUEUED\r\n") == 12 and reply.count(b"*4\r\n") == 3
    kinds = {request[8:11] for request, _ in batches("mixed", 1, 8, 100, "key:%d")}
    assert kinds == {b"SET", b"GET"}


def measured(ratio: float, *, drain_ms: float = 0.0) -> Measured:
    run = Run(1000.0, {"50.0": ratio, "99.0": 2.0, "99.9": 3.0})
    return Measured(run, 1000.0 * ratio, 10.0, 1 << 20, drain_ms, ratio)


def test_a_row_has_medians_of_ratios_and_their_spread() -> None:
    row = Row(Cell("SET", 16))
    row.runs["proxy"] = [measured(0.5), measured(0.9, drain_ms=7.0), measured(0.6)]
    row.skipped["other"] = "it cannot"
    found = summarized(row)
    assert found["cell"] == "SET -P 16"
    assert found["contenders"]["other"] == {"skipped": "it cannot"}
    proxy = found["contenders"]["proxy"]
    assert (proxy["ratio"], proxy["lowest"], proxy["highest"]) == (0.6, 0.5, 0.9)
    assert proxy["latency_ms"]["50.0"] == 0.6 and proxy["drain_ms"] == 0.0


def test_cells_name_what_differs_from_the_usual() -> None:
    assert str(Cell("GET", 1, 1)) == "GET -P 1, 1 client"
    assert str(Cell("SET", 16, 500, 65536)) == "SET -P 16, 500 clients, 64 KiB"


def test_large_values_have_fewer_keys_and_requests() -> None:
    assert Cell("GET", 1, 50, 65536).keys * 65536 <= 100 << 20
    assert requests_of(Cell("GET", 1, 50, 65536), 60_000) < requests_of(Cell("GET", 1), 60_000)
    assert requests_of(Cell("GET", 128), 60_000) == requests_of(Cell("GET", 8), 60_000)


def test_a_later_run_replaces_what_it_measured_and_nothing_else() -> None:
    one = {"machine": {"CPU": "a"}, "suites": {"core": {"rows": [1]}, "copy": {"figures": {}}}}
    two = {"machine": {"CPU": "a"}, "suites": {"core": {"rows": [2]}, "copy": {"failed": "no"}}}
    found = figures.merged([one, two])
    assert found["suites"] == {"core": {"rows": [2]}, "copy": {"figures": {}}}
    assert figures.merged([two])["suites"]["copy"] == {"failed": "no"}


def test_figures_of_another_machine_do_not_stay() -> None:
    known = {"machine": {"CPU": "a", "clock": "1"}, "suites": {"core": {"rows": []}}}
    same = {"machine": {"CPU": "a", "clock": "2"}, "suites": {"big": {"figures": {}}}}
    other = {"machine": {"CPU": "b"}, "suites": {"big": {"figures": {}}}}
    assert set(figures.published(known, same)["suites"]) == {"core", "big"}
    assert set(figures.published(known, other)["suites"]) == {"big"}
    assert set(figures.published({}, other)["suites"]) == {"big"}


def test_stored_figures_are_read_again(tmp_path: Path) -> None:
    path = tmp_path / "figures.json"
    result = {"machine": {"CPU": "µ"}, "suites": {"big": {"figures": {"times": 1.5}}}}
    figures.write(path, result)
    assert figures.read([path]) == result
    assert figures.figure(result, "big", "times") == 1.5
    assert figures.figure(result, "copy", "keys") is None
