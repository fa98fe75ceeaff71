# C types for log.py, read by Cython only.

from .keytable cimport KeyTable


cdef class Log:
    cdef public KeyTable table
    cdef public Py_ssize_t lag_bytes
    cdef public Py_ssize_t lag_operations

    cpdef compare(self, object effect, bytes frame)
