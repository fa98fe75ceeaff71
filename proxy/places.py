"""Which places a request touches.

Pure: the command table's keys, with the database they are in.
"""

from __future__ import annotations

from collections.abc import Sequence

from .commands import Command
from .keytable import Place, place_of
from .resp import Request


def places_of(db: int, command: Command, request: Request) -> Sequence[Place]:
    """All places that a command reads or writes, each once."""
    if command.single_key:
        return (place_of(db, request.arg(1)),)
    keys = command.keys(request)
    other = command.other_db(request)
    if other is None or other == db:
        return tuple(dict.fromkeys(place_of(db, key) for key in keys))
    return (place_of(db, keys[0]), place_of(other, keys[-1]))


def written_places(db: int, command: Command, request: Request) -> Sequence[Place]:
    """The places that a command writes, its destination database respected."""
    if command.single_key:
        return (place_of(db, request.arg(1)),)
    other = command.other_db(request)
    if other is None or other == db:
        return tuple(dict.fromkeys(place_of(db, key) for key in command.written(request)))
    places = places_of(db, command, request)
    return places if command.name == "move" else places[-1:]


def hides_inputs(command: Command, request: Request) -> bool:
    """Whether the reply can be the same although an input was not.

    With several inputs, one that has expired on the secondary only need not show in
    a count; PFMERGE answers OK whatever it finds.
    """
    return command.name == "pfmerge" or len(command.keys(request)) > 2
