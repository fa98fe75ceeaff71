"""What the target does not know, or cannot hold, of what the source has and does.

Owns these findings. It asks both stores, looks at a bounded sample of keys where modules are
missing, and changes nothing. Which commands were used is in INFO commandstats, so what an
application has not used since the source began is not found; the mirror copes with it (its keys
are copied, or block the flip).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any, NamedTuple

from migrator.bulk import Bulk, ReplyError
from migrator.copy.modules import MODULE_OF_TYPE, have_rules
from migrator.finding import Finding
from migrator.stores import Store, StoreUnreachable
from proxy.commands import CommandTable, Kind, Known

# Keys whose type is looked at where the source has modules.
SAMPLE = 20_000
# Keyferry's own, when it reads keys: not a sign of what applications do.
OURS = frozenset(("hpexpiretime", "pexpiretime"))
# No store answers these for an application, or they are of the server alone.
_NOT_OF_DATA = (Kind.LOCAL, Kind.NODE, Kind.REFUSED)
_TYPES = frozenset((b"string", b"list", b"set", b"zset", b"hash", b"stream", b"none"))
# Valkey 9.1 runs scripts by a module, which has neither keys nor commands.
_ENGINES = frozenset(("lua",))
_SHOWN = 12


async def learn_commands(table: CommandTable, stores: Iterable[Store]) -> None:
    """Tell the table what each store knows. One that cannot be asked knows what it did before."""
    for store in stores:
        with contextlib.suppress(StoreUnreachable, ReplyError, ConnectionError):
            if store.is_reachable:
                table.complete(await (await store.connection("admin")).call("COMMAND"), store.side)


async def compare(source: Store, target: Store, table: CommandTable) -> list[Finding]:
    """All of them. Raises ReplyError, ConnectionError."""
    s, t = await source.connection("admin"), await target.connection("admin")
    known = Known.of(await t.call("COMMAND"))
    used = await used_commands(s)
    name = f"{target.info.engine} {target.info.version}"
    found = await _field_expiries(s, table, known, used, name)
    found += await _modules(source, s, t, used)
    found += _missing_commands(table, known, used)
    return found + await missing_indexes(source, target)


async def standing(source: Store, target: Store, table: CommandTable) -> list[Finding]:
    """Those that may come while the mirror runs. Raises ReplyError, ConnectionError."""
    known = Known.of(await (await target.connection("admin")).call("COMMAND"))
    used = await used_commands(await source.connection("admin"))
    return _missing_commands(table, known, used)


async def used_commands(store: Bulk) -> set[str]:
    """Names as in the command table; of Redis 6.2 containers only. Empty where INFO is refused."""
    try:
        stats: bytes = await store.call("INFO", "commandstats")
    except ReplyError:
        return set()
    return {
        line.removeprefix("cmdstat_").partition(":")[0].lower()
        for line in stats.decode(errors="replace").splitlines()
        if line.startswith("cmdstat_")
    } - OURS


def _missing_commands(table: CommandTable, known: Known, used: set[str]) -> list[Finding]:
    """Used, and an error once the target is the primary; as a write its keys are copied."""
    missing = sorted(name for name in used if not known.has(name) and _is_of_data(table, name))
    if not missing:
        return []
    return [
        Finding(
            "missing_commands",
            "warning",
            f"used, and errors after a cutover, since the target does not know them:"
            f" {_listed(missing)}",
        )
    ]  # fmt: skip


def _is_of_data(table: CommandTable, name: str) -> bool:
    command = table.named(name)
    if command is None:
        return False
    # What a module reads is a NODE, like what asks the server; its names have a dot.
    return command.kind not in _NOT_OF_DATA or (command.kind is Kind.NODE and "." in name)


async def _field_expiries(
    source: Bulk, table: CommandTable, known: Known, used: set[str], target: str
) -> list[Finding]:
    """Fields of hashes that expire, and a target that cannot hold such a hash."""
    if known.has("hpexpireat"):
        return []
    number = _expiring_hashes(await source.call("INFO", "keyspace"))
    named = [command for command in table if command.needs in ("hpexpireat", "hpersist")]
    makers = sorted(command.name for command in named if command.name in used)
    if number:
        reason = f"{number} hashes have fields that expire"
    elif makers:
        reason = f"expiries of hash fields have been used ({_listed(makers)})"
    else:
        return []
    return [
        Finding(
            "field_expiries",
            "blocker",
            f"{reason}, which {target} cannot hold: such a key is not copied, and while there is"
            " one no cutover is possible",
        )
    ]


def _expiring_hashes(keyspace: bytes) -> int:
    """As INFO counts them: ``subexpiry`` of Redis, ``keys_with_volatile_items`` of Valkey."""
    total = 0
    for line in keyspace.decode(errors="replace").splitlines():
        words = line.partition(":")[2].split(",")
        facts = dict(word.split("=", 1) for word in words if "=" in word)
        total += int(facts.get("subexpiry", facts.get("keys_with_volatile_items", 0)))
    return total


async def _modules(source: Store, s: Bulk, t: Bulk, used: set[str]) -> list[Finding]:
    """Modules that only the source has, a blocker when they are in use; and what has no copy."""
    modules = await _module_names(s)
    if not modules:
        return []
    sample = await _sample(source, s)
    found = _compaction_rules(sample.with_rules)
    missing = modules - await _module_names(t)
    if not missing:
        return found
    # A type that nobody knows the module of may be of any that is missing.
    lost = {name for name in sample.types if MODULE_OF_TYPE.get(name, min(missing)) in missing}
    signs = [f"keys of type {name}" for name in sorted(lost)]
    owned = await _commands_of(s, missing, [name for name in used if "." in name])
    signs += [f"used {_listed(owned)}"] if owned else []
    names = ", ".join(sorted(missing))
    if signs:
        text = f"the target lacks modules that are in use: {names} ({'; '.join(signs)})"
        return [*found, Finding("missing_modules", "blocker", text)]
    text = f"the target lacks modules, of which no use was seen: {names}"
    return [*found, Finding("missing_modules", "warning", text)]


def _compaction_rules(series: int) -> list[Finding]:
    if not series:
        return []
    return [
        Finding(
            "compaction_rules",
            "blocker",
            f"{series} time series have compaction rules, which cannot be copied: TS.DELETERULE for"
            " the time of the migration; while there is one no cutover is possible",
        )
    ]


async def _module_names(store: Bulk) -> set[str]:
    try:
        modules: list[Any] = await store.call("MODULE", "LIST")
    except ReplyError:
        return set()
    names = {module[module.index(b"name") + 1].decode() for module in modules}
    return names - _ENGINES


async def _commands_of(store: Bulk, modules: Iterable[str], used: list[str]) -> list[str]:
    """Which of these commands are of the modules; all, where the store cannot say (Redis 6.2)."""
    owned: set[str] = set()
    for module in modules:
        try:
            listed = await store.call("COMMAND", "LIST", "FILTERBY", "MODULE", module)
        except ReplyError:
            return sorted(used)
        owned |= {name.decode().lower() for name in listed}
    return sorted(name for name in used if name.partition("|")[0] in owned)


class _Sample(NamedTuple):
    """Types of modules among the first SAMPLE keys, and how many series have compaction rules."""

    types: set[str]
    with_rules: int


async def _sample(store: Store, bulk: Bulk) -> _Sample:
    types: set[bytes] = set()
    seen = with_rules = 0
    for db in store.info.keys_by_db:
        cursor = b"0"
        while seen < SAMPLE:
            cursor, keys = await bulk.call("SCAN", cursor, "COUNT", 1000, db=db)
            kinds = await bulk.pipeline([("TYPE", key) for key in keys], db=db)
            types |= set(kinds)
            series = [key for key, kind in zip(keys, kinds, strict=True) if kind == b"TSDB-TYPE"]
            with_rules += sum(await have_rules(bulk, db, series)) if series else 0
            seen += len(keys)
            if cursor == b"0":
                break
    return _Sample({name.decode() for name in types - _TYPES}, with_rules)


async def missing_indexes(primary: Store, secondary: Store) -> list[Finding]:
    """Search indexes that only the primary has: they are no keys, so nobody copies them."""
    here = await _indexes(await primary.connection("admin"))
    if not here:
        return []
    missing = sorted(here - await _indexes(await secondary.connection("admin")))
    if not missing:
        return []
    return [
        Finding(
            "search_indexes",
            "warning",
            f"the {secondary.side.label} lacks search indexes, create them there:"
            f" {_listed(missing)}",
        )
    ]  # fmt: skip


async def _indexes(store: Bulk) -> set[str]:
    try:
        return {name.decode(errors="replace") for name in await store.call("FT._LIST")}
    except ReplyError:
        return set()


def _listed(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (" …" if len(names) > _SHOWN else "")
