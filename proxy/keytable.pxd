# C types for keytable.py, read by Cython only.

cimport cython

from .op cimport Op
from .touches cimport Touches

cdef Py_ssize_t RELEASED

cpdef object place_of(object db, bytes key)


@cython.final
cdef class Entry:
    cdef public object lane
    cdef public Py_ssize_t in_flight
    cdef public Py_ssize_t unapplied
    cdef public object queue
    cdef public bint head_is_granted


cdef class Ticket(Op):
    cdef public Entry entry
    cdef public object lane
    cdef public object places
    cdef public Py_ssize_t waiting

    cpdef go(self)


cdef class Lease:
    cdef public KeyTable table
    cdef public object places
    cdef public set touched


cdef class KeyTable:
    cdef public dict entries
    cdef public dict leases
    cdef public Touches touches
    cdef public dict unproven
    cdef public dict _owed
    cdef public dict _swapped
    cdef public Py_ssize_t unproven_limit
    cdef public bint is_everything_unproven
    cdef public bint has_overflowed
    cdef public Py_ssize_t generation
    cdef public Py_ssize_t unapplied_everywhere
    cdef public object on_owed
    cdef public Py_ssize_t active
    cdef public bint is_closed
    cdef public object _on_idle
    cdef public object _ready
    cdef public bint _is_waking
    cdef public object _at_the_gate
    cdef public Py_ssize_t _copy_number

    @cython.locals(entry=Entry, entries=dict, waiting=Py_ssize_t, found=list)
    cpdef bint acquire(self, Ticket ticket) except -1
    @cython.locals(entry=Entry, entries=dict, ready=list)
    cpdef release(self, Ticket ticket)
    cdef _go_idle(self)
    cdef _wake(self, list ready)
    @cython.locals(work=list, each=Entry, head=Ticket)
    cdef _advance(self, Entry entry, list ready)
    @cython.locals(entry=Entry)
    cdef _dispatch(self, Ticket ticket, list found)
    @cython.locals(lease=Lease)
    cpdef touch(self, object place)
    cpdef bint is_settled(self, object place) except -1
    cpdef bint are_settled(self, object places) except -1
    @cython.locals(entry=Entry, entries=dict)
    cpdef appended(self, object places)
    cpdef applied_one(self, object place, Entry entry)
    @cython.locals(entry=Entry, entries=dict)
    cpdef applied(self, object places)
    cpdef bint drops(self, object places) except -1
    cpdef mark_unproven(self, object place)
