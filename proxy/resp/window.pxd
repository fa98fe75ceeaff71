# C types for window.py, read by Cython only.

cimport cython

ctypedef const unsigned char *charp

cdef Py_ssize_t _MAX_DIGITS


cdef class Window:
    cdef list _parts
    cdef Py_ssize_t _base
    cdef list _tail
    cdef Py_ssize_t _held
    cdef Py_ssize_t _need
    cdef long long _value

    @cython.locals(is_enough=cython.bint)
    cdef bytes _gather(self, bytes data, Py_ssize_t patience)
    cdef void _set_aside(self, bytes data, Py_ssize_t start, Py_ssize_t at, Py_ssize_t need)
    @cython.final
    @cython.locals(raw=bytes, piece=bytes, view=charp)
    cdef bytes _whole(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.final
    @cython.locals(view=charp, start=Py_ssize_t, value=cython.longlong, digits=Py_ssize_t, byte=cython.uchar)
    cdef Py_ssize_t _header(self, bytes data, Py_ssize_t at, Py_ssize_t size)
    @cython.locals(end=Py_ssize_t, digits=bytes)
    cdef Py_ssize_t _odd_header(self, bytes data, Py_ssize_t start)
