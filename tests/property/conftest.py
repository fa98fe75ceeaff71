"""The option that breaks the product on purpose: `pytest tests/property --mutation NAME`."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--mutation", metavar="NAME", help="break this rule (tests/property/mutations.py): red"
    )


@pytest.fixture
def mutation(request: pytest.FixtureRequest) -> str | None:
    """The rule to break. The option is only known where this folder was named."""
    name: str | None = request.config.getoption("--mutation", default=None)
    return name
