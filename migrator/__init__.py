"""The control plane and the movers of keys: phases, state, backfill, verification, the face.

Imports `proxy`; `proxy` never imports it.
"""
