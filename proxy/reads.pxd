# C types for reads.py, read by Cython only.

cimport cython


@cython.final
cdef class ReadLease:
    cdef public object place
    cdef public Py_ssize_t readers
    cdef public bint is_touched


@cython.final
cdef class ReadLeases:
    cdef public dict by_place

    @cython.locals(lease=ReadLease)
    cpdef ReadLease begin(self, object place)
    cpdef end(self, ReadLease lease)
    @cython.locals(lease=ReadLease)
    cpdef touch(self, object place)
    @cython.locals(lease=ReadLease)
    cpdef touch_all(self)
