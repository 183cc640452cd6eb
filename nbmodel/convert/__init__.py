"""From live objects to edge formats: one edge a file, each checked against its golden sample."""

from nbmodel.convert.base import Converted, Converter
from nbmodel.convert.check import check_conversion
from nbmodel.convert.table import CONVERTERS, convert

__all__ = ["CONVERTERS", "Converted", "Converter", "check_conversion", "convert"]
