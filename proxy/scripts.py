"""What scripts and functions the primary has been given through the proxy.

Owns bodies by SHA-1, functions by library, and the verdict on each (:mod:`proxy.lua`). Pure. It
forgets as the servers do: what SCRIPT LOAD has brought stays until SCRIPT FLUSH, of what came
with EVAL the least used go (Valkey 8 keeps 500 of those).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha1

from .commands import CommandTable
from .keytable import Place, place_of
from .lua import ANY, UNKNOWN, Origin, Script, library_name, read_body, read_library
from .resp import Request

MAX_EVALUATED = 500
MAX_EVALUATED_BYTES = 16 * 1024 * 1024


class Scripts:
    """See the module's docstring."""

    def __init__(self, table: CommandTable) -> None:
        self._table = table
        self._loaded: dict[bytes, bytes] = {}
        self._evaluated: dict[bytes, bytes] = {}  # the least used first
        self._evaluated_bytes = 0
        self._verdicts: dict[bytes, Script] = {}
        # By name in lower case, as FCALL looks for them; and the names by library.
        self._functions: dict[bytes, Script] = {}
        self._libraries: dict[bytes, list[bytes]] = {}

    def __len__(self) -> int:
        return len(self._loaded) + len(self._evaluated)

    # -- bodies ----------------------------------------------------------------------------

    def load(self, body: bytes) -> bytes:
        """SCRIPT LOAD; returns the SHA-1."""
        sha = _sha(body)
        self._forget_evaluated(sha)
        self._loaded[sha] = body
        self._judge(sha, body)
        return sha

    def evaluate(self, body: bytes) -> Script:
        """EVAL brings this body: the verdict on it."""
        sha = _sha(body)
        if sha not in self._loaded and not self._use(sha):
            self._evaluated[sha] = body
            self._evaluated_bytes += len(body)
            self._judge(sha, body)
            while (
                len(self._evaluated) > MAX_EVALUATED or self._evaluated_bytes > MAX_EVALUATED_BYTES
            ):
                oldest = next(iter(self._evaluated))
                self._forget_evaluated(oldest)
                if oldest == sha:  # Too large to be kept.
                    return read_body(body, self._table)
        return self._verdicts[sha]

    def verdict(self, sha: bytes) -> Script | None:
        """On the body of an EVALSHA, in either case; None: it is not known."""
        sha = sha.lower()
        self._use(sha)
        return self._verdicts.get(sha)

    def bodies(self) -> list[tuple[bytes, bytes, bool]]:
        """All that are known: SHA-1, body, and whether it was loaded to stay."""
        return [
            *((sha, body, True) for sha, body in self._loaded.items()),
            *((sha, body, False) for sha, body in self._evaluated.items()),
        ]

    def flush(self) -> None:
        """SCRIPT FLUSH."""
        self._loaded.clear()
        self._evaluated.clear()
        self._evaluated_bytes = 0
        self._verdicts.clear()

    def _judge(self, sha: bytes, body: bytes) -> None:
        if sha not in self._verdicts:
            self._verdicts[sha] = read_body(body, self._table)

    def _use(self, sha: bytes) -> bool:
        body = self._evaluated.pop(sha, None)
        if body is None:
            return False
        self._evaluated[sha] = body
        return True

    def _forget_evaluated(self, sha: bytes) -> None:
        body = self._evaluated.pop(sha, None)
        if body is not None:
            self._evaluated_bytes -= len(body)
            del self._verdicts[sha]

    # -- functions -------------------------------------------------------------------------

    def load_library(self, code: bytes) -> None:
        """FUNCTION LOAD, in the place of a library of that name."""
        name = library_name(code)
        if name is None:
            return
        self.delete_library(name)
        verdicts = read_library(code, self._table)
        self._libraries[name] = [function.lower() for function in verdicts]
        for function, verdict in verdicts.items():
            self._functions[function.lower()] = verdict

    def delete_library(self, name: bytes) -> None:
        for function in self._libraries.pop(name, ()):
            del self._functions[function]

    def flush_libraries(self) -> None:
        """They are gone, or not known any more: either way nothing is known of a name."""
        self._libraries.clear()
        self._functions.clear()

    def set_libraries(self, codes: Iterable[bytes]) -> None:
        """What FUNCTION LIST says there is."""
        self.flush_libraries()
        for code in codes:
            self.load_library(code)

    def function(self, name: bytes) -> Script:
        """The verdict on what FCALL names."""
        return self._functions.get(name.lower(), UNKNOWN)


def places_written(script: Script, db: int, request: Request) -> Sequence[Place]:
    """The places that this call of a script may write.

    ``request`` is ``EVAL body numkeys key … arg …``, or has that form. The verdict names all keys.
    """
    assert script.written is not None
    numbered = request.args()[2:]
    count = int(numbered[0]) if numbered[0].isdigit() else 0
    keys, arguments = numbered[1 : 1 + count], numbered[1 + count :]
    found: dict[bytes, None] = {}
    for origin, which in script.written:
        if isinstance(which, bytes):
            found[which] = None
            continue
        array = keys if origin is Origin.KEYS else arguments
        found.update(dict.fromkeys(array if which == ANY else array[which - 1 : which]))
    return tuple(place_of(db, key) for key in found)


def _sha(body: bytes) -> bytes:
    return sha1(body, usedforsecurity=False).hexdigest().encode()
