# C types for split.py, read by Cython only.

cimport cython

from .fifo cimport Fifo
from .op cimport Op
from .plane cimport Client
from .resp.requests cimport Request
from .touches cimport Touches


cdef Py_ssize_t WEIGHED_EACH

cdef class Split


cdef class SplitRead(Op):
    cdef public Split split
    cdef public Request request
    cdef public bytes frame
    cdef public object place
    cdef public object places
    cdef public Py_ssize_t since

    @cython.locals(split=Split)
    cpdef reply(self, bytes frame)
    cdef bint is_shifted(self)
    @cython.locals(split=Split, touches=Touches)
    cdef bint is_doubtful(self) except -1


@cython.final
cdef class Split:
    cdef public Client client
    cdef public Fifo reads
    cdef public Py_ssize_t size
    cdef public Py_ssize_t most
    cdef public Py_ssize_t held
    cdef Py_ssize_t _weighed
    cdef public Touches touches

    @cython.locals(read=SplitRead)
    cpdef SplitRead ask(self, Request request)
    @cython.locals(read=SplitRead)
    cpdef SplitRead shift(self, Request request, object place, object places)
    cdef answered(self, SplitRead read, bytes frame)
    @cython.locals(client=Client, reads=Fifo, read=SplitRead, frame=bytes)
    cpdef deliver(self)
    @cython.locals(client=Client, old=list, read=SplitRead, each=SplitRead)
    cdef _ask_again(self)
    @cython.locals(reads=list, read=SplitRead)
    cpdef clear(self)
