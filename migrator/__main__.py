"""The command `keyferry`, also as `python -m migrator`.

Apart from the command line itself, since what that needs cannot be imported where KEYFERRY_PURE
asks for a form that is not there: then one line says so.
"""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """The entry point: runs the command line, and exits."""
    try:
        from migrator import cli
    except ImportError as error:
        if error.name != "KEYFERRY_PURE":
            raise
        sys.stderr.write(f"keyferry: {error}\n")
        sys.exit(2)
    cli.main()


if __name__ == "__main__":
    main()
