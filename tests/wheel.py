"""`python -m tests.wheel`: wheel and source distribution into dist/, and a look at both.

Each is installed into a virtual environment of its own and asked which form it runs: the wheel
the compiled one (with KEYFERRY_PURE=1 it is made without, and says so), the source distribution
the plain one where a compiler or Cython is missing. Needs the package index.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
SETTING = "KEYFERRY_PURE"
COMPILED, PLAIN = "compiled", "plain Python"
# Loads the whole data plane.
LOADS = "import proxy.server; from proxy import compiled; print(len(compiled.compiled_modules()))"


class Wrong(Exception):
    """What was built is not what it should be."""


def run(*words: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Away from the checkout, whose packages would be found first; with only these settings."""
    inherited = {name: value for name, value in os.environ.items() if name != SETTING}
    return subprocess.run(
        [str(word) for word in words],
        cwd=tempfile.gettempdir(),
        env=inherited | environment,
        capture_output=True,
        text=True,
        check=False,
    )


def must(*words: str | Path, **environment: str) -> str:
    """Its output. Raises Wrong with all that it said."""
    done = run(*words, **environment)
    if done.returncode:
        raise Wrong(f"{' '.join(map(str, words))}\n{done.stdout}{done.stderr}")
    return done.stdout


class Installed:
    """A fresh virtual environment."""

    def __init__(self, folder: Path) -> None:
        venv.create(folder, with_pip=True)
        self.bin = folder / "bin"

    def install(self, *words: str | Path, **environment: str) -> None:
        pip = [self.bin / "python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        must(*pip, "install", *words, **environment)

    def check(self, form: str) -> None:
        """It is of this form, can be told to be plain, and says if it cannot be compiled."""
        expected = f"; hot path: {form}\n"
        said = must(self.bin / "keyferry", "--version")
        if not said.endswith(expected):
            raise Wrong(f"--version says {said!r}")
        is_compiled = form == COMPILED
        if (int(must(self.bin / "python", "-c", LOADS)) > 0) != is_compiled:
            raise Wrong(f"the modules that are loaded are not those of the {form} form")
        if int(must(self.bin / "python", "-c", LOADS, **{SETTING: "1"})):
            raise Wrong(f"{SETTING}=1 loads compiled modules")
        code = run(self.bin / "keyferry", "--version", **{SETTING: "0"}).returncode
        if code != (0 if is_compiled else 2):
            raise Wrong(f"{SETTING}=0 ends with {code}")


def main() -> int:
    setting = os.environ.get(SETTING, "")
    form = PLAIN if setting == "1" else COMPILED
    for old in DIST.glob("keyferry-*"):
        old.unlink()
    try:
        # The source distribution, and the wheel from that: so nothing is missing in it. What
        # cannot be compiled is an error here.
        must(
            *(sys.executable, "-m", "build", "--outdir", DIST, ROOT),
            **{SETTING: "1" if form == PLAIN else "0"},
        )
        [wheel], [source] = DIST.glob("*.whl"), DIST.glob("*.tar.gz")
        if wheel.name.endswith("-none-any.whl") != (form == PLAIN):
            raise Wrong(f"{wheel.name} is not of the {form} form")
        with tempfile.TemporaryDirectory() as folder:
            installed = Installed(Path(folder) / "wheel")
            installed.install(wheel)
            installed.check(form)
            print(f"{wheel.relative_to(ROOT)}: {form}")
            again = ("--force-reinstall", "--no-deps")
            installed.install(*again, source, CC="/no/compiler", CXX="/no/compiler")
            installed.check(PLAIN)
            installed.install("setuptools>=77")
            installed.install(*again, "--no-build-isolation", source)
            installed.check(PLAIN)
            print(f"{source.relative_to(ROOT)}: {PLAIN} without a compiler, or without Cython")
    except Wrong as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
