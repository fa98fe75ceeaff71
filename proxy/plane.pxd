# C types for plane.py, read by Cython only.

cimport cython

from .append cimport AppendLog
from .commands.model cimport Lookup
from .counts cimport Histogram, Tally
from .keytable cimport KeyTable
from .lane cimport Lane
from .op cimport Op
from .poll cimport Poll


cdef class Client(Op)


cdef class Plane:
    cdef public Lookup commands
    cdef public object primary
    cdef public KeyTable table
    cdef public AppendLog mirror
    cdef public object stats
    cdef public list tallies
    cdef public list seconds
    cdef public list dirty
    cdef public Py_ssize_t read_percent
    cdef public bint splits_reads
    cdef public object now
    cdef public Poll poll
    cdef public dict waiting

    @cython.locals(hashed=cython.ulong, is_targets=cython.bint)
    cpdef bint shifts(self, bytes key) except -1
    @cython.locals(dirty=list, client=Client)
    cpdef flush_dirty(self)


cdef class Client(Op):
    cdef public Plane plane
    cdef public Py_ssize_t db
    cdef public list out
    cdef public Py_ssize_t outstanding
    cdef public bint is_dirty
    cdef public bint is_silent
    cdef public double ran_at
    cdef public double sample_at
    cdef public object sample_side
    cdef public object sample_kind

    @cython.locals(tally=Tally)
    cpdef count(self, object side, object kind, Py_ssize_t times=*)
    @cython.locals(at=cython.double, seconds=Histogram)
    cpdef observe(self, Lane lane)
    cpdef soil(self)
    cpdef kept_back(self)
    cpdef flush(self)
