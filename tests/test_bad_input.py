"""Bad input: each a clear error that names the thing, and nothing changed by it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from nbmodel.client import Client
from nbmodel.errors import NbModelError
from nbmodel.fleet.known import Known

ROWS = [[1.0, 1.0]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path) -> Iterator[Client]:
    """A model ``lines`` that runs on ``edge``, which wants a token; ``away`` is nowhere."""
    client = Client(tmp_path_factory.mktemp("home"))
    client.runtimes.start("edge", require_token=True)
    known = client.runtimes._known
    known.add(Known("away", "http://127.0.0.1:9"))  # the discard port: nobody listens
    known.add(Known("locked", known.get("edge").url, token="not the token"))
    for name in ("lines", "taken"):
        client.upload(linear_onnx, name=name, type="regression")
    client.deploy("lines", on="edge")
    yield client
    client.runtimes.remove("edge")
    client.close()


@pytest.fixture
def folder(tmp_path: Path, linear_onnx: Path) -> Path:
    """Files that are not what they say."""
    content = linear_onnx.read_bytes()
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "directory.onnx").mkdir()
    (tmp_path / "model.tflite").write_bytes(content)
    (tmp_path / "half.onnx").write_bytes(content[: len(content) // 2])
    (tmp_path / "text.onnx").write_text("this is a text, not a model")
    (tmp_path / "model.pkl").write_bytes(b"\x80\x04.")
    model = onnx.load_from_string(content)
    onnx.external_data_helper.set_external_data(
        model.graph.initializer[0], location="../../etc/passwd"
    )
    (tmp_path / "escape.onnx").write_bytes(model.SerializeToString())
    return tmp_path


def _state(client: Client) -> Any:
    return (
        [version.to_json() for version in client.registry.versions(archived=True)],
        [model.to_json() for model in client.registry.models(archived=True)],
        client.registry.deployments(),
        client.registry.pins(),
        sorted(digest for digest, _, _ in client.registry.storage.digests()),
        client.runtimes.config("edge"),
        client.infer("lines@edge", ROWS)["y"].tolist(),
    )


def _upload(name: str) -> Callable[[Client, Path], object]:
    return lambda client, folder: client.upload(folder / name, name="new", type="other")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        pytest.param(_upload("empty.onnx"), r"empty\.onnx.*empty", id="an empty file"),
        pytest.param(_upload("directory.onnx"), r"directory\.onnx is empty", id="a directory"),
        pytest.param(_upload("model.tflite"), r"model\.tflite.*content is onnx", id="wrong suffix"),
        pytest.param(_upload("model.pkl"), r"model\.pkl: not a known model", id="no known format"),
        pytest.param(_upload("half.onnx"), r"half\.onnx", id="a truncated model"),
        pytest.param(_upload("text.onnx"), r"text\.onnx", id="a text called .onnx"),
        pytest.param(_upload("escape.onnx"), r"escape\.onnx.*passwd", id="data outside"),
        pytest.param(_upload("absent.onnx"), r"no such file.*absent", id="no file"),
        pytest.param(
            lambda client, folder: client.upload(folder / "half.onnx", name="x" * 10_000),
            "model name of 10000 characters",
            id="a name of 10,000 characters",
        ),
        pytest.param(
            lambda client, _: client.rename("lines", "taken"),
            "'taken'",
            id="a name that exists",
        ),
        pytest.param(
            lambda client, _: client.alias("lines:1", "12"),
            "alias: '12' reads as a version",
            id="an alias that is a number",
        ),
        pytest.param(
            lambda client, _: client.alias("lines:1", "latest"),
            "'latest' is reserved",
            id="an alias that moves by itself",
        ),
        pytest.param(
            lambda client, _: client.pin("lines:9"),
            "no version 9 of 'lines'",
            id="a version that is not there",
        ),
        pytest.param(
            lambda client, _: client.deploy("lines", on="away"),
            "cannot reach runtime 'away' at http://127.0.0.1:9",
            id="an unreachable runtime",
        ),
        pytest.param(
            lambda client, _: client.deploy("lines", on="locked"),
            "locked.*token",
            id="a wrong token",
        ),
        pytest.param(
            lambda client, _: client.deploy("lines", on="edge", service="a b"),
            'not a service name: "a b"',
            id="a service name with a space",
        ),
        pytest.param(
            lambda client, _: client.runtimes.set_config("edge", {"services": [{"name": 1}]}),
            "name",
            id="a machine config that is none",
        ),
        pytest.param(
            lambda client, _: client.infer("lines@edge", {"z": ROWS}),
            "unexpected input 'z'",
            id="a wrong tensor name",
        ),
        pytest.param(
            lambda client, _: client.infer("lines@edge", [[1.0, 2.0, 3.0]]),
            r"input 'x' has shape \[-1, 2\], found \[1, 3\]",
            id="a wrong shape",
        ),
        pytest.param(
            lambda client, _: client.infer("lines@edge", np.array([["a", "b"]])),
            "input 'x' is FP32, found BYTES",
            id="a wrong datatype",
        ),
        pytest.param(
            lambda client, _: client.upload(
                folder_of_labels(client), name="lines", labels={"a": 0, "b": 0}
            ),
            "0",
            id="two labels of one index",
        ),
        pytest.param(
            lambda client, _: client.delete("lines:1"), "edge", id="deleting what runs somewhere"
        ),
    ],
)
def test_bad_input_is_named_and_changes_nothing(
    client: Client, folder: Path, act: Callable[[Client, Path], object], message: str
) -> None:
    before = _state(client)
    with pytest.raises(NbModelError, match=message) as caught:
        act(client, folder)
    assert "\n" not in str(caught.value)
    assert _state(client) == before


def folder_of_labels(client: Client) -> Path:
    """The model file of ``lines:1``, pulled."""
    target = client.home / "pulled"
    (path,) = client.pull("lines:1", target)
    return path
