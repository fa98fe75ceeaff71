# C types for sent.py, read by Cython only.

cimport cython

from .keytable cimport Entry
from .log cimport Log
from .op cimport Op


@cython.final
cdef class SentEffect(Op):
    cdef public Log mirror
    cdef public object places
    cdef public bytes expected
    cdef public Entry entry
    cdef public object moved
    cdef public object name
    cdef public Py_ssize_t size
    cdef public double at


@cython.locals(effect=SentEffect)
cpdef SentEffect sent_effect(Log mirror, object places, bytes expected, object name,
                             Py_ssize_t size, double at, object moved=*)


cdef class SentSelect(Op):
    cdef public object mirror
    cdef public Py_ssize_t db
    cdef public double at


cdef class SentBlock(Op):
    cdef public object effects
    cdef public double at
    cdef public Py_ssize_t index
    cdef public object refusal


cdef class SentFlush(Op):
    cdef public object mirror
    cdef public object db
    cdef public double at


cdef class SentSwap(Op):
    cdef public object mirror
    cdef public double at


cdef class SentCopies(Op):
    cdef public object mirror
    cdef public object places
    cdef public Py_ssize_t number
    cdef public object owners
    cdef public Py_ssize_t size
    cdef public Py_ssize_t total
    cdef public Py_ssize_t index
    cdef public double at
    cdef public object errors
    cdef public object pieces
    cdef public object future


cdef class SentStrings(SentCopies):
    pass
