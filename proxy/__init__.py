"""Keyferry's data plane: a RESP proxy that keeps two stores the same.

``proxy.server.Proxy`` is the face that the control plane uses; nothing here
imports ``migrator``.
"""

from .compiled import choose_form

# Before any hot module is imported: which of its two forms is loaded is settled here.
choose_form()
