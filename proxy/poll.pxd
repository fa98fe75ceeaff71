# C types for poll.py, read by Cython only.

cimport cython


cdef double SHARE
cdef double WORTH
cdef double COUNTED_S
cdef Py_ssize_t FEW


@cython.final
cdef class Poll:
    cdef public double limit_s
    cdef public Py_ssize_t turns
    cdef public Py_ssize_t clients
    cdef public Py_ssize_t seen
    cdef public Py_ssize_t epoch
    cdef public double _counted_from
    cdef public object _again
    cdef public bint _is_turning
    cdef public bint _is_stirred
    cdef public double _stirred_at
    cdef public double _since
    cdef public bint _asked
    cdef public bint _was_asked
    cdef public double _worth_of_stores
    cdef public double _worth_of_clients

    cpdef stir(self, bint by_client)
