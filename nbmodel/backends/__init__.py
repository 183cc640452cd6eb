"""Running models on this machine: one engine a file, one suite of tests over all."""

from nbmodel.backends.base import Attribute, Backend, Session
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
    "Session",
    "backend_name",
    "backends_for",
    "load_backend",
    "open_session",
]
