# C types for lane.py, read by Cython only.

cimport cython

from .fifo cimport Fifo
from .op cimport Op
from .resp.replies cimport ReplyScanner
from .resp.requests cimport Request
from .resp.window cimport charp
from .writing cimport write_all


cdef Py_ssize_t GATHER_BYTES
cdef Py_ssize_t TURN_BYTES
cdef Py_ssize_t CLOGGING_BYTES


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
    cdef public bint is_left
    cdef public bint _is_full
    cdef public bint _is_kept_back
    cdef public bint was_busy
    cdef public Fifo ops
    cdef public Py_ssize_t batches
    cdef public double heard_at
    cdef public list _out
    cdef public bytes _piece
    cdef public Py_ssize_t _piece_start
    cdef public Py_ssize_t _piece_end
    cdef public bint _is_scheduled
    cdef public double _gather_s
    cdef public Py_ssize_t _gathered
    cdef public Py_ssize_t _answered
    cdef public Py_ssize_t _mark
    cdef public bint _is_held
    cdef public bint _is_near
    cdef public double _flushed_at
    cdef public object _timer
    cdef public Op _receiving
    cdef public object _handshake
    cdef public ReplyScanner _scanner
    cdef public object _transport
    cdef public object _loop
    cdef public object _after_batch
    cdef public object _on_lost
    cdef public object _on_push
    cdef public object _on_clogged
    cdef public Py_ssize_t _high_water
    cdef public list _when_settled
    cdef public list _when_writable
    cdef public object _opening
    cdef object __weakref__
    # What is not hot need not be declared.
    cdef dict __dict__

    cpdef send(self, Op op, bytes raw)
    @cython.locals(size=Py_ssize_t)
    cpdef send_request(self, Op op, Request request)
    cpdef send_batch(self, object ops, bytes raw)
    cdef _put(self, bytes raw)
    @cython.locals(piece=bytes, view=charp)
    cdef _close_piece(self)
    cpdef _clog(self)
    cpdef _schedule(self)
    cpdef hasten(self)
    @cython.locals(frames=list, op=Op)
    cpdef data_received(self, bytes data)
    @cython.locals(ops=Fifo, frame=bytes, op=Op)
    cdef _deliver(self, list frames)
