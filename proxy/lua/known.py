"""What the servers give a script, and what of it lets no key and no call out of sight.

Owns the names. What is not here could do anything.
"""

from __future__ import annotations

from .tree import Expression, Global, Index, Table, Text

HOSTS = frozenset(("redis", "server"))
CALLERS = frozenset((b"call", b"pcall"))
HARMLESS = frozenset(
    b"sha1hex error_reply status_reply log LOG_DEBUG LOG_VERBOSE LOG_NOTICE LOG_WARNING setresp "
    b"REDIS_VERSION REDIS_VERSION_NUM VERSION VERSION_NUM SERVER_NAME SERVER_VERSION "
    b"SERVER_VERSION_NUM acl_check_cmd replicate_commands set_repl REPL_NONE REPL_AOF REPL_SLAVE "
    b"REPL_REPLICA REPL_ALL breakpoint debug".split()
)
LIBRARIES = frozenset(("string", "table", "math", "bit", "struct", "cjson", "cmsgpack", "os"))
FUNCTIONS = frozenset(
    ("assert", "error", "ipairs", "next", "pairs", "pcall", "print", "select", "tonumber",
     "tostring", "type", "unpack", "xpcall", "_VERSION")
)  # fmt: skip
# Of the functions, those that read a table they are given and let nobody else have it.
_READERS = frozenset(("unpack", "next", "type"))
_LIBRARY_READERS = frozenset(
    (("table", b"concat"), ("table", b"getn"), ("cjson", b"encode"), ("cmsgpack", b"pack"))
)

# What runs a function that it is given, and forgets it.
_RUNNERS = frozenset((("string", b"gsub"), ("table", b"sort")))


def member(expression: Expression) -> bytes | None:
    """``name`` of ``redis.name``."""
    if not isinstance(expression, Index) or not isinstance(expression.base, Global):
        return None
    key = expression.key
    return key.value if expression.base.name in HOSTS and isinstance(key, Text) else None


def is_reader(function: Expression) -> bool:
    if isinstance(function, Global):
        return function.name in _READERS
    if isinstance(function, Index) and isinstance(function.base, Global):
        key = function.key
        return isinstance(key, Text) and (function.base.name, key.value) in _LIBRARY_READERS
    return False


def runs_what_it_is_given(function: Expression) -> bool:
    if isinstance(function, Global):
        return function.name in ("pcall", "xpcall")
    if isinstance(function, Index) and isinstance(function.base, Global):
        key = function.key
        return isinstance(key, Text) and (function.base.name, key.value) in _RUNNERS
    return False


def has_no_writes(flags: Expression | None) -> bool:
    return isinstance(flags, Table) and any(
        isinstance(value, Text) and value.value == b"no-writes" for _, value in flags.fields
    )
