# C types for mirror.py, read by Cython only.

cimport cython

from .commands.model cimport Command
from .keytable cimport Entry
from .lane cimport Lane
from .log cimport Log
from .resp.requests cimport Request
from .sent cimport SentEffect, sent_effect


@cython.final
cdef class Mirror(Log):
    cdef public object endpoint
    cdef public object side
    cdef public Py_ssize_t buffer_bytes
    cdef public object run_id
    cdef public bint is_connected
    cdef public object refusal
    cdef public Py_ssize_t divergences
    cdef public object lacks
    cdef public bint _lacks_any
    cdef public list owed_flushes
    cdef public object _bracket
    cdef public object _on_divergence
    cdef public object _loop
    cdef public Lane _lane
    cdef public object _step
    cdef public Py_ssize_t _db
    cdef object __weakref__
    # What is not hot need not be declared.
    cdef dict __dict__

    @cython.locals(first=Py_ssize_t)
    cpdef record(self, Py_ssize_t db, Command command, Request request, object places, bytes frame,
                 double sent_at, object length=*, double at=*, Entry entry=*)
    @cython.locals(lane=Lane, size=Py_ssize_t, effect=SentEffect)
    cpdef append(self, Py_ssize_t db, bytes raw, object places, object expected, object name, object moved=*,
                 double at=*)
    @cython.locals(lane=Lane, size=Py_ssize_t, effect=SentEffect)
    cpdef append_request(self, Py_ssize_t db, Request request, object places, bytes expected, object name,
                         double at, Entry entry)
    cdef bint _takes(self, Py_ssize_t db, Py_ssize_t size, object places) except -1
