"""The import rules: what keeps the picture in the README true."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

# Protocol and policy: bytes or events in, actions out. Time, chance, files and connections reach
# them as arguments only.
PURE = (
    "proxy/resp",
    "proxy/commands",
    "proxy/lua",
    "proxy/keytable.py",
    "proxy/touches.py",
    "proxy/op.py",
    "proxy/sides.py",
    "migrator/phases.py",
    "migrator/errors.py",
    "migrator/units.py",
    "migrator/throttle.py",
    "migrator/admin/body.py",
)
IMPURE = {
    *("asyncio", "os", "pathlib", "random", "secrets", "select", "selectors", "shutil", "signal"),
    *("socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "uvloop"),
}
PURE_CALLS = {"open", "print", "input"}
LONGEST_FILE = 500


def modules(*places: str) -> list[Path]:
    paths = [ROOT / place for place in places]
    files = [f for p in paths for f in (p.rglob("*.py") if p.is_dir() else [p])]
    return sorted(f for f in files if f.exists())


def imported(path: Path, root: Path = ROOT) -> Iterator[str]:
    """The names of all imported modules, absolute, those inside of functions too."""
    package = path.relative_to(root).parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) - node.level + 1]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", modules("proxy"), ids=name)
def test_the_data_plane_never_imports_the_control_plane(path: Path) -> None:
    assert not [module for module in imported(path) if module.split(".")[0] == "migrator"]


@pytest.mark.parametrize("path", modules("proxy", "migrator"), ids=name)
def test_the_product_never_imports_its_tests(path: Path) -> None:
    assert not [module for module in imported(path) if module.split(".")[0] in ("tests", "pytest")]


@pytest.mark.parametrize("path", modules(*PURE), ids=name)
def test_pure_modules_do_no_io(path: Path) -> None:
    assert not [module for module in imported(path) if module.split(".")[0] in IMPURE]
    called = {
        node.func.id
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & PURE_CALLS


@pytest.mark.parametrize("path", modules(*PURE), ids=name)
def test_pure_modules_import_only_pure_modules_of_ours(path: Path) -> None:
    pure = {f.relative_to(ROOT).with_suffix("") for f in modules(*PURE)}
    pure |= {f.parent for f in pure if f.name == "__init__"}
    for module in imported(path):
        parts = Path(*module.split("."))
        if parts.parts[0] in ("proxy", "migrator") and (ROOT / parts).with_suffix(".py").exists():
            assert parts in pure, f"{module} is not pure"


@pytest.mark.parametrize("path", modules("proxy", "migrator", "tests"), ids=name)
def test_a_module_says_what_it_owns_and_stays_one_thing(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    if path.name != "__init__.py" or text.strip():
        assert ast.get_docstring(ast.parse(text)), "no module docstring"
    assert len(text.splitlines()) <= LONGEST_FILE


def test_the_rules_see_what_they_forbid(tmp_path: Path) -> None:
    path = tmp_path / "proxy" / "module.py"
    path.parent.mkdir()
    path.write_text(
        "import os.path\n"
        "from time import time\n"
        "from . import sides\n"
        "def f():\n"
        "    from migrator import cli\n"
    )
    assert {"os.path", "time", "proxy.sides", "migrator", "migrator.cli"} <= set(
        imported(path, tmp_path)
    )


@pytest.mark.parametrize("place", PURE)
def test_the_pure_modules_are_where_the_rules_look(place: str) -> None:
    assert (ROOT / place).exists()


def test_every_connection_to_a_store_is_made_by_its_endpoint() -> None:
    # What an operator says of TLS is honoured there. The demo and its stores have none.
    demo = {f"migrator/{each}.py" for each in ("servers", "demo/instance", "traffic/connection")}
    found = {
        name(path)
        for path in modules("proxy", "migrator")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and node.attr in ("create_connection", "create_unix_connection", "open_connection")
    }
    assert found == {"proxy/endpoint.py"} | demo
