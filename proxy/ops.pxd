# C types for ops.py, read by Cython only.

cimport cython

from .commands.model cimport Command
from .keytable cimport Ticket
from .lane cimport Lane
from .op cimport Op
from .plane cimport Client, Plane
from .resp.requests cimport Request


cdef class Reaction(Op):
    cdef public object callback


cdef class Write(Ticket):
    cdef public Client session
    cdef public Py_ssize_t db
    cdef public Command command
    cdef public Request request
    cdef public double sent_at

    cpdef begin(self, Client session, Lane lane, Command command, Request request, object places,
                double sent_at)
    @cython.locals(lane=Lane)
    cpdef dispatch(self)
    @cython.locals(plane=Plane, lane=Lane)
    cpdef reply(self, bytes frame)


cdef class Trim(Write):
    cdef public object probe
    cdef public object frame


cdef class Barrier(Op):
    cdef public object session
    cdef public object lane
    cdef public Py_ssize_t db
    cdef public object command
    cdef public object request
