# C types for counts.py, read by Cython only.

cimport cython


@cython.final
cdef class Tally:
    cdef public Py_ssize_t reads
    cdef public Py_ssize_t writes
    cdef public Py_ssize_t others

    cpdef add(self, object kind, Py_ssize_t times)
    cpdef Py_ssize_t total(self) except -1


@cython.final
cdef class Histogram:
    cdef public tuple bounds
    cdef public list counts
    cdef public double total

    @cython.locals(at=Py_ssize_t, bound=double)
    cpdef observe(self, double value, Py_ssize_t times=*)
