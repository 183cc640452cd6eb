"""The verbs: one table, one file each, the same everywhere."""

from __future__ import annotations

from importlib import import_module
from keyword import iskeyword
from pathlib import Path

import click
import pytest

import nbmodel
from nbmodel.client import Client
from nbmodel.commands import VERBS, verbs

FOLDER = Path(import_module("nbmodel.commands").__file__ or "").parent


def test_every_file_is_in_the_table_and_every_line_has_its_file() -> None:
    around = {"__init__", "context", "options", "table"}
    files = {path.stem for path in FOLDER.glob("*.py")} - around
    assert {module for module, _ in VERBS.values()} == files


_GROUPS = ("registry", "remote", "runtime", "viam-module")


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in _GROUPS])
def test_a_verb_is_a_method_of_the_client_and_a_name_of_the_package(verb: str) -> None:
    name = f"{verb}_" if iskeyword(verb) else verb
    assert callable(getattr(Client, name))
    assert name in nbmodel.__all__


@pytest.mark.parametrize("verb", VERBS)
def test_help_tells_what_a_verb_does(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert verbs("nbmodel").main([verb, "--help"], prog_name="nbmodel", standalone_mode=False) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: nbmodel {verb}")
    assert len(shown.splitlines()) >= 5
    assert "\\b" not in shown


def test_help_of_the_magic_has_no_word_that_only_the_command_line_knows(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for words in (["--help"], ["list", "--help"], ["runtime", "list", "--help"]):
        verbs("nbmodel").main(words, prog_name="nbmodel", standalone_mode=False)
        capsys.readouterr()
        verbs("%mlmodel").main(words, prog_name="%mlmodel", standalone_mode=False)
        assert "--json" not in capsys.readouterr().out


def test_the_group_lists_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    verbs("%mlmodel").main(["--help"], prog_name="%mlmodel", standalone_mode=False)
    shown = capsys.readouterr().out
    assert [verb for verb in VERBS if f"  {verb} " not in shown] == []


def test_an_unknown_verb_is_told_with_the_nearest() -> None:
    with pytest.raises(click.UsageError, match="unknown verb 'depoly': did you mean 'deploy'"):
        verbs("nbmodel").main(["depoly", "x"], prog_name="nbmodel", standalone_mode=False)


@pytest.mark.parametrize(
    ("words", "examples"),
    [
        (["alias"], ["nbmodel alias digits champion --remove", "nbmodel alias digits"]),
        (["deploy"], ["nbmodel deploy digits:3 --on edge          stays at version 3"]),
        (["infer"], ["nbmodel infer fruit@edge bowl.jpg", "%mlmodel infer digits@edge X_test[:4]"]),
        (["list"], ["nbmodel list", "nbmodel list digits"]),
        (["log"], ["%mlmodel log digits model --sample X_test[:8] --metric acc=0.97"]),
        (["runtime", "start"], ["%mlmodel runtime start edge"]),
        (["upload"], ["nbmodel upload mobilenet.tflite --name fruit --labels labels.txt"]),
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_examples_stay_on_lines_of_their_own(
    words: list[str], examples: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    verbs("nbmodel").main([*words, "--help"], prog_name="nbmodel", standalone_mode=False)
    shown = capsys.readouterr().out
    assert "\\b" not in shown
    assert "\b" not in shown
    assert set(examples) <= {line.strip() for line in shown.splitlines()}
