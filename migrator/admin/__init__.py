"""The admin face: HTTP API, metrics, dashboard."""

from migrator.admin.controller import Controller
from migrator.admin.server import AdminServer

__all__ = ["AdminServer", "Controller"]
