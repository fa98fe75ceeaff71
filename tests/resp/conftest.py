"""Tests of the codec run on the form that is loaded; `test_forms` runs them on the other one."""

from __future__ import annotations

from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import proxy.resp

FOLDER = Path(proxy.resp.__path__[0])


@pytest.fixture(scope="session", autouse=True)
def _form_is_of_this_source() -> None:
    # A compiled form left from an older source would be tested instead of the source.
    for source in FOLDER.glob("*.p*"):
        built = source.with_suffix(EXTENSION_SUFFIXES[0])
        if built.exists() and source.stat().st_mtime > built.stat().st_mtime:
            pytest.fail(f"{source.name} is newer than its compiled form: build it again")
