# C types for writing.py, read by Cython only.

cimport cython


cdef Py_ssize_t JOINED
cdef Py_ssize_t LARGE


@cython.locals(piece=bytes, size=Py_ssize_t)
cpdef Py_ssize_t write_all(object transport, list pieces) except -1
@cython.locals(piece=bytes, largest=Py_ssize_t, run=list, runs=list)
cpdef tuple gathered(list pieces)
