"""What every command means to the proxy. Pure: requests and replies in, answers out.

Owns the command table: for each command of Redis 6.2 to 7.4 and Valkey 8 to 9.1 its kind, its
keys and its effect, as rows of data. It never sends anything, never knows which side is primary,
and never reads a clock.

**Lookup.** ``CommandTable().lookup(request)`` gives the :class:`Command`, or None for what nobody
knows. It is one dict lookup for a plain command; a container (``XGROUP CREATE``) takes a second
one, and the few commands whose options change their kind decide there (SORT without STORE reads,
XREAD with BLOCK is parked). ``complete`` takes in the COMMAND reply of the server at
start: its arities, the wording of its errors, and the commands that only it knows. ``check`` gives
the error which a server answers to a malformed request before it looks at the command.

**Kinds** say who serves it (:class:`Kind`): READ by key, on either side; WRITE on the primary,
then mirrored; BARRIER, a write of everything; CURSOR; NODE, for what asks the server and not a
key; BLOCKING, SCRIPT, SUBSCRIBE, TRANSACTION and OWN, each with a module of its own in ``proxy``;
LOCAL, which the proxy answers; REFUSED, whose ``error`` is ready to send. What a server knows and
this table does not is never guessed: a read-only command with keys is a READ, a write that names
its keys is a WRITE whose keys are copied afterwards, what a module only reads is a NODE
(:mod:`proxy.commands.modules`), everything else is REFUSED. What is refused, and how it is served
where an operator allows it by name, is :mod:`proxy.commands.policy`.

**Keys.** ``keys`` and ``written`` follow ranges written as short texts (``w1 r#2``, see
:mod:`proxy.commands.keys`). ``single_key`` says that argument 1 is the only one, so the hot path
need not ask. ``unknown_keys``: the request touches keys that it does not name (patterns of SORT).
``moves_data``: an unproven input makes the outputs unproven. ``other_db``: MOVE and COPY.

**Effects.** With the primary's reply in hand, ``command.effect(request, reply, clock)`` says what
the mirror sends: by what was done, not under which condition. ``SET k v EX 9 NX`` that set the key
becomes ``SET k v PXAT …``, one that did not becomes nothing. Where ``effect`` is None (or the
request has ``verbatim_argc`` arguments) the request itself is sent, and the replies must be the
same. Otherwise a list of :class:`Effect`, each with the :class:`Check` of its answer, or
:data:`COPY_KEYS`: no command says exactly what happened (a relative time and a vague clock, the
order that a server sorts ties in, an option that this table does not know), so the written keys
become unproven and are copied. Rules never see an error reply. A command with a ``probe`` wants
one more read right behind it on the lane, and its rule then gets ``(reply, answer)``; without it,
as inside MULTI, the rule gets the reply alone and answers COPY_KEYS where that is not enough.

Effects are written so that Redis 6.2 understands them wherever it can hold the result: after a
cutover the mirror may run from a new server to an old one. Where servers do different things with
the same reply, :class:`Engine` in the clock tells the rule which kind the primary is.

Facts are measured: ``tests/commands`` runs every form of every write on real servers, and compares
what both sides hold afterwards.
"""

from .complete import Known
from .effect import COPY_KEYS, Check, Clock, Effect, Outcome, Rule
from .engine import Engine
from .model import Command, Kind
from .policy import NotAllowed
from .table import CommandTable
from .texts import Dialect

__all__ = [
    "COPY_KEYS",
    "Check",
    "Clock",
    "Command",
    "CommandTable",
    "Dialect",
    "Effect",
    "Engine",
    "Kind",
    "Known",
    "NotAllowed",
    "Outcome",
    "Rule",
]
