"""Which form of the hot modules runs: compiled, or the plain Python it was compiled from.

Owns KEYFERRY_PURE. Unset, a compiled module is used where there is one; 1 takes the plain form
of all; 0 insists on the compiled form. Never builds anything: that is setup.py.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import (
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
)
from types import ModuleType

SETTING = "KEYFERRY_PURE"
# The form is what these are. A build makes all compiled modules or none (setup.py).
HOT = (
    *("proxy.resp.requests", "proxy.resp.replies", "proxy.keytable"),
    *("proxy.lane", "proxy.mirror", "proxy.session"),
)


class PlainFinder(MetaPathFinder):
    """Finds `proxy`'s modules as source, past any compiled form beside it."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is None or not fullname.startswith("proxy."):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(fullname)
            if spec is not None:
                return spec
        return None


def choose_form() -> None:
    """Does what KEYFERRY_PURE says. Called by `proxy/__init__`, before any hot module is loaded.

    Raises ImportError, with the setting as its name, where it is 0 and there is no compiled
    form, or neither 0 nor 1.
    """
    setting = os.environ.get(SETTING, "")
    if setting == "1":
        if not any(isinstance(finder, PlainFinder) for finder in sys.meta_path):
            sys.meta_path.insert(0, PlainFinder())
    elif setting == "0":
        if not is_compiled():
            raise ImportError(
                f"{SETTING}=0 asks for the compiled form, and it is not built "
                "(python setup.py build_ext --inplace)",
                name=SETTING,
            )
    elif setting:
        raise ImportError(f"{SETTING} must be 0 or 1, not {setting!r}", name=SETTING)


def is_compiled() -> bool:
    """Whether the hot path is compiled code: all of it."""
    return all(_is_extension(importlib.util.find_spec(name)) for name in HOT)


def form() -> str:
    """For people."""
    return "compiled" if is_compiled() else "plain Python"


def compiled_modules() -> list[str]:
    """Names of the modules of `proxy` that are loaded in their compiled form."""
    loaded = sorted(name for name in sys.modules if name.startswith("proxy."))
    return [name for name in loaded if _is_extension(sys.modules[name].__spec__)]


def _is_extension(spec: ModuleSpec | None) -> bool:
    return spec is not None and isinstance(spec.loader, ExtensionFileLoader)
