# C types for tlswire.py, read by Cython only.

cimport cython


cdef Py_ssize_t RECORD
cdef Py_ssize_t LEAST
cdef Py_ssize_t PORTION


@cython.final
cdef class TlsWire:
    cdef object _loop
    cdef object _incoming
    cdef object _outgoing
    cdef object _ssl
    cdef object _make_protocol
    cdef object _read
    cdef object _write
    cdef object _feed
    cdef object _encrypted
    cdef object _send
    cdef readonly object handshaken
    cdef object _gone
    cdef object _tcp
    cdef object _protocol
    cdef bint _is_deaf
    cdef bint _has_ended
    cdef bint _is_closing
    cdef bint _has_said_goodbye
    cdef object _error
    cdef object _waiting
    cdef Py_ssize_t _waiting_size
    cdef bint _is_stalled
    cdef bint _wants_read
    cdef bint _is_paused
    cdef Py_ssize_t _high
    cdef Py_ssize_t _low
    cdef object _timer
    cdef object __weakref__

    @cython.locals(pieces=list, size=Py_ssize_t, at=Py_ssize_t)
    cpdef data_received(self, bytes data)
    @cython.locals(size=Py_ssize_t, sent=Py_ssize_t)
    cpdef write(self, object data)
    cdef Py_ssize_t _encrypt(self, object data) except -1
    @cython.locals(asked=Py_ssize_t, piece=bytes)
    cdef _take(self, object data, list pieces)
    @cython.locals(portion=Py_ssize_t, left=Py_ssize_t, sent=Py_ssize_t)
    cdef _drain(self)
    cdef _check(self)
    cdef _go_on(self)
