"""Entry of the processes that a benchmark starts; see ``harness.start_child``."""

import sys

from tests.bench.harness import call_by_name

if __name__ == "__main__":
    call_by_name(sys.argv[1])
