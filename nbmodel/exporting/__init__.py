"""Versions as other systems keep models: one exporter a file, and the table of them."""

from nbmodel.exporting.base import Export as Export
from nbmodel.exporting.base import Exported as Exported
from nbmodel.exporting.base import Exporter as Exporter
from nbmodel.exporting.base import check_options as check_options
from nbmodel.exporting.table import EXPORTERS as EXPORTERS
from nbmodel.exporting.table import exporter_named as exporter_named
