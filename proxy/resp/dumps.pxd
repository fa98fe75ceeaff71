# C types for dumps.py, read by Cython only.

cimport cython

from .window cimport charp

cdef Py_ssize_t _KEYS_PER_BRACKET
cdef Py_ssize_t _FOOTER_BYTES

cpdef bytes header(Py_ssize_t size)

@cython.locals(key=bytes, length=bytes, pieces=list, left=Py_ssize_t)
cpdef bytes ask_dumps(object keys, bint is_absolute)

@cython.locals(payloads=list, expiries=list, unsure=list, at=Py_ssize_t, index=Py_ssize_t, upto=Py_ssize_t,
               now=cython.longlong, after=cython.longlong, width=cython.longlong)
cpdef tuple split_dumps(list replies, Py_ssize_t keys, bint is_absolute, Py_ssize_t max_bracket_ms)

@cython.locals(size=Py_ssize_t, view=charp)
cpdef Py_ssize_t kind_of(bytes payload)

@cython.locals(found=list, last=Py_ssize_t, kind=Py_ssize_t, index=Py_ssize_t)
cpdef list not_plain(list payloads, list expiries, object plain, Py_ssize_t max_bytes)

@cython.locals(key=bytes, payload=bytes, kept=list, pieces=list, total=Py_ssize_t, index=Py_ssize_t,
               size=Py_ssize_t, expiry=cython.longlong, when=bytes, is_touched=bint)
cpdef tuple restores(object keys, list payloads, list expiries, object touched)

@cython.locals(count=Py_ssize_t, index=Py_ssize_t, view=charp)
cpdef Py_ssize_t plain_strings(list payloads, list expiries, Py_ssize_t type_byte)

@cython.locals(key=bytes, strings=list, kept=list, larger=list, others=list, index=Py_ssize_t)
cpdef tuple split_strings(object keys, list values, Py_ssize_t max_bytes)

@cython.locals(key=bytes, value=bytes, kept=list, pieces=list, total=Py_ssize_t, index=Py_ssize_t,
               size=Py_ssize_t, is_touched=bint)
cpdef tuple sets(object keys, list values, object touched)

@cython.locals(found=list, index=Py_ssize_t)
cpdef list unequal(list left, list right, list left_expiries, list right_expiries, Py_ssize_t last_common_type)

@cython.locals(size=Py_ssize_t, view=charp, other=charp, body=bytes, other_body=bytes)
cdef bint _are_equal(bytes a, bytes b, Py_ssize_t last_common_type)
