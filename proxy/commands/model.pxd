# C types for model.py, read by Cython only.

cimport cython

from ..resp.requests cimport Request


cdef class Command:
    cdef public object _other_db
    cdef readonly object _probe
    cdef public object _unknown_keys
    cdef public Py_ssize_t arity
    cdef public object effect
    cdef public object error
    cdef public object kind
    cdef public bint may_shift
    cdef public bint moves_data
    cdef public object name
    cdef public object needs
    cdef public object note
    cdef public object resolve
    cdef public bint single_key
    cdef public object spec
    cdef public Py_ssize_t verbatim_argc
    cdef public bint writes
    cdef public bint writes_on_error

    cpdef bint fits(self, Py_ssize_t argc) except -1
    cpdef bint unknown_keys(self, Request req) except -1
    cpdef object probe(self, Request req)


cdef class Lookup:
    cdef public dict _commands

    @cython.locals(command=Command)
    cpdef Command lookup(self, Request req)
