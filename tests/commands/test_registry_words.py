"""``registry serve``, as its help tells it."""

from __future__ import annotations

from click.testing import CliRunner

from nbmodel.commands import verbs


def test_help_speaks_of_a_registry() -> None:
    shown = CliRunner().invoke(verbs("nbmodel"), ["registry", "serve", "--help"])
    assert shown.exit_code == 0
    for option in ("--max-connections", "--head-timeout-s", "--body-timeout-s", "--drain-s"):
        assert option in shown.output
    for word in ("runtime", "gRPC", "HTTP only"):
        assert word not in shown.output
