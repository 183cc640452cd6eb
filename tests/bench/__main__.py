"""``python -m tests.bench [GROUP…]``: measure, print one table, fail when a bar is missed.

The table goes to standard output and, with every number, to ``build/bench.md`` and
``build/bench.json``.
"""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path

from tests.bench.harness import ROOT, Row, Spread, machine, table

GROUPS = (
    "imports",
    "upload",
    "disk",
    "signature",
    "registry",
    "signing",
    "writers",
    "deploy",
    "deployments",
    "transfer",
    "remotes",
    "dataplane",
    "gpu",
)


def measure(group: str) -> list[Row]:
    """The rows of one group; one that says what went wrong when it could not be measured."""
    print(f"measuring {group} …", end=" ", file=sys.stderr, flush=True)
    started = time.monotonic()
    # On the disk of the project, not in a /tmp that may be memory.
    with tempfile.TemporaryDirectory(dir=ROOT / "build", prefix="bench-") as folder:
        os.environ["NBMODEL_HOME"] = folder
        try:
            with redirect_stderr(io.StringIO()):  # progress of long uploads
                rows = list(import_module(f"tests.bench.{group}").rows(Path(folder)))
        except Exception as exc:
            traceback.print_exc()
            rows = [Row(group, Spread(()), broken=f"{type(exc).__name__}: {exc}")]
    print(f"{time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    return rows


def main(groups: Sequence[str]) -> int:
    """Measure the groups, or all; 1 when a bar is missed."""
    unknown = set(groups) - set(GROUPS)
    if unknown:
        print(f"no benchmark {', '.join(sorted(unknown))}: {', '.join(GROUPS)}", file=sys.stderr)
        return 2
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    for name in ("NBMODEL_REGISTRY", "NBMODEL_REMOTE"):
        os.environ.pop(name, None)
    where = machine()
    rows = [row for group in groups or GROUPS for row in measure(group)]
    text = f"{table(rows)}\n\nMedian (lowest–highest, n runs). {where}\n"
    (build / "bench.md").write_text(text, encoding="utf-8")
    (build / "bench.json").write_text(
        json.dumps({"machine": where, "rows": [row.to_json() for row in rows]}, indent=2),
        encoding="utf-8",
    )
    print(text)
    return 0 if all(row.passes for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
