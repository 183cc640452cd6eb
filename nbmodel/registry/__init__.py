"""Models, versions, aliases, pins, search and lineage: an SQLite index over a storage."""

from nbmodel.registry.aliases import UNSET, Unset
from nbmodel.registry.gc import GcReport
from nbmodel.registry.registry import Registry
from nbmodel.registry.removal import Deleted
from nbmodel.registry.verify import Problem, VerifyReport

__all__ = ["UNSET", "Deleted", "GcReport", "Problem", "Registry", "Unset", "VerifyReport"]
