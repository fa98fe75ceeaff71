"""How much of the stores a page holds: bounded in bytes, whatever the values are like."""

from __future__ import annotations

import pytest

from migrator.backfill import LARGE_PAGE, Backfill
from migrator.mover import Copied
from migrator.stores import StoreInfo
from tests.integration.keyferry import Migration

MIB = 1 << 20


@pytest.mark.parametrize(
    ("keys", "used", "expected"),
    [(0, 0, 500), (0, MIB, 500), (1000, 0, 500), (1000, 1000 * MIB, 2), (10**6, 100 * MIB, 500),
     (3, 4096 * MIB, 1)],
)  # fmt: skip
def test_a_page_has_fewer_keys_where_they_are_large(keys: int, used: int, expected: int) -> None:
    info = StoreInfo(keys_by_db={0: keys}, used_memory=used)
    assert info.keys_of(2 * MIB, 500) == expected


async def test_pages_of_large_values_are_small(
    migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(200):
        migration.source.cli("SET", f"large:{number}", b"x" * (MIB // 4))
    sizes: list[int] = []
    done = Backfill._done

    def remembered(self: Backfill, copied: Copied, *more: object) -> None:
        sizes.append(copied.size)
        done(self, copied, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Backfill, "_done", remembered)
    await migration.mirroring()
    assert len(sizes) > 10
    assert max(sizes) <= 4 * LARGE_PAGE
    assert await migration.differences() == []
