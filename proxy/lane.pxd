# C types for lane.py, read by Cython only.

cimport cython

from .op cimport Op
from .resp.replies cimport ReplyScanner


cdef class Call(Op):
    cdef public object at
    cdef public object future


@cython.final
cdef class Lane:
    cdef public object endpoint
    cdef public object side
    cdef public object user
    cdef public Py_ssize_t db
    cdef public object resp
    cdef public object name
    cdef public object client_id
    cdef public object local_address
    cdef public object failure
    cdef public bint is_ready
    cdef public bint is_lost
    cdef public bint is_paused
    cdef public bint was_busy
    cdef public object ops
    cdef public Py_ssize_t batches
    cdef public double heard_at
    cdef public list _out
    cdef public bint _is_scheduled
    cdef public object _handshake
    cdef public ReplyScanner _scanner
    cdef public object _transport
    cdef public object _loop
    cdef public object _after_batch
    cdef public object _on_lost
    cdef public object _on_push
    cdef public Py_ssize_t _high_water
    cdef public list _when_settled
    cdef public list _when_writable
    cdef public object _opening
    cdef object __weakref__
    # What is not hot need not be declared.
    cdef dict __dict__

    cpdef send(self, Op op, bytes raw)
    cdef _schedule(self)
    cpdef send_batch(self, object ops, bytes raw)
    @cython.locals(frames=list, frame=bytes, op=Op)
    cpdef data_received(self, bytes data)
