"""``push``, ``pull``, ``sync`` and ``list --remote``, as words of a command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nbmodel.cli import main
from nbmodel.client import Client, default_client
from nbmodel.commands import VERBS, verbs
from nbmodel.core.remote import Remote
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.people import SIGNATURE

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Docker's registry."""
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("registry")) as found:
        yield found


@pytest.fixture
def remote(url: str, tmp_path: Path) -> str:
    """A namespace of its own, as a person writes it."""
    return str(Remote(url, f"of{abs(hash(tmp_path)) % 10**9}"))


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Run]:
    """Run the command in somebody's home: ``run("ann", "push", "digits")``."""
    homes = set()

    def run_(who: str, *words: str) -> tuple[int, str, str]:
        homes.add(who)
        monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / who))
        capsys.readouterr()
        code = main(words)
        shown = capsys.readouterr()
        return code, shown.out, shown.err

    yield run_
    for who in homes:
        monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / who))
        default_client().close()


def add(home: Path, name: str = "digits", content: bytes = b"weights") -> str:
    """Make a version; its digest."""
    client = Client(home)
    try:
        made = client.registry.add(
            name,
            {"model.onnx": content},
            framework="onnx",
            model_type="classification",
            signature=SIGNATURE,
        )
    finally:
        client.close()
    return made.digest


def test_a_model_goes_from_one_to_another(run: Run, remote: str, tmp_path: Path) -> None:
    for content in (b"one", b"two"):
        add(tmp_path / "ann", content=content)
    code, out, _ = run("ann", "push", "digits", remote)
    assert code == 0
    assert out.startswith(f"2 versions → {remote}  2 new")
    assert "nothing new" in run("ann", "push", "digits")[1]  # the only one that was used
    code, out, _ = run("ben", "pull", f"{remote}/digits:2", str(tmp_path / "out"))
    assert code == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"two"
    assert out.startswith("digits:2 — 1 file written")


def test_what_was_synchronised_is_listed_shown_and_fetched(
    run: Run, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for content in (b"one", b"two"):
        add(tmp_path / "ann", content=content)
    run("ann", "push", "digits", remote)
    mine = add(tmp_path / "ben", content=b"mine")
    monkeypatch.setenv("NBMODEL_REMOTE", remote)
    code, out, _ = run("ben", "sync")
    assert code == 0
    assert "digits was left out: " in out  # it may be another model
    assert "they have none in common" in run("ben", "push", "digits")[2]
    code, out, _ = run("ben", "sync", "digits")
    assert code == 0
    assert "they are one model now" in out
    assert "digits:1 is digits:3 now: another digits:1 was pushed to" in out
    assert "1 version" in out  # not pushed
    host = remote.partition("/")[0]
    assert f"on {host}" in run("ben", "list", "digits")[1]
    shown = run("ben", "show", "digits")[1]
    assert "digits:1 is digits:3 now" in shown
    assert json.loads(run("ben", "show", "digits:3", "--json")[1])["digest"] == mine
    assert json.loads(run("ben", "show", "digits:1", "--json")[1])["files_on"] == host
    assert run("ben", "pull", "digits:1", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out" / "model.onnx").read_bytes() == b"one"
    assert json.loads(run("ben", "show", "digits:1", "--json")[1])["files_on"] is None
    assert run("ben", "verify")[0] == 0
    # A name that is not here is looked for there.
    assert run("cat", "pull", "digits:2", str(tmp_path / "cat-out"))[0] == 0
    assert (tmp_path / "cat-out" / "model.onnx").read_bytes() == b"two"
    code, _, err = run("cat", "pull", "nothing")
    assert code == 3
    assert f"nor on {remote}" in err


def test_lists_of_a_remote_are_read_there(run: Run, remote: str, tmp_path: Path) -> None:
    add(tmp_path / "ann")
    add(tmp_path / "ann", "fruit")
    run("ann", "push", "--all", remote)
    code, out, _ = run("ben", "list", "--remote", remote, "--json")
    assert code == 0
    listed = json.loads(out)
    assert [(model["name"], model["versions"], model["here"]) for model in listed["models"]] == [
        ("digits", 1, 0),
        ("fruit", 1, 0),
    ]
    code, out, _ = run("ann", "list", "digits", "--remote")
    assert f"digits on {remote} — 1 version" in out
    assert "digits:1" in out
    assert json.loads(run("ben", "list", "--json")[1]) == []


def test_a_conflict_is_one_line_and_an_exit_code(run: Run, remote: str, tmp_path: Path) -> None:
    for who in ("ann", "ben"):
        add(tmp_path / who, content=who.encode())
        if who == "ann":
            run("ann", "push", "digits", remote)
        else:
            run("ben", "sync", "digits", remote)
    run("ann", "alias", "digits:1", "champion")
    run("ben", "alias", "digits:2", "champion")
    assert run("ann", "push", "digits", remote)[0] == 0
    code, _, err = run("ben", "push", "digits", remote)
    assert code == 4
    error, hint = err.strip().splitlines()
    assert error.startswith("error: alias 'champion' of 'digits' on")
    assert hint.startswith("hint: `sync digits`")
    assert run("ben", "push", "digits", remote, "--force")[0] == 0


def test_json_tells_what_a_push_did(run: Run, remote: str, tmp_path: Path) -> None:
    digest = add(tmp_path / "ann")
    told = json.loads(run("ann", "push", "digits:1", remote, "--json")[1])
    (version,) = told["versions"]
    assert (version["reference"], version["digest"], version["number"]) == ("digits:1", digest, 1)
    assert (told["remote"], version["was_there"], told["sent"] > 0) == (remote, False, True)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["push"], 2, "push takes a version, a model, or everything"),
        (["push", "digits", "localhost:1", "more"], 2, "found 3 words"),
        (["push", "--all", "localhost:1", "more"], 2, "expected --all and a registry"),
        (["push", "digits"], 2, "no registry was given"),
        (["push", "digits", "not-a-registry"], 2, "not a registry: 'not-a-registry'"),
        (["push", "digits", "me:secret@localhost:1"], 2, "a name or password"),
        (["push", "digits", "127.0.0.1:1"], 6, "127.0.0.1:1 does not answer"),
        (["push", "localhost:1/digits"], 2, "is in the remote registry localhost:1"),
        (["sync"], 2, "no registry was given"),
        (["sync", "127.0.0.1:1"], 6, "127.0.0.1:1 does not answer"),
        (["pull", "127.0.0.1:1/digits"], 6, "127.0.0.1:1 does not answer"),
        (["pull", "127.0.0.1:1/Digits"], 2, "not a"),
        (["list", "--remote", "127.0.0.1:1"], 6, "127.0.0.1:1 does not answer"),
        (
            ["list", "-q", "framework=onnx", "--remote", "127.0.0.1:1"],
            2,
            "a query is answered here",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_is_one_line(
    run: Run, tmp_path: Path, words: list[str], code: int, said: str
) -> None:
    add(tmp_path / "ann")
    found, _, err = run("ann", *words)
    assert found == code
    assert said in err.splitlines()[0]
    assert "secret" not in err


def test_a_word_that_reads_as_a_registry_is_one(run: Run, remote: str, tmp_path: Path) -> None:
    add(tmp_path / "ann", "a.b")
    run("ann", "push", "a.b", remote)
    assert run("ben", "sync", remote)[0] == 0
    code, out, _ = run("ben", "sync", "a.b", remote)
    assert code == 0
    assert "1 model" in out


def test_the_short_forms_mean_the_default_remote(
    run: Run, remote: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(tmp_path / "ann")
    first, second = f"{remote}/one", f"{remote}/two"
    assert json.loads(run("ann", "remote", "--json")[1]) == {"configured": None, "remotes": []}
    for place in (first, second):
        assert run("ann", "push", "digits", place)[0] == 0

    def meant() -> str:
        return str(json.loads(run("ann", "push", "digits", "--json")[1])["remote"])

    assert meant() == first
    told = json.loads(run("ann", "remote", "default", second, "--json")[1])
    assert [(one["remote"], one["models"], one["is_default"]) for one in told["remotes"]] == [
        (first, 1, False),
        (second, 1, True),
    ]
    assert meant() == second
    monkeypatch.setenv("NBMODEL_REMOTE", first)
    assert meant() == first
    assert f"{first} is meant where none is named" in run("ann", "remote")[1]
    monkeypatch.delenv("NBMODEL_REMOTE")
    assert run("ann", "remote", "forget", second)[0] == 0
    assert meant() == first
    code, _, err = run("ann", "remote", "forget", second)
    assert (code, f"known: {first}" in err) == (2, True)


def test_what_is_here_and_what_is_there_is_said(run: Run, remote: str, tmp_path: Path) -> None:
    add(tmp_path / "ann")
    run("ann", "alias", "digits:1", "champion")
    run("ann", "push", "digits", remote)
    assert f"on {remote}/digits" in run("ann", "show", "digits")[1]
    removed = run("ann", "alias", "digits", "champion", "--remove")[1]
    assert f"`push digits {remote} --alias champion` takes it away there" in removed
    assert f"`pull {remote}/digits:1` brings it back" in run("ann", "delete", "digits:1")[1]
    assert run("ann", "pull", "digits:1", str(tmp_path / "out"))[0] == 0  # from the default
    assert "nothing matches tag:fruit" in run("ann", "list", "-q", "tag:fruit")[1]
    assert run("ben", "sync", remote)[0] == 0
    verified = run("ben", "verify")[1]
    assert verified.startswith("verified  1 elsewhere")
    assert "clean" not in verified


def test_a_version_is_read_before_it_is_signed(run: Run, remote: str, tmp_path: Path) -> None:
    pytest.importorskip("cryptography", reason="pip install 'nbmodel[signing]'")
    add(tmp_path / "ann")
    run("ann", "push", "digits", remote)
    run("ben", "sync", remote)
    key = str(tmp_path / "key.pem")
    assert run("ben", "sign", "digits:1", "--make-key", key)[0] == 0
    assert json.loads(run("ben", "show", "digits:1", "--json")[1])["files_on"] is None
    code, out, _ = run("ben", "push", "digits")
    assert (code, "1 signature" in out, "nothing new" in out) == (0, True, False)
    assert "1 signature" in run("ann", "sync")[1]


def test_a_name_here_goes_with_an_address(run: Run, remote: str, tmp_path: Path) -> None:
    add(tmp_path / "ann")
    run("ann", "push", "digits", remote)
    code, out, _ = run("ben", "pull", f"{remote}/digits", "--name", "numerals")
    assert (code, out.startswith(f"numerals:1 ← {remote}")) == (0, True)
    code, _, err = run("ben", "pull", "digits", "--name", "numerals")
    assert (code, "--name goes with a registry" in err) == (2, True)
    code, out, _ = run("ben", "list", "digits", "--remote")
    assert "numerals:1" in out


@pytest.mark.parametrize("verb", ["push", "pull", "sync"])
def test_the_verbs_are_completed(verb: str) -> None:
    from click.shell_completion import ShellComplete

    group: Any = verbs("nbmodel")
    complete = ShellComplete(group, {}, "nbmodel", "_NBMODEL_COMPLETE")
    assert verb in {item.value for item in complete.get_completions([], verb[:2])}
    options = {item.value for item in complete.get_completions([verb], "--")}
    assert {"push": "--force", "pull": "--json", "sync": "--json"}[verb] in options
    assert verb in VERBS


def test_the_magic_has_them() -> None:
    result = CliRunner().invoke(verbs("%mlmodel"), ["push", "--help"])
    assert result.exit_code == 0
    assert "%mlmodel push" in result.output
