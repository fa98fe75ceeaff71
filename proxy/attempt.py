"""A try for one or more waiting clients: MULTI, their commands, EXEC, under a ticket.

Owns what is sent of it and what follows from its replies. Inside MULTI nothing waits, and what
EXEC answers are the server's own bytes. A user who may not run MULTI has its commands executed as
they are: with the shortest timeout.

A client is tried for by one at a time: an attempt that names a client which an earlier one
names too waits for the outcome of that. The earlier one has a smaller ticket, so there is no cycle.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from .blocked import NULLS
from .commands.blocking import (
    ANYTHING,
    ONE_ELEMENT,
    Verdict,
    Waits,
    is_about_types,
    judge,
    of_last_id,
    with_last_ids,
)
from .keytable import Place, Ticket, db_and_key
from .lane import Lane
from .ops import Reaction
from .places import places_of, written_places
from .resp import Request, encode_command, parse
from .resp.encoder import OK, QUEUED
from .sent import ERROR_BYTES, EXEC, MULTI, is_executed, split_array
from .waiter import Waiter

if TYPE_CHECKING:
    from .blocking import Parking
    from .session import Session


class Part(NamedTuple):
    """One client of an attempt: its request, and what is asked in front of it.

    is_blind: its user may not ask.
    """

    waiter: Waiter
    request: Request
    questions: Sequence[bytes] = ()
    is_blind: bool = False


class Attempt(Ticket):
    """See the module's docstring.

    place: which of the places has been written; None: it is the first try of a new client.
    limit: how many clients of one slot it can serve (None: nobody knows); more are named where
    some may be served before it goes. is_sure: unless the write fails there is something for all.
    chained: whose moves somebody is tried for right behind it.
    """

    __slots__ = (
        "_frames", "_has_gone", "_held", "_is_done", "_run", "_sent_at", "_skipped",
        "chained", "is_sent", "is_sure", "limit", "parking", "parts", "place",
    )  # fmt: skip

    def __init__(
        self,
        parking: Parking,
        parts: Sequence[Part],
        place: Place | None,
        *,
        is_alone: bool = False,
        limit: int | None = None,
        is_sure: bool = False,
    ) -> None:
        self.parking = parking
        self.parts = list(parts)
        self.place = place
        self.limit = limit
        self.is_sure = is_sure
        self.is_sent = False
        self.chained: set[Waiter] = set()
        places: dict[Place, None] = {}
        for waiter, request, *_ in parts:
            places.update(dict.fromkeys(places_of(waiter.db, waiter.command, request)))
            waiter.claims.append(self)
        self.places = tuple(places)
        self.lane = self if is_alone else parts[0].waiter.session.primary_lane()
        self._has_gone = False
        self._is_done = False
        self._run: list[Part] = []
        self._frames: list[bytes] = []
        self._sent_at = 0.0
        self._skipped = False
        self._held: list[Session] = []

    def start(self) -> None:
        """Queue it, and send it if it may go now."""
        if self.parking.proxy.table.acquire(self):
            self.go()

    def go(self) -> None:
        self._has_gone = True
        self.proceed()

    def keep(self, session: Session) -> None:
        """Hold the client whose write this follows until it is done."""
        session.hold()
        self._held.append(session)

    def proceed(self) -> None:
        """Send it, if it may go and no earlier attempt for one of its clients is under way."""
        if not self._has_gone or self.is_sent or self._is_done:
            return
        if any(part.waiter.is_gone for part in self.parts):
            # What they leave is for the next ones.
            self._skipped = True
            self.parts = [part for part in self.parts if not part.waiter.is_gone]
        if any(part.waiter.claims[0] is not self for part in self.parts):
            return
        rest = self._cut()
        if self.parts:
            self._send()
        else:
            self._finish()
        self._drop(rest)

    def _cut(self) -> list[Part]:
        """No more of a slot than can be served; returns the rest."""
        if self.limit is None or len(self.parts) <= self.limit:
            return []
        taken: dict[object, int] = {}
        rest: list[Part] = []
        parts, self.parts = self.parts, []
        for part in parts:
            slot = part.waiter.slot
            taken[slot] = taken.get(slot, 0) + 1
            (self.parts if taken[slot] <= self.limit else rest).append(part)
        return rest

    def _drop(self, parts: Sequence[Part]) -> None:
        for part in parts:
            part.waiter.release(self)
        for part in parts:
            self.parking.later(part.waiter)

    # -- sending -------------------------------------------------------------------------------

    def _send(self) -> None:
        """What goes on one lane at once: all, unless they are of several users or protocols."""
        first = self.parts[0]
        self.is_sent = True
        if first.is_blind and self.place is None and of_last_id(first.request):
            self._ask_the_store(first)
            return
        lane: Lane = first.waiter.session.primary_lane()
        run = self._run = []
        while self.parts and self.parts[0].waiter.session.primary_lane() is lane:
            run.append(self.parts.pop(0))
        words = [MULTI]
        for part in run:
            words += part.questions
            words.append(part.request.raw)
        words.append(EXEC)
        self._frames = []
        self._sent_at = self.parking.proxy.now()
        lane.send_batch([self] * len(words), b"".join(words))

    def _ask_the_store(self, part: Part) -> None:
        """The last ids of its streams, asked with the rights of the connection string."""
        proxy = self.parking.proxy
        questions = [encode_command(b"XINFO", b"STREAM", key) for key in of_last_id(part.request)]
        frames: list[bytes | None] = []

        def answered(frame: bytes | None) -> None:
            frames.append(frame)
            if len(frames) < len(questions) + 2 or self._is_done:
                return
            self.is_sent = False
            answers = [each for each in frames[1:-1] if each is not None]
            if len(answers) == len(questions):
                part.waiter.know_last_ids(with_last_ids(part.waiter.request, answers))
                self.parts[0] = part._replace(request=part.waiter.short)
                self.proceed()
            else:
                self.is_sent = True
                self._run = [self.parts.pop(0)]
                self.lost()

        there = encode_command(b"SELECT", b"%d" % part.waiter.db)
        back = encode_command(b"SELECT", b"0")
        lane = proxy.admin_lane(proxy.primary)
        raw = b"".join((there, *questions, back))
        lane.send_batch([Reaction(answered)] * (len(questions) + 2), raw)

    def reply(self, frame: bytes) -> None:
        self._frames.append(frame)
        run = self._run
        expected = 2 + sum(1 + len(part.questions) for part in run)
        if len(self._frames) < expected:
            return
        frames, self._frames = self._frames, []
        self.is_sent = False
        try:
            self._answered(_answers(frames))
        except Exception:
            # The lane ends behind a defect of ours, and tells us so.
            self._run = run
            self.is_sent = True
            raise

    def lost(self) -> None:
        if not self.is_sent:  # Told once for each time that it stands in the FIFO.
            return
        self.is_sent = False
        proxy = self.parking.proxy
        run, self._run = self._run, []
        for waiter, request, *_ in run:
            if waiter.command.writes and proxy.mirror is not None:
                for place in written_places(waiter.db, waiter.command, request):
                    proxy.table.mark_unproven(place)
        rest, self.parts = self.parts, []
        self._skipped = True
        self._finish()
        for part in run:
            part.waiter.lost()
        self._drop(rest)

    # -- answers -------------------------------------------------------------------------------

    def _answered(self, answers: Sequence[bytes | None]) -> None:
        run, self._run = self._run, []
        served: list[tuple[Waiter, bytes]] = []
        moved: list[Place] = []
        again: list[Part] = []
        anew: list[Part] = []
        at = 0
        for part in run:
            end = at + len(part.questions)
            questions, frame = answers[at:end], answers[end]
            at = end + 1
            once_more = None
            if frame is None:
                once_more = self._without_what_was_refused(part, questions)
            elif frame in NULLS:
                self._missed(part, questions)
            elif frame[0] in ERROR_BYTES:
                once_more = self._failed(part, frame, questions, served)
            else:
                self._record(part, frame)
                served.append((part.waiter, frame))
                moved += self._led_to(part)
            if once_more is None:
                part.waiter.release(self)
            elif once_more.is_blind and self.place is None and not part.is_blind:
                # What is asked of the store must not be overtaken by what is on the lane.
                part.waiter.release(self)
                anew.append(once_more)
            else:
                again.append(once_more)
        for waiter, _ in served:
            waiter.finish()
        self.parts = again + self.parts
        if self.parts:
            self._send()
        else:
            self._end()
        if moved:
            self.parking.wrote(moved, ONE_ELEMENT, self._held)
        if self._is_done:
            self._let_go()
        for waiter, frame in served:
            waiter.answer(frame)
        for part in anew:
            self.parking.begin_again(part)
        for waiter in [part.waiter for part in run if part.waiter.is_parked]:
            self.parking.later(waiter)

    def _record(self, part: Part, frame: bytes) -> None:
        waiter, request, *_ = part
        mirror = self.parking.proxy.mirror
        if mirror is not None and waiter.command.writes:
            places = places_of(waiter.db, waiter.command, request)
            mirror.record(waiter.db, waiter.command, request, places, frame, self._sent_at)

    def _led_to(self, part: Part) -> list[Place]:
        """Where its element is now, if nobody has been tried for behind it."""
        to = part.waiter.destination
        return [] if to is None or part.waiter in self.chained else [to]

    def _missed(self, part: Part, questions: Sequence[bytes | None]) -> None:
        waiter = part.waiter
        if waiter.form.waits is Waits.GROUP:
            # It may have made the consumer: a later try, too, on another store or anew.
            self._record(part, b"*-1\r\n")
        if self.place is not None:
            return
        if questions:
            known = [question for question in questions if question is not None]
            waiter.know_last_ids(with_last_ids(waiter.request, known))
        waiter.wait(self._sent_at)

    def _failed(
        self,
        part: Part,
        frame: bytes,
        questions: Sequence[bytes | None],
        served: list[tuple[Waiter, bytes]],
    ) -> Part | None:
        """An error: the client's answer, or it waits on. Returns what has to be sent again."""
        waiter = part.waiter
        if self.place is None:
            if frame.startswith(b"-ERR unknown") and part.request is not waiter.request:
                # The error shows the arguments: as the client sent them.
                return part._replace(request=waiter.request)
            served.append((waiter, frame))
            return None
        type_name = None if not questions or questions[0] is None else parse(questions[0])
        verdict, frame = judge(waiter.form, part.request, self.parking.engine, frame, type_name)
        if verdict is Verdict.LATER:
            self.parking.retry_in_a_while(waiter, self.place)
        if verdict is Verdict.ANSWERED:
            # It has taken nothing: what is there is for the next ones.
            self._skipped = True
            served.append((waiter, frame))
        return None

    def _without_what_was_refused(self, part: Part, questions: Sequence[bytes | None]) -> Part:
        """The block was not executed, for something else was refused: once more without that."""
        if all(question is None for question in questions):
            return part
        if self.place is not None:
            self.parking.blind.add(part.waiter.session.user)
        return part._replace(questions=(), is_blind=True)

    def _finish(self) -> None:
        self._end()
        self._let_go()

    def _end(self) -> None:
        self._is_done = True
        self.parking.proxy.table.release(self)
        if self._skipped and self.place is not None:
            left = ANYTHING._replace(most=self.limit)
            self.parking.wrote((self.place,), left, self._held)

    def _let_go(self) -> None:
        held, self._held = self._held, []
        for session in held:
            session.unhold()


def later_part(waiter: Waiter, place: Place) -> Part:
    """A try of a client that waits, behind a write of this place."""
    _, key = db_and_key(place)
    engine = waiter.parking.engine
    request = waiter.request_for(key)
    is_blind = waiter.session.user in waiter.parking.blind
    if is_blind or not is_about_types(waiter.form, request, engine):
        return Part(waiter, request)
    return Part(waiter, request, (encode_command(b"TYPE", key),))


def first_part(waiter: Waiter) -> Part:
    """The first try of a client, with what its later ones need to know."""
    keys = of_last_id(waiter.request)
    return Part(waiter, waiter.short, [encode_command(b"XINFO", b"STREAM", key) for key in keys])


def _answers(frames: Sequence[bytes]) -> Sequence[bytes | None]:
    """What each command between MULTI and EXEC was answered; None: it was not executed."""
    if frames[0] != OK:
        return frames[1:-1]
    if is_executed(frames[-1]):
        return split_array(frames[-1])
    if all(frame == QUEUED for frame in frames[1:-1]):
        return [frames[-1]] * (len(frames) - 2)
    # What was wrong is said where it was queued; EXEC only says that something was.
    return [None if frame == QUEUED else frame for frame in frames[1:-1]]
