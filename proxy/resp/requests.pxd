# C types for requests.py, read by Cython only.

cimport cython

from .window cimport Window, charp

cdef dict _NAMES
cdef Py_ssize_t _MAX_NAMES
cdef Py_ssize_t _MAX_NAME

cdef class Request

@cython.locals(known=bytes)
cdef bytes _upper(bytes name)
@cython.locals(made=Request, view=charp)
cdef Request _made(bytes raw, list spans)


@cython.final
@cython.freelist(256)
cdef class Request:
    cdef readonly bytes raw
    cdef readonly Py_ssize_t argc
    cdef readonly list spans
    cdef readonly bytes name

    @cython.locals(view=charp, spans=list)
    cpdef bytes arg(self, Py_ssize_t index)
    @cython.locals(view=charp, spans=list, at=Py_ssize_t)
    cpdef list args(self)


@cython.final
cdef class RequestScanner(Window):
    cdef readonly object error
    cdef object _limits
    cdef long long _max_multibulk
    cdef long long _max_bulk
    cdef Py_ssize_t _max_inline
    cdef long long _left
    cdef list _spans

    cdef void _take(self, object limits)
    @cython.locals(requests=list, window=bytes)
    cpdef list feed(self, bytes data)
    @cython.locals(size=Py_ssize_t, at=Py_ssize_t, start=Py_ssize_t, origin=Py_ssize_t,
                   after=Py_ssize_t, end=Py_ssize_t, left=cython.longlong, spans=list, view=charp)
    cdef void _scan(self, bytes data, list requests) except *
    cdef Py_ssize_t _inline(self, bytes data, Py_ssize_t at, Py_ssize_t size, list requests) except -2
    cdef void _refuse_count(self, bytes data, Py_ssize_t at, Py_ssize_t size, Py_ssize_t after) except *
    cdef void _refuse_bulk(self, bytes data, Py_ssize_t start, Py_ssize_t at, Py_ssize_t size, Py_ssize_t after) except *
