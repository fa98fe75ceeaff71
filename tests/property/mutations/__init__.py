"""Ways to break the product on purpose, each the opposite of one rule that makes it exact.

Each is a patch over the product's modules, applied in a process of its own, before it starts:

    python -c "from tests.property.mutations import main; main('watch')" run --source …

The product reads nothing of this.
"""

from __future__ import annotations

from . import spine, surface
from .registry import MUTATIONS

__all__ = ["MUTATIONS", "main", "spine", "surface"]


def main(name: str) -> None:
    """Runs the command line with one rule broken."""
    MUTATIONS[name].apply()
    from migrator.cli import main as keyferry

    keyferry()
