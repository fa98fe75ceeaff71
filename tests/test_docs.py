"""The documentation names what exists: files, tests, settings, verbs, metrics."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from migrator.cli import cli
from migrator.config import OPTIONS
from migrator.phases import Phase
from proxy.metrics import Readings, Stats, registry
from proxy.sides import Side

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


@cache
def functions(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def anchors(path: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        target = page.parent / file if file else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_that_are_named_are_there(page: Path) -> None:
    pattern = r"`((?:proxy|migrator|tests|deploy|docs)/[\w./-]*)(?:::(\w+))?`"
    for file, test in re.findall(pattern, page.read_text(encoding="utf-8")):
        assert (ROOT / file).exists(), file
        assert not test or test in functions(ROOT / file), f"{file}::{test}"


def test_every_deliberate_break_is_told() -> None:
    mutations = pytest.importorskip("tests.property.mutations").MUTATIONS
    told = re.findall(r"tests\.property\.mutate (\w+)", text_of("docs/guarantees.md"))
    assert set(mutations) == set(told) - {"all", "none"}


def test_every_setting_is_told() -> None:
    settings = text_of("docs/operations.md").partition("## Settings")[2].partition("\n## ")[0]
    for option in OPTIONS:
        flag = option.opts[0].removeprefix("--")
        assert f"`{flag}`" in settings or f"`--{flag}`" in settings, flag


def test_the_commands_that_are_told_exist() -> None:
    for page in PAGES:
        for verb in re.findall(r"^keyferry (\w+)", page.read_text(encoding="utf-8"), re.MULTILINE):
            assert verb in cli.commands, f"{name(page)}: {verb}"


def test_every_metric_is_told() -> None:
    told = text_of("docs/operations.md")
    readings = Readings(phase="idle", phases=[str(p) for p in Phase], primary=Side.SOURCE)
    for family in registry(Stats(), lambda: readings).collect():
        if family.name.startswith("keyferry_"):
            stem = re.sub(r"_(operations|bytes|seconds)$", "", family.name)
            assert stem in told, family.name
