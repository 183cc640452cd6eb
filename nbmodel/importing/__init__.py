"""Models from where people keep them: one importer a file, and the table of them."""

from nbmodel.importing.base import MAX_BYTES as MAX_BYTES
from nbmodel.importing.base import Fetched as Fetched
from nbmodel.importing.base import Import as Import
from nbmodel.importing.base import Importer as Importer
from nbmodel.importing.base import Layout as Layout
from nbmodel.importing.base import Limits as Limits
from nbmodel.importing.bring import bring as bring
from nbmodel.importing.table import IMPORTERS as IMPORTERS
