# C types for session.py, read by Cython only.

cimport cython

from .commands.model cimport Command
from .fifo cimport Fifo
from .keytable cimport KeyTable
from .lane cimport Lane
from .ops cimport Write
from .plane cimport Plane
from .poll cimport Poll
from .resp.requests cimport Request, RequestScanner
from .split cimport Split
from .upstreams cimport Upstreams
from .writing cimport write_all


@cython.final
cdef class Session(Upstreams):
    cdef public object id
    cdef public object transport
    cdef public Fifo backlog
    cdef public object mode
    cdef public object borrowed
    cdef public bint is_closed
    cdef public bint may_pass
    cdef public RequestScanner scanner
    cdef public bint _is_running
    cdef public double heard_at
    cdef public Command last
    cdef public Py_ssize_t seen_in
    cdef public bint _is_slow
    cdef public bint _is_reading
    cdef public Py_ssize_t unsent
    cdef public Py_ssize_t _largest
    cdef public bint has_hung_up
    cdef public object _protocol_error
    cdef object __weakref__
    # What is not hot need not be declared.
    cdef dict __dict__

    @cython.locals(requests=list, last=Request, poll=Poll)
    cpdef data_received(self, bytes data)
    @cython.locals(table=KeyTable, request=Request, has_gone=cython.bint, backlog=Fifo)
    cpdef run(self)
    cpdef _at_rest(self)
    @cython.locals(wants_more=cython.bint)
    cpdef regulate(self)
    @cython.locals(command=Command, plane=Plane)
    cpdef bint dispatch(self, Request request) except -1
    @cython.locals(lane=Lane, op=Write, plane=Plane)
    cpdef bint _write_command(self, Command command, Request request) except -1
    cpdef bint _awaits_rest(self) except -1
    @cython.locals(out=list)
    cpdef _write(self)
