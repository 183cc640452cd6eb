"""``python -m nbmodel`` is the ``nbmodel`` command."""

import sys

from nbmodel.cli import main

sys.exit(main())
