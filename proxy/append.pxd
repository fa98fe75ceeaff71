# C types for append.py, read by Cython only.

cimport cython

from .commands.model cimport Command
from .keytable cimport Entry
from .lane cimport Lane
from .log cimport Log
from .resp.requests cimport Request
from .sent cimport SentEffect, sent_effect


cdef class AppendLog(Log):
    cdef public object side
    cdef public Py_ssize_t buffer_bytes
    cdef public bint is_connected
    cdef public object lacks
    cdef public bint _lacks_any
    cdef public object copied_instead
    cdef public list owed_flushes
    cdef public object refusal
    cdef public object noted
    cdef public object _bracket
    cdef public Lane _lane
    cdef public object _step
    cdef public Py_ssize_t _db
    cdef public Py_ssize_t _db_before
    cdef public object _databases

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
    cpdef bint _select(self, Lane lane, Py_ssize_t db) except -1
    cpdef _copy_instead(self, object name)
    cpdef _mark_written(self, Py_ssize_t db, Command command, Request request)
