"""What the proxy does not serve yet, by the table's names: lines with one of these are left out."""

# Not MONITOR, which prints what the proxy does as well: tests/proxy/test_monitoring.py.
_NAMES = """
    blpop brpop blmove brpoplpush blmpop bzpopmin bzpopmax bzmpop xread|block xreadgroup|block
    client|tracking client|trackinginfo client|caching client|getredir
"""

NOT_YET = frozenset(_NAMES.split())


def is_not_yet(name: str) -> bool:
    """A container stands for all its subcommands."""
    return name in NOT_YET or name.partition("|")[0] in NOT_YET
