# C types for touches.py, read by Cython only.

cimport cython


@cython.final
cdef class Touches:
    cdef public bint is_on
    cdef public Py_ssize_t count
    cdef dict _recent
    cdef dict _older
    cdef Py_ssize_t _recent_from
    cdef Py_ssize_t _forgotten

    cpdef touch(self, object place)
    cpdef touch_all(self)
    cpdef bint has_touched(self, object place, Py_ssize_t since) except -1
