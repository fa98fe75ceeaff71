"""Builds the compiled form of the hot modules; all else about the package is in pyproject.toml.

The modules are plain Python, some with C types in a `.pxd` beside them. Without Cython or a C
compiler, or with KEYFERRY_PURE=1, nothing is built and the package runs as plain Python, only
slower; with KEYFERRY_PURE=0 that is an error. In place, for a checkout:
`python setup.py build_ext --inplace`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CCompilerError, ExecError, PlatformError

# Hot modules, the ones a .pxd is shared from first. Any plain module can be added.
COMPILED = (
    "proxy.resp.window",
    "proxy.resp.requests",
    "proxy.resp.replies",
    "proxy.resp.encoder",
    "proxy.resp.dumps",
    "proxy.resp.parser",
    "proxy.writing",
    "proxy.tlswire",
    "proxy.op",
    "proxy.fifo",
    "proxy.counts",
    "proxy.poll",
    "proxy.commands.model",
    "proxy.touches",
    "proxy.keytable",
    "proxy.lane",
    "proxy.log",
    "proxy.plane",
    "proxy.append",
    "proxy.mirror",
    "proxy.ops",
    "proxy.split",
    "proxy.places",
    "proxy.sent",
    "proxy.upstreams",
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


# As at run time, see proxy/compiled.py.
FORM = os.environ.get("KEYFERRY_PURE", "")


def extensions() -> list[Extension]:
    """The extension modules to build; none where they cannot be."""
    if FORM == "1":
        return []
    try:
        from Cython.Build import cythonize
    except ImportError:
        without("Cython is missing")
        return []
    return cythonize(
        [
            # Without debugging symbols: they are four fifths of a wheel.
            Extension(name, [name.replace(".", "/") + ".py"], extra_compile_args=["-g0"])
            for name in COMPILED
        ],
        build_dir="build/cython",
        compiler_directives=DIRECTIVES,
    )


def without(reason: str) -> None:
    """There will be no compiled form. Ends the build where it was asked for."""
    if FORM == "0":
        raise SystemExit(f"KEYFERRY_PURE=0 asks for the compiled form: {reason}")
    print(f"{reason}: Keyferry will run as plain Python, slower.", file=sys.stderr)


class AllOrNone(build_ext):
    """Builds all modules, or leaves none behind: they share C types, so some are no use."""

    def finalize_options(self) -> None:
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()

    def run(self) -> None:
        try:
            super().run()
        except (CCompilerError, ExecError, PlatformError) as error:
            without(f"the C compiler is missing or fails ({error})")
            for built in self.get_outputs():
                Path(built).unlink(missing_ok=True)
            self.extensions = []


setup(ext_modules=extensions(), cmdclass={"build_ext": AllOrNone})
