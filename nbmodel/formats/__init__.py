"""Formats: what a model file is and what its tensors are, without the engine that runs it."""

from nbmodel.formats.base import Format, ModelFacts, distinct_names, fill_gap
from nbmodel.formats.table import FORMATS, folder_format, format_of, model_file, read_model

__all__ = [
    "FORMATS",
    "Format",
    "ModelFacts",
    "distinct_names",
    "fill_gap",
    "folder_format",
    "format_of",
    "model_file",
    "read_model",
]
