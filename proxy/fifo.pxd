# C types for fifo.py, read by Cython only.

cimport cython

cdef Py_ssize_t _SMALLEST
cdef Py_ssize_t _LARGEST_KEPT


@cython.final
cdef class Fifo:
    cdef list _ring
    cdef Py_ssize_t _mask
    cdef Py_ssize_t _head
    cdef Py_ssize_t _size

    cpdef list items(self)
    cpdef append(self, object item)
    cpdef extend(self, object items)
    cpdef put_back(self, list items)
    cpdef peek(self)
    @cython.locals(ring=list)
    cpdef popleft(self)
    cpdef clear(self)
    @cython.locals(room=Py_ssize_t)
    cdef _grow(self)
