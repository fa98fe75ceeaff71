# C types for replies.py, read by Cython only.

cimport cython

from .window cimport Window, charp


cdef bytes _OK


@cython.final
cdef class ReplyScanner(Window):
    cdef long long _left
    cdef list _outer
    cdef Py_ssize_t _max_nesting

    @cython.locals(frames=list, window=bytes)
    cpdef list feed(self, bytes data)
    @cython.locals(view=charp, size=Py_ssize_t, at=Py_ssize_t, start=Py_ssize_t, need=Py_ssize_t, after=Py_ssize_t,
                   end=Py_ssize_t, left=cython.longlong, value=cython.longlong, outer=list, byte=cython.uchar)
    cdef void _scan(self, bytes data, list frames) except *
