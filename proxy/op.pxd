# C types for op.py, read by Cython only.


cdef class Op:
    cpdef reply(self, bytes frame)
    cpdef lost(self)
