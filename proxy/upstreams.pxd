# C types for upstreams.py, read by Cython only.

cimport cython

from .commands.model cimport Command
from .lane cimport Lane
from .plane cimport Client, Plane
from .resp.requests cimport Request
from .split cimport Split


cdef class Upstreams(Client):
    cdef public object proxy
    cdef public object user
    cdef public object resp
    cdef public object pinned
    cdef public Split split
    cdef public bint uses_lanes
    cdef public Py_ssize_t _holds
    cdef public Lane _lane
    cdef public Lane _primary
    cdef public Lane _secondary
    cdef public double _secondary_at

    cpdef hold(self)
    cpdef unhold(self)
    @cython.locals(lane=Lane, plane=Plane)
    cpdef Lane primary_lane(self)
    @cython.locals(split=Split)
    cpdef bint use(self, Lane lane) except -1
    cdef bint _takes(self, Lane lane) except -1
    @cython.locals(lane=Lane)
    cpdef bint ask(self, Request request, object kind) except -1
    @cython.locals(lane=Lane, plane=Plane, split=Split, key=bytes)
    cpdef bint read(self, Command command, Request request) except -1
    @cython.locals(lane=Lane)
    cdef Lane _reading_lane(self)
    @cython.locals(split=Split)
    cdef bint _shift(self, Lane lane, Request request, object place, object places) except -1
    @cython.locals(primary=Lane)
    cdef bint _may_split(self, Split split, Lane lane) except -1
