"""The C types beside the hot modules: what is assigned in a class is declared for it.

An attribute that is not declared is an AttributeError, in the compiled form only. Nothing here
needs a compiler.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PXDS = sorted((ROOT / "proxy").rglob("*.pxd"))


def declared(pxd: Path) -> dict[str, tuple[str | None, set[str]]]:
    """Base and attributes of each class."""
    found: dict[str, tuple[str | None, set[str]]] = {}
    names: set[str] = set()
    for line in pxd.read_text(encoding="utf-8").splitlines():
        if match := re.match(r"cdef class (\w+)(?:\((\w+)\))?:", line):
            names = set()
            found[match[1]] = (match[2], names)
        elif match := re.match(r"    cdef (?:public |readonly )?[\w. ]+? (\w+)$", line):
            names.add(match[1])
    return found


CLASSES = {
    name: (pxd, base, names)
    for pxd in PXDS
    for name, (base, names) in declared(pxd).items()
}  # fmt: skip


def with_bases(name: str | None) -> set[str]:
    if name not in CLASSES:
        return set()
    _, base, names = CLASSES[name]
    return names | with_bases(base)


def assigned(cls: ast.ClassDef) -> set[str]:
    """Every `self.name` that is assigned anywhere in the class."""
    return {
        node.attr
        for node in ast.walk(cls)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }


@pytest.mark.parametrize("name", CLASSES)
def test_what_a_class_assigns_is_declared(name: str) -> None:
    pxd = CLASSES[name][0]
    known = with_bases(name)
    tree = ast.parse(pxd.with_suffix(".py").read_text(encoding="utf-8"))
    (cls,) = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == name]
    properties = {n.name for n in ast.walk(cls) if isinstance(n, ast.FunctionDef)}
    if "__dict__" not in known:
        assert assigned(cls) - properties <= known
