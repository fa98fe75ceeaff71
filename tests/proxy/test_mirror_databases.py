"""The mirror's connection and its database: a SELECT that the target refuses."""

from __future__ import annotations

import pytest

from .clients import Proxied, until
from .test_mirror import back, unproven


@pytest.mark.parametrize(
    "lines",
    [
        ("SELECT 3", "MULTI", "SET l 1", "SET m 1", "EXEC"),
        ("MULTI", "SET l 1", "SELECT 3", "SET m 1", "EXEC"),
    ],
    ids=["in front of a step", "in a step"],
)
async def test_a_select_in_a_block_that_the_target_refuses_leads_nothing_astray(
    mirrored: Proxied, lines: tuple[str, ...]
) -> None:
    target, mirror = mirrored.target, mirrored.mirror
    assert mirror is not None
    target.cli("SET", "k", "zero")
    target.cli("CONFIG", "SET", "maxmemory", "1")
    async with mirrored.client() as client:
        await client.calls(*lines)
        await until(lambda: (3, b"m") in unproven(mirrored), "the target has refused it")
        target.cli("CONFIG", "SET", "maxmemory", "0")
        await back(mirrored)
        await client.call("SET k three")
        await mirrored.applied()
    assert target.cli("GET", "k") == b"zero"
    assert target.cli("GET", "k", db=3) == b"three"


async def test_what_was_written_behind_a_refused_select_is_unproven_where_it_went(
    mirrored: Proxied,
) -> None:
    target, mirror = mirrored.target, mirrored.mirror
    assert mirror is not None
    async with mirrored.client() as client:
        await client.call("SET k zero")
        await mirrored.applied()
        target.cli("ACL", "SETUSER", "default", "-select")
        await client.calls("SELECT 3", "SET k three")
        await until(lambda: len(unproven(mirrored)) == 2, "both are unproven")
        await back(mirrored)
        assert unproven(mirrored) == {b"k", (3, b"k")}
        # From here on the target is known to have one database.
        await client.calls("SET l three", "SELECT 0", "SET m zero")
        await mirrored.applied()
    assert target.cli("GET", "m") == b"zero" and target.cli("EXISTS", "l") == 0
