"""What a person is shown of an error in a notebook."""

from __future__ import annotations

import click
import pytest

from nbmodel.errors import ConfigError, InputError, ModelNotFoundError, NbModelError
from nbmodel.magics.errors import message_lines, short_errors, shorten_once


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        pytest.param(InputError("no"), ["InputError: no"], id="the message alone"),
        pytest.param(
            ModelNotFoundError("no model 'x'", hint="did you mean 'y'?"),
            ["ModelNotFoundError: no model 'x'", "Hint: did you mean 'y'?"],
            id="a message and its hint",
        ),
        pytest.param(
            ConfigError("invalid machine config, a problem: X", problems=["X"]),
            ["ConfigError: invalid machine config, a problem: X"],
            id="one problem is the message",
        ),
        pytest.param(
            ConfigError("invalid, 2 problems: X; Y", problems=["X", "Y"], hint="nothing changed"),
            ["ConfigError: invalid, 2 problems", "  - X", "  - Y", "Hint: nothing changed"],
            id="several problems are a list",
        ),
        pytest.param(ConfigError("bad"), ["ConfigError: bad"], id="a config without a list"),
    ],
)
def test_an_error_is_told_in_lines(error: NbModelError, lines: list[str]) -> None:
    assert message_lines(error) == lines


def test_an_error_is_short_once() -> None:
    error = InputError("no", hint="say yes")
    shorten_once(error)
    assert error._render_traceback_() == ["InputError: no", "Hint: say yes"]  # type: ignore[attr-defined]
    assert not hasattr(error, "_render_traceback_")


def test_an_error_that_is_raised_again_is_short_again() -> None:
    error = InputError("no")
    for _ in range(2):
        with pytest.raises(InputError), short_errors():
            raise error
        assert error._render_traceback_() == ["InputError: no"]  # type: ignore[attr-defined]


def test_wrong_words_become_an_input_error_with_the_usage() -> None:
    command = click.Command("pin", params=[click.Argument(["ref"])])
    with pytest.raises(InputError, match="Missing argument") as caught, short_errors():
        command.main([], prog_name="%mlmodel pin", standalone_mode=False)
    assert caught.value.hint == "%mlmodel pin [OPTIONS] REF"


def test_an_error_of_python_stays_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError) as caught, short_errors():
        raise ZeroDivisionError
    assert not hasattr(caught.value, "_render_traceback_")
