# C types for mirror.py, read by Cython only.

cimport cython

from .append cimport AppendLog


@cython.final
cdef class Mirror(AppendLog):
    cdef public object endpoint
    cdef public object run_id
    cdef public Py_ssize_t divergences
    cdef public object _on_divergence
    cdef public object _loop
    cdef object __weakref__
    # What is not hot need not be declared.
    cdef dict __dict__
