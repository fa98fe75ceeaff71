"""Builds the compiled form of the hot modules; all else about the package is in pyproject.toml.

The modules are plain Python, some with C types in a `.pxd` beside them. Without Cython or a C
compiler, or with KEYFERRY_PURE=1, nothing is built and the package runs as plain Python, only
slower. In place, for a checkout: `python setup.py build_ext --inplace`.
"""

from __future__ import annotations

import os
import sys

from setuptools import Extension, setup

# Hot modules, the ones a .pxd is shared from first. Any plain module can be added.
COMPILED = (
    "proxy.resp.window",
    "proxy.resp.requests",
    "proxy.resp.replies",
    "proxy.resp.encoder",
    "proxy.resp.dumps",
    "proxy.resp.parser",
    "proxy.op",
    "proxy.commands.model",
    "proxy.keytable",
    "proxy.lane",
    "proxy.log",
    "proxy.plane",
    "proxy.mirror",
    "proxy.ops",
    "proxy.places",
    "proxy.sent",
    "proxy.session",
    "proxy.transaction",
    "proxy.own",
    "proxy.block",
    "proxy.cursors",
    "proxy.receiver",
    "proxy.subscribing",
    "proxy.waiter",
    "proxy.blocked",
    "proxy.attempt",
    "proxy.blocking",
)

DIRECTIVES = {
    "language_level": 3,
    # Annotations are for people and mypy. C types are in the .pxd files alone, so that both
    # forms take the same values.
    "annotation_typing": False,
}


def extensions() -> list[Extension]:
    """The extension modules to build; none where they cannot be."""
    if os.environ.get("KEYFERRY_PURE", "0") not in ("", "0"):
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        print("Cython is missing: Keyferry will run as plain Python.", file=sys.stderr)
        return []
    built = cythonize(
        [Extension(name, [name.replace(".", "/") + ".py"]) for name in COMPILED],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
    )
    for extension in built:
        # A compiler that is missing or fails leaves the plain module in its place.
        extension.optional = True
    return built


setup(ext_modules=extensions())
