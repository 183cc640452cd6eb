"""Which pushes and uploads of a notebook go on in the background by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.background import Transfer
from nbmodel.client import Client
from nbmodel.commands import Context, push, upload, verbs
from nbmodel.display import VersionCard
from nbmodel.errors import (
    InputError,
    ModelNotFoundError,
    NbModelError,
    TargetUnreachableError,
    VersionNotFoundError,
)

WAIT_S = 60
SAMPLE = np.ones((1, 2), dtype=np.float32)


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    for job in client.transfers():
        client.background.cancel(job.id)
    client.close()


def run(client: Client, *words: str, watched: bool = True) -> Any:
    context = Context(
        client,
        evaluate=lambda text: {"rows": SAMPLE}[text],
        in_notebook=True,
        is_watched=watched,
    )
    return verbs("%mlmodel").main(list(words), obj=context, standalone_mode=False)


@pytest.mark.parametrize(
    ("large", "words", "watched", "expected"),
    [
        pytest.param(1, (), True, Transfer, id="large"),
        pytest.param(10**9, (), True, VersionCard, id="small"),
        pytest.param(1, ("--foreground",), True, VersionCard, id="not wanted"),
        pytest.param(10**9, ("--background",), True, Transfer, id="small, but wanted"),
        pytest.param(1, (), False, VersionCard, id="a terminal, or a run that nobody sees"),
        pytest.param(1, ("--sample", "rows"), True, VersionCard, id="of what cannot be kept"),
    ],
)
def test_an_upload_from_a_notebook(
    client: Client,
    linear_onnx: Path,
    large: int,
    words: tuple[str, ...],
    watched: bool,
    expected: type,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(upload, "LARGE", large)
    made = run(
        client,
        *("upload", str(linear_onnx), "--name", "lines", "--type", "regression", *words),
        watched=watched,
    )
    assert type(made) is expected
    version = made.result(WAIT_S) if isinstance(made, Transfer) else made
    assert version.reference == "lines:1"


def test_a_folder_is_as_large_as_all_that_is_in_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "one").write_bytes(bytes(300))
    (tmp_path / "a" / "b" / "two").write_bytes(bytes(50))
    assert upload._size([str(tmp_path / "a")]) == 350


@pytest.mark.parametrize(
    ("words", "error"),
    [
        pytest.param(("nosuch.onnx",), InputError, id="no such file"),
        pytest.param(("lines.onnx", "--parent", "nosuch"), ModelNotFoundError, id="no parent"),
    ],
)
def test_what_cannot_be_uploaded_is_told_before_it_goes_to_the_background(
    client: Client,
    linear_onnx: Path,
    tmp_path: Path,
    words: tuple[str, ...],
    error: type[Exception],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "lines.onnx").write_bytes(linear_onnx.read_bytes())
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error):
        run(client, "upload", *words, "--name", "lines", "--background")
    assert client.transfers() == []


@pytest.fixture
def lines(client: Client, linear_onnx: Path) -> int:
    """Bytes of a model that is there."""
    client.upload(linear_onnx, name="lines", type="regression")
    return client.registry.push_size("lines")


def test_a_large_push_from_a_notebook(
    client: Client, lines: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert lines > 100
    monkeypatch.setattr(push, "LARGE", lines)
    handle = run(client, "push", "lines", "localhost:1")
    assert isinstance(handle, Transfer)
    handle.cancel()
    for words in (["--foreground"], []):
        with pytest.raises(TargetUnreachableError):
            run(client, "push", "lines", "localhost:1", *words)
        monkeypatch.setattr(push, "LARGE", lines + 1)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        pytest.param(["nosuch"], ModelNotFoundError, id="no such model"),
        pytest.param(["lines:7"], VersionNotFoundError, id="no such version"),
        pytest.param(["lines", "--alias", "nosuch"], VersionNotFoundError, id="no alias"),
        pytest.param(["lines", "ftp://there"], NbModelError, id="no registry"),
    ],
)
def test_what_cannot_be_pushed_is_told_before_it_goes_to_the_background(
    client: Client, lines: int, words: list[str], error: type[Exception]
) -> None:
    remote = [] if len(words) > 1 and "://" in words[1] else ["localhost:1"]
    with pytest.raises(error):
        run(client, "push", words[0], *remote, *words[1:], "--background")
    assert client.transfers() == []
