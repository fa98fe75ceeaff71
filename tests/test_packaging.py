"""What is built of a checkout, without an index: `make wheel` does the rest.

Of a copy, since a build leaves things behind.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("proxy", "migrator")
NEEDED = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "MANIFEST.in")

# A compiler, as far as a build can tell: it makes the file that it is asked for.
ONLY_SESSION_FAILS = """#!/bin/sh
case "$*" in *session*) exit 1;; esac
while test $# -gt 0; do test "$1" = -o && touch "$2"; shift; done
exit 0
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    copy = tmp_path / "checkout"
    copy.mkdir()
    for name in NEEDED:
        shutil.copy(ROOT / name, copy)
    built = shutil.ignore_patterns("__pycache__", "*.so", "*.c")
    for name in PACKAGES:
        shutil.copytree(ROOT / name, copy / name, ignore=built)
    return copy


def build(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """A wheel, into `checkout`/dist."""
    inherited = {name: value for name, value in os.environ.items() if name != "KEYFERRY_PURE"}
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--wheel-dir", "dist", ".")
    return subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "-v", *options],
        cwd=checkout,
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def contents(checkout: Path) -> set[str]:
    [wheel] = (checkout / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def sources(checkout: Path) -> set[str]:
    paths = (path for name in PACKAGES for path in (checkout / name).rglob("*"))
    return {str(path.relative_to(checkout)) for path in paths if path.is_file()}


def test_a_wheel_has_every_source_of_the_packages(checkout: Path) -> None:
    # Those of compiled modules too: KEYFERRY_PURE=1 runs them.
    expected = sources(checkout)
    assert {"proxy/session.py", "proxy/session.pxd", "migrator/admin/dashboard.html"} <= expected
    done = build(checkout, KEYFERRY_PURE="1")
    assert done.returncode == 0, done.stderr
    assert {name for name in contents(checkout) if ".dist-info/" not in name} == expected


@pytest.mark.parametrize("compiler", ["missing", "fails at one module"])
def test_without_a_compiler_the_wheel_is_plain_and_the_build_says_so(
    checkout: Path, compiler: str
) -> None:
    expected = sources(checkout)
    command = checkout.parent / "cc"
    if compiler != "missing":
        command.write_text(ONLY_SESSION_FAILS)
        command.chmod(0o755)
    done = build(checkout, CC=str(command), CXX=str(command))
    assert done.returncode == 0, done.stderr
    assert "Keyferry will run as plain Python, slower." in done.stdout + done.stderr
    assert {name for name in contents(checkout) if ".dist-info/" not in name} == expected


def test_the_compiled_form_asked_for_and_no_compiler_is_an_error(checkout: Path) -> None:
    done = build(checkout, CC="/no/compiler", CXX="/no/compiler", KEYFERRY_PURE="0")
    assert done.returncode != 0
    assert "KEYFERRY_PURE=0 asks for the compiled form" in done.stdout + done.stderr
