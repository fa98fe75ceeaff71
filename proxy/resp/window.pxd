# C types for window.py, read by Cython only.

cimport cython

ctypedef const unsigned char *charp

cdef Py_ssize_t _MAX_DIGITS
cdef Py_ssize_t _BIG


cdef class Window:
    cdef list _parts
    cdef Py_ssize_t _base
    cdef list _tail
    cdef Py_ssize_t _held
    cdef Py_ssize_t _need
    cdef long long _value
    cdef object _store
    cdef Py_ssize_t _resume
    cdef bytes _rest

    @cython.locals(is_enough=cython.bint)
    cdef bytes _gather(self, bytes data, Py_ssize_t patience)
    @cython.locals(missing=Py_ssize_t)
    cdef bytes _stored(self, bytes data, object store)
    cpdef bint is_amid(self, Py_ssize_t size) except -1
    cdef bytes _take_rest(self)
    cdef _store_all(self, bytes data, Py_ssize_t start)
    cdef void _set_aside(self, bytes data, Py_ssize_t start, Py_ssize_t at, Py_ssize_t need)
    @cython.final
    @cython.locals(raw=bytes, piece=bytes, view=charp)
    cdef bytes _whole(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.final
    @cython.locals(view=charp, start=Py_ssize_t, value=cython.longlong, digits=Py_ssize_t, byte=cython.uchar)
    cdef Py_ssize_t _header(self, bytes data, Py_ssize_t at, Py_ssize_t size)
    @cython.locals(end=Py_ssize_t, digits=bytes)
    cdef Py_ssize_t _odd_header(self, bytes data, Py_ssize_t start)
