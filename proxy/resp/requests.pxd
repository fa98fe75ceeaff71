# C types for requests.py, read by Cython only.

cimport cython

from .window cimport Window, charp

cdef dict _NAMES
cdef Py_ssize_t _MAX_NAMES
cdef Py_ssize_t _MAX_NAME

cdef class Request

@cython.locals(known=bytes)
cdef bytes _upper(bytes name)


@cython.final
cdef class Request:
    cdef readonly bytes chunk
    cdef readonly Py_ssize_t start
    cdef readonly Py_ssize_t end
    cdef readonly Py_ssize_t argc
    cdef readonly Py_ssize_t key
    cdef readonly Py_ssize_t key_end
    cdef readonly bytes name

    @cython.locals(view=charp, size=Py_ssize_t)
    cpdef bytes cut(self)
    @cython.locals(view=charp)
    cpdef bytes arg(self, Py_ssize_t index)
    cpdef list args(self)
    @cython.locals(view=charp, at=Py_ssize_t, index=Py_ssize_t, size=Py_ssize_t, found=list)
    cdef list _take(self, Py_ssize_t first, Py_ssize_t end)


@cython.final
cdef class RequestScanner(Window):
    cdef readonly object error
    cdef object _limits
    cdef long long _max_multibulk
    cdef long long _max_bulk
    cdef Py_ssize_t _max_inline
    cdef long long _argc
    cdef long long _left
    cdef Py_ssize_t _key
    cdef Py_ssize_t _key_end
    cdef bytes _spelt
    cdef bytes _name

    cdef void _take(self, object limits)
    @cython.locals(requests=list, window=bytes)
    cpdef list feed(self, bytes data)
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, start=Py_ssize_t, origin=Py_ssize_t,
                   after=Py_ssize_t, end=Py_ssize_t, left=cython.longlong, view=charp)
    cdef void _scan(self, bytes data, list requests) except *
    @cython.locals(made=Request)
    cdef Request _made(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    cdef Py_ssize_t _inline(self, bytes data, Py_ssize_t at, Py_ssize_t size, list requests) except -2
    cdef void _refuse_count(self, bytes data, Py_ssize_t at, Py_ssize_t size, Py_ssize_t after) except *
    cdef void _refuse_bulk(self, bytes data, Py_ssize_t start, Py_ssize_t at, Py_ssize_t size, Py_ssize_t after) except *
