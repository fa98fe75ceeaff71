"""What an analysis finds: a name that operators and scripts know, and words for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """``severity``: blocker, warning or info."""

    name: str
    severity: str
    message: str
