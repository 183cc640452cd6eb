"""Bytes by digest: on disk, in memory, and at a registry over the network."""

from nbmodel.storage.base import BlobWriter, Storage
from nbmodel.storage.copying import Progress
from nbmodel.storage.layout import OciLayout
from nbmodel.storage.memory import MemoryStorage

__all__ = ["BlobWriter", "MemoryStorage", "OciLayout", "Progress", "Storage"]
