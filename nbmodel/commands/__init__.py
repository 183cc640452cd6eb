"""The verbs as click commands, one file each, shared by the magic and the command line.

A command parses words, calls the client and returns the result object; it neither prints
nor knows where it was typed.
"""

from nbmodel.commands.context import Context as Context
from nbmodel.commands.table import VERBS as VERBS
from nbmodel.commands.table import verbs as verbs
