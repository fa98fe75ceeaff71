"""Commands on streams with a group, and on sketches, and what each must answer."""

from __future__ import annotations

from typing import Any

from .connection import Words
from .draw import SKETCH, STREAM, Choice, Draw
from .model import ANY, OK, Between, Failure, OneOf, Place, Step, Unsure, Value, Wrong, pairs
from .strings import one

GROUP = b"g"
CONSUMERS = (b"alice", b"bob")
# Entries at which a stream is deleted: enough for trims of whole nodes (100 entries).
LONGEST = 260

Id = tuple[int, int]


def parse_id(text: bytes) -> Id:
    ms, _, number = text.partition(b"-")
    return int(ms), int(number)


def write_id(entry: Id) -> bytes:
    return b"%d-%d" % entry


class Stream:
    """`pending`: id -> [consumer, deliveries], None without the group. Ids and fields of `entries`
    are in order."""

    def __init__(self) -> None:
        self.entries: dict[Id, list[bytes]] = {}
        self.last: Id = (0, 0)
        self.delivered: Id = (0, 0)
        self.pending: dict[Id, list[Any]] | None = None

    def listed(self, ids: list[Id]) -> list[Any]:
        return [[write_id(entry), self.entries[entry]] for entry in ids]


def _stream(d: Draw, place: Place) -> Stream:
    """The stream, made if it is missing."""
    value = d.model.value(place)
    if value is None:
        d.model.put(place, Stream())
        value = d.model.value(place)
        assert value is not None
    stream: Stream = value.data
    return stream


def _group(d: Draw, place: Place) -> Stream | None:
    """The stream if it has the group."""
    value = d.model.value(place)
    return None if value is None or value.data.pending is None else value.data


NOGROUP = Failure(b"NOGROUP")


def xadd(d: Draw) -> list[Step]:
    place, fields = d.own(STREAM), [b"f", d.word()]
    form = d.number(0, 4)
    before = d.model.peek(place)
    if before is not None and len(before.data.entries) > LONGEST:
        return [_forget(d, place)]
    options: Words = (
        (), (b"MAXLEN", b"~", 20), (b"MAXLEN", b"=", 30), (b"NOMKSTREAM",)
    )[form]  # fmt: skip

    def apply(reply: Any) -> object:
        if form == 3 and d.model.value(place) is None:
            return None
        stream = _stream(d, place)
        if not isinstance(reply, bytes) or parse_id(reply) <= stream.last:
            return Wrong(f"an id above {stream.last}")
        stream.last = parse_id(reply)
        stream.entries[stream.last] = fields
        if form == 2:
            _keep(stream, 30)
        return ANY

    steps = one((b"XADD", place[1], *options, b"*", *fields), place, apply)
    return [*steps, _length(d, place, 20)] if form == 1 else steps


def xadd_explicit(d: Draw) -> list[Step]:
    place, fields, by = d.own(STREAM), [b"f", d.word()], d.number(0, 3)
    before = d.model.peek(place)
    last: Id = before.data.last if before is not None else (0, 0)
    entry = (last[0], last[1] + by) if d.chance(0.7) else (last[0] + by, 5)

    def apply(_: Any) -> object:
        value = d.model.value(place)
        if entry <= ((0, 0) if value is None else value.data.last):
            return Failure(b"ERR The ID specified in XADD")
        stream = _stream(d, place)
        stream.last = entry
        stream.entries[entry] = fields
        return write_id(entry)

    return one((b"XADD", place[1], write_id(entry), *fields), place, apply)


def _keep(stream: Stream, length: int) -> int:
    gone = list(stream.entries)[: max(0, len(stream.entries) - length)]
    for entry in gone:
        del stream.entries[entry]
    return len(gone)


def _length(d: Draw, place: Place, at_least: int = 0) -> Step:
    """XLEN; behind a `~` trim the only way to know what it did."""

    def apply(reply: Any) -> object:
        value = d.model.value(place)
        if value is None:
            return 0
        size = len(value.data.entries)
        if not at_least or not isinstance(reply, int):
            return size
        if min(at_least, size) <= reply <= size:
            _keep(value.data, reply)
            return ANY
        return Between(min(at_least, size), size)

    return Step((b"XLEN", place[1]), (place,), apply)


def _forget(d: Draw, place: Place) -> Step:
    def apply(_: Any) -> object:
        return d.model.drop(place)

    return Step((b"DEL", place[1]), (place,), apply)


def xtrim(d: Draw) -> list[Step]:
    place, form = d.own(STREAM), d.number(0, 3)
    if form == 0:
        step = Step((b"XTRIM", place[1], b"MAXLEN", b"~", 10), (place,), lambda _: ANY)
        return [step, _length(d, place, 10)]
    if form == 1:

        def apply(_: Any) -> object:
            value = d.model.value(place)
            return 0 if value is None else _keep(value.data, 15)

        return one((b"XTRIM", place[1], b"MAXLEN", 15), place, apply)
    return [_length(d, place)]


def xdel(d: Draw) -> list[Step]:
    place, number = d.own(STREAM), d.number(0, 50)
    before = d.model.peek(place)
    ids = list(before.data.entries) if before is not None else []
    entry = ids[number % len(ids)] if ids else (1, 1)

    def apply(_: Any) -> object:
        value = d.model.value(place)
        return 0 if value is None else int(value.data.entries.pop(entry, None) is not None)

    return one((b"XDEL", place[1], write_id(entry)), place, apply)


def xgroup(d: Draw) -> list[Step]:
    place, start = d.own(STREAM), d.pick((b"0", b"$"))
    form = d.number(0, 4)
    if form < 2:

        def create(_: Any) -> object:
            stream = _stream(d, place)
            if stream.pending is not None:
                return Failure(b"BUSYGROUP")
            stream.pending = {}
            stream.delivered = (0, 0) if start == b"0" else stream.last
            return OK

        return one((b"XGROUP", b"CREATE", place[1], GROUP, start, b"MKSTREAM"), place, create)
    consumer = d.pick(CONSUMERS)
    if form == 2:

        def delete(_: Any) -> object:
            stream = _group(d, place)
            if stream is None or stream.pending is None:
                return NOGROUP if d.model.value(place) is not None else Failure(b"ERR The XGROUP")
            mine = [entry for entry, owner in stream.pending.items() if owner[0] == consumer]
            for entry in mine:
                del stream.pending[entry]
            return len(mine)

        return one((b"XGROUP", b"DELCONSUMER", place[1], GROUP, consumer), place, delete)

    def rewind(_: Any) -> object:
        stream = _group(d, place)
        if stream is None:
            return NOGROUP if d.model.value(place) is not None else Failure(b"ERR The XGROUP")
        stream.delivered = stream.last
        return OK

    return one((b"XGROUP", b"SETID", place[1], GROUP, b"$"), place, rewind)


def xreadgroup(d: Draw, options: Words = ()) -> list[Step]:
    place, consumer, count = d.own(STREAM), d.pick(CONSUMERS), d.number(1, 6)
    acknowledges = d.chance(0.15)
    args: Words = (b"XREADGROUP", b"GROUP", GROUP, consumer, b"COUNT", count, *options)
    if acknowledges:
        args += (b"NOACK",)

    def apply(reply: Any) -> object:
        stream = _group(d, place)
        if stream is None or stream.pending is None:
            return NOGROUP
        ids = [entry for entry in stream.entries if entry > stream.delivered][:count]
        if not ids:
            return None
        stream.delivered = ids[-1]
        if not acknowledges:
            for entry in ids:
                stream.pending[entry] = [consumer, 1]
        return delivered(place, stream.listed(ids), reply)

    return one((*args, b"STREAMS", place[1], b">"), place, apply)


def delivered(place: Place, entries: list[Any], reply: Any) -> object:
    """What reading one stream must answer."""
    if not isinstance(reply, list | dict):
        return Wrong(f"{entries}")
    return ANY if pairs(reply) == {place[1]: entries} else Wrong(f"{entries}")


def xack(d: Draw) -> list[Step]:
    place, count = d.own(STREAM), d.number(1, 4)
    before = d.model.peek(place)
    ids = list(before.data.pending or ())[:count] if before is not None else []
    ids = ids or [(1, 1)]

    def apply(_: Any) -> object:
        stream = _group(d, place)
        if stream is None or stream.pending is None:
            return 0
        return sum(stream.pending.pop(entry, None) is not None for entry in ids)

    return one((b"XACK", place[1], GROUP, *map(write_id, ids)), place, apply)


def xclaim(d: Draw) -> list[Step]:
    place, consumer, count = d.own(STREAM), d.pick(CONSUMERS), d.number(1, 4)
    is_auto, only_ids = d.chance(0.5), d.chance(0.3)
    before = d.model.peek(place)
    ids = list(before.data.pending or ())[:count] if before is not None else []
    ids = ids or [(1, 1)]

    def apply(reply: Any) -> object:
        stream = _group(d, place)
        if stream is None or stream.pending is None:
            return NOGROUP
        found = sorted(stream.pending)[:count] if is_auto else [
            entry for entry in ids if entry in stream.pending]  # fmt: skip
        if any(entry not in stream.entries for entry in found):
            raise Unsure  # Engines differ in what they do with entries that are gone.
        for entry in found:
            stream.pending[entry] = [consumer, stream.pending[entry][1] + (not only_ids)]
        wanted: list[Any] = [write_id(e) for e in found] if only_ids else stream.listed(found)
        if is_auto:
            reply = reply[1] if isinstance(reply, list) else reply
        return ANY if reply == wanted else Wrong(f"{wanted}")

    rest = (b"JUSTID",) if only_ids else ()
    if is_auto:
        head: Words = (b"XAUTOCLAIM", place[1], GROUP, consumer, 0, b"0")
        return one((*head, b"COUNT", count, *rest), place, apply)
    head = (b"XCLAIM", place[1], GROUP, consumer, 0)
    return one((*head, *map(write_id, ids), *rest), place, apply)


def read(d: Draw) -> list[Step]:
    place = d.own(STREAM)
    if d.chance(0.5):

        def entries(_: Any) -> object:
            value = d.model.value(place)
            return [] if value is None else value.data.listed(list(value.data.entries)[:10])

        return one((b"XRANGE", place[1], b"-", b"+", b"COUNT", 10), place, entries)

    def pending(reply: Any) -> object:
        stream = _group(d, place)
        if stream is None or stream.pending is None:
            return NOGROUP
        wanted = [
            [write_id(entry), owner, count]
            for entry, (owner, count) in sorted(stream.pending.items())
        ][:10]
        if not isinstance(reply, list):
            return Wrong(f"{wanted}")
        found = [[entry, owner, count] for entry, owner, _, count in reply]
        return ANY if found == wanted else Wrong(f"{wanted}")

    return one((b"XPENDING", place[1], GROUP, b"-", b"+", 10), place, pending)


# -- sketches: what was added is known, the count to within the error of the algorithm ---


def pfadd(d: Draw) -> list[Step]:
    place, members = d.own(SKETCH), {d.word() for _ in range(d.number(1, 4))}

    def apply(_: Any) -> object:
        data = d.model.data(place, set())
        d.model.edit(place, data | members)
        return 0 if members <= data else OneOf((0, 1))

    return one((b"PFADD", place[1], *sorted(members)), place, apply)


def pfmerge(d: Draw) -> list[Step]:
    to, a = d.two(SKETCH)

    def apply(_: Any) -> object:
        data = d.model.data(a, set()) | d.model.data(to, set())
        if not data:
            raise Unsure  # An empty sketch is made: a key without members.
        d.model.edit(to, data)
        return OK

    return [Step((b"PFMERGE", to[1], a[1]), (to, a), apply)]


def pfcount(d: Draw) -> list[Step]:
    places = tuple(d.own(SKETCH) for _ in range(d.pick((1, 1, 2))))

    def apply(_: Any) -> object:
        size = len(set().union(*(d.model.data(place, set()) for place in places)))
        return Between(size * 0.93 - 1, size * 1.07 + 1)

    return [Step((b"PFCOUNT", *(place[1] for place in places)), places, apply)]


def initial(family: str, number: int) -> Value:
    """What a key of these families holds in the beginning."""
    if family == SKETCH:
        return Value({b"e%d" % at for at in range(number % 9 + 1)})
    stream = Stream()
    for at in range(1, number % 4 + 2):
        stream.last = (1000 + number, at)
        stream.entries[stream.last] = [b"f", b"v%d" % at]
    if number % 2:
        stream.pending = {(1000 + number, 1): [CONSUMERS[0], 1]}
        stream.delivered = (1000 + number, 1)
    return Value(stream)


CHOICES: list[Choice] = [
    xadd, xadd, xadd, xadd, xadd_explicit, xtrim, xdel, xgroup, xgroup, xreadgroup, xreadgroup,
    xreadgroup, xack, xclaim, xclaim, read, read, pfadd, pfadd, pfmerge, pfcount,
]  # fmt: skip
