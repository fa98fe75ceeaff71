# C types for parser.py, read by Cython only.

cimport cython

from .window cimport charp

@cython.locals(view=charp, at=Py_ssize_t, size=Py_ssize_t, end=Py_ssize_t, length=Py_ssize_t,
               count=Py_ssize_t, kind=cython.uchar, text=bytes, elements=list, open_=list)
cdef object _value(bytes raw)

cdef object _close(Py_ssize_t kind, list elements)

cpdef bint is_error(bytes raw)
