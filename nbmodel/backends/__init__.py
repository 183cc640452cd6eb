"""Running models on this machine: one engine a file, one suite of tests over all."""

from nbmodel.backends.base import Attribute, Backend, FileBackend, Known, Session
from nbmodel.backends.table import (
    BACKENDS,
    backend_name,
    backends_for,
    load_backend,
    open_session,
)

__all__ = [
    "BACKENDS",
    "Attribute",
    "Backend",
    "FileBackend",
    "Known",
    "Session",
    "backend_name",
    "backends_for",
    "load_backend",
    "open_session",
]
