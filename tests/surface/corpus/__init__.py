"""What is said, a file per group, in the language of `tests.surface.conversation`."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tests.surface.conversation import Conversation, conversations

_FILES = sorted(Path(__file__).parent.glob("*.txt"))

GROUPS = [file.stem for file in _FILES]

# What braces stand for, beside what `Words` knows and servers are asked for.
KNOWN = {
    name: hashlib.sha1(script).hexdigest().encode()
    for name, script in (
        (b"sha_1", b"return 1"),
        (b"sha_incr", b"return redis.call('incr', KEYS[1])"),
    )
}


def lines(group: str) -> list[Conversation]:
    text = (Path(__file__).parent / f"{group}.txt").read_text(encoding="utf-8")
    return list(conversations(text))
