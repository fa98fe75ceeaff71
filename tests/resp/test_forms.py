"""The compiled and the plain form: which one is loaded, and that both pass the same tests."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import proxy.resp
from proxy import compiled

ROOT = Path(__file__).parents[2]
TESTS_OF_ONE_FORM = [
    str(path)
    for path in Path(__file__).parent.glob("test_*.py")
    if path.name != Path(__file__).name
]
SAY = "import proxy.resp; from proxy import compiled; print(compiled.compiled_modules())"


def run(*args: str, pure: str | None) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != compiled.SETTING}
    if pure is not None:
        environment[compiled.SETTING] = pure
    return subprocess.run(
        [sys.executable, *args], cwd=ROOT, env=environment, capture_output=True, text=True
    )


def is_built() -> bool:
    return any(Path(proxy.resp.__path__[0]).glob("requests" + EXTENSION_SUFFIXES[0]))


@pytest.mark.parametrize("pure", ["1", "0"])
def test_both_forms_pass_the_same_tests(pure: str) -> None:
    if pure == "0" and not is_built():
        pytest.skip("the compiled form is not built: python setup.py build_ext --inplace")
    if compiled.is_compiled() == (pure == "0"):
        pytest.skip("this run tests that form already")
    done = run("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *TESTS_OF_ONE_FORM, pure=pure)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_plain_form_is_loaded_when_it_is_asked_for() -> None:
    done = run("-c", SAY, pure="1")
    assert done.stdout.strip() == "[]", done.stderr


def test_without_a_setting_the_compiled_form_is_loaded_where_it_is_built() -> None:
    done = run("-c", SAY, pure=None)
    assert ("proxy.resp.requests" in done.stdout) == is_built(), done.stderr


def test_the_compiled_form_asked_for_and_missing_is_an_error() -> None:
    done = run("-c", SAY, pure="0")
    assert (done.returncode == 0) == is_built()
    assert is_built() or "KEYFERRY_PURE=0 asks for the compiled form" in done.stderr


def test_a_wrong_setting_is_an_error() -> None:
    done = run("-c", SAY, pure="yes")
    assert done.returncode != 0
    assert "KEYFERRY_PURE must be 0 or 1" in done.stderr


@pytest.mark.parametrize("pure", ["0", "1", None])
def test_the_version_says_which_form_there_is(pure: str | None) -> None:
    done = run("-m", "migrator", "--version", pure=pure)
    if pure == "0" and not is_built():
        assert done.returncode == 2
        return
    assert done.returncode == 0, done.stderr
    form = "compiled" if is_built() and pure != "1" else "plain Python"
    assert done.stdout.startswith("keyferry, version ")
    assert done.stdout.endswith(f"; hot path: {form}\n")


@pytest.mark.parametrize("pure", ["0", "yes"])
def test_the_command_says_in_one_line_which_form_it_cannot_have(pure: str) -> None:
    if pure == "0" and is_built():
        pytest.skip("it can have it here")
    done = run("-m", "migrator", "status", pure=pure)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith("keyferry: KEYFERRY_PURE")
