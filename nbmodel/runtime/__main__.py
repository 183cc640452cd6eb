"""``python -m nbmodel.runtime``: a runtime in the foreground.

Needs nothing of the command line's packages, so an edge machine can do without them.
"""

from __future__ import annotations

import argparse
import sys

from nbmodel.errors import NbModelError
from nbmodel.runtime.server import DEFAULT_HTTP, serve


def main() -> int:
    """Run until told to end; the exit status is 1 when it cannot start."""
    parser = argparse.ArgumentParser(
        prog="python -m nbmodel.runtime", description="Run models as services, until told to end."
    )
    parser.add_argument("--config", metavar="FILE", help="machine config to start with")
    parser.add_argument(
        "--http", default=DEFAULT_HTTP, metavar="HOST:PORT", help="default %(default)s"
    )
    parser.add_argument("--home", metavar="DIR", help="where it keeps models and state")
    parser.add_argument("--name", help="what it calls itself; default: the machine's name")
    parser.add_argument(
        "--token", action="store_true", help="want a token on loopback too; off it, always"
    )
    parser.add_argument(
        "--max-input", type=int, metavar="BYTES", help="largest request; default 64 MiB"
    )
    arguments = parser.parse_args()
    try:
        serve(
            config=arguments.config,
            http=arguments.http,
            home=arguments.home,
            name=arguments.name,
            require_token=arguments.token,
            max_input=arguments.max_input,
        )
    except NbModelError as exc:
        hint = f"\nhint: {exc.hint}" if exc.hint else ""
        print(f"error: {exc}{hint}", file=sys.stderr)  # noqa: T201 # a program's message
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
