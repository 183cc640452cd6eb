"""Names of files in a model of a Triton model repository.

Source: Triton's "Model Repository".
"""

from __future__ import annotations

CONFIG = "config.pbtxt"
RECORD = "nbmodel-{}.json"  # of the version with that number; none of Triton's
