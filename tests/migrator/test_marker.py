"""The marker: which state directory may serve which stores."""

from collections.abc import AsyncIterator

import pytest

from migrator import marker
from migrator.bulk import Bulk
from migrator.errors import MarkerError
from migrator.marker import Marker, check, of
from migrator.phases import Phase
from migrator.state import Migration
from proxy.endpoint import Endpoint
from proxy.sides import Side
from tests.servers import Server

OURS = Migration("ours", "a:1", "b:2", phase=Phase.MIRRORING, epoch=4)


@pytest.fixture
async def connection(source: Server) -> AsyncIterator[Bulk]:
    bulk = await Bulk.open(Endpoint.parse(source.url, "--source"), db=1)
    yield bulk
    bulk.close()
    await bulk.wait_closed()


def test_no_markers_say_nothing() -> None:
    check(None, None, None)
    check(OURS, None, None)


def test_our_own_markers_are_welcome_also_when_they_are_behind() -> None:
    check(OURS, Marker("ours", 4, "source"), Marker("ours", 3, "target"))


@pytest.mark.parametrize(
    ("state", "source", "target", "message"),
    [
        (None, Marker("x", 0, "source"), None, "the state directory is empty"),
        (None, None, Marker("x", 0, "target"), "target: .*the state directory is empty"),
        (OURS, Marker("x", 0, "source"), None, "migration x, another one"),
        (OURS, None, Marker("x", 9, "source"), "target: it is the source of migration x"),
        (None, Marker("x", 2, "source", True), None, "retired by the finished migration x"),
        (OURS, Marker("x", 2, "source", True), None, "retired by the finished migration x"),
        (OURS, Marker("ours", 5, "source"), None, "epoch 5 .* an old copy"),
        (OURS, Marker("ours", 4, "source", True), None, "an old copy"),
        (OURS, Marker("ours", 4, "target"), None, "swapped"),
    ],
)
def test_the_wrong_side_is_not_served(
    state: Migration | None, source: Marker | None, target: Marker | None, message: str
) -> None:
    with pytest.raises(MarkerError, match=message):
        check(state, source, target)


def test_a_retired_source_may_become_a_target() -> None:
    check(None, None, Marker("x", 2, "source", finished=True))


def test_a_finished_migration_goes_on_serving() -> None:
    finished = Migration("ours", "a:1", "b:2", phase=Phase.FINISHED, epoch=4)
    check(finished, Marker("ours", 4, "source", finished=True), None)


async def test_a_marker_is_written_read_and_removed(connection: Bulk, source: Server) -> None:
    assert await marker.read(connection) is None
    await marker.write(connection, of(OURS, Side.SOURCE))
    assert await marker.read(connection) == Marker("ours", 4, "source", False)
    assert source.cli("EXISTS", marker.KEY, db=0) == 1
    await marker.remove(connection, "another")
    assert await marker.read(connection) is not None
    await marker.remove(connection, "ours")
    assert await marker.read(connection) is None


@pytest.mark.parametrize("value", ["", "[]", "{}", '{"id": 1, "epoch": 0, "role": "x"}', "\xff"])
async def test_a_foreign_value_is_not_taken_for_a_marker(
    connection: Bulk, source: Server, value: str
) -> None:
    source.cli("SET", marker.KEY, value)
    with pytest.raises(MarkerError, match=r"127\.0\.0\.1:.*not a marker"):
        await marker.read(connection)


async def test_a_foreign_type_is_not_taken_for_a_marker(connection: Bulk, source: Server) -> None:
    source.cli("RPUSH", marker.KEY, "a")
    with pytest.raises(MarkerError, match="not a marker"):
        await marker.read(connection)
