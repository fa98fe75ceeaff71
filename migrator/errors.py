"""Errors that the operator sees: whose fault, and what to do.

Every layer below the face raises one of these, or something that is a defect.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Blocker:
    """Why a step is refused: `name` is stable and scripted against, `message` is for people."""

    name: str
    message: str

    def as_json(self) -> dict[str, str]:
        return {"name": self.name, "message": self.message}


class KeyferryError(Exception):
    """The operator must know or act. The text is one clear line."""


class ListenError(KeyferryError):
    """An address cannot be listened on; `setting` is its flag (`--listen`)."""

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting}: {problem}")
        self.setting = setting


class StateError(KeyferryError):
    """The state directory cannot be used: locked, corrupt, or of another migration."""


class MarkerError(KeyferryError):
    """The markers in the stores contradict the state: serving might serve the wrong side."""


class Unreachable(KeyferryError):
    """No process answers at the admin address. Exit code 3."""


class BadInput(KeyferryError):
    """A request that no state would accept. 400; exit code 2."""


class Refused(KeyferryError):
    """A step that is not possible now. 409; exit code 1, one line per blocker.

    `name` is stable: a gate's, when only one is closed, or of the kind `illegal_step`.
    """

    def __init__(self, name: str, message: str, blockers: Iterable[Blocker] = ()) -> None:
        super().__init__(message)
        self.name = name
        self.message = message
        self.blockers = tuple(blockers)
