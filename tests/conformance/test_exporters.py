"""What every exporter keeps to; and that what goes out comes back the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import CancelledError
from pathlib import Path

import numpy as np
import pytest

from nbmodel.client import Client
from nbmodel.core.signature import Signature, Tensor
from nbmodel.core.version import Version
from nbmodel.display import ExportCard
from nbmodel.errors import DigestMismatchError, InputError, NbModelError
from nbmodel.exporting import EXPORTERS
from tests.tools.viam_app import viam_app

LABELS = ("apple", "banana", "two words")
SIGNATURE = Signature(
    (Tensor("x", "FP32", (-1, 2), description="two numbers", profile="numerical"),),
    (Tensor("y", "FP32", (-1, 3), labels=LABELS),),
)
#: Exporter → options that it needs.
OPTIONS: Mapping[str, Mapping[str, str]] = {
    "viam-upload": {"organization": "f1a5"},
    "kserve": {"storage": "s3://models/fruit"},
}
#: Exporter → the address, of what it wrote, to import.
BACK: Mapping[str, Callable[[ExportCard, Path], str]] = {
    "viam": lambda card, _: str(card[0]),
    "viam-upload": lambda _, target: str(target),
    "triton": lambda _, target: str(target),
    "mlflow": lambda _, target: str(target),
}


WITH_FILES = ("viam", "viam-upload", "triton", "mlflow")
INTO_FOLDERS = ("viam", "triton", "mlflow")


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


@pytest.fixture
def version(client: Client, linear_onnx: Path) -> Version:
    """A version with everything that may be lost on the way."""
    return client.upload(
        linear_onnx,
        name="fruit/sorter.v2",
        sample=np.ones((2, 2), np.float32),
        labels=LABELS,
        signature=SIGNATURE,
        metrics={"acc": 0.9},
        metadata={"seed": 7},
        type="classification",
        description="sorts fruit",
    )


@pytest.fixture(params=EXPORTERS.builtin)
def exporter(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def target(exporter: str, tmp_path: Path) -> Iterator[str]:
    """Where it is written to: a folder, or the address of a server that keeps the package."""
    if exporter == "viam-upload":
        with viam_app(tmp_path / "app") as address:
            yield address
    else:
        yield str(tmp_path / "out")


def _export(client: Client, exporter: str, target: str, **more: object) -> ExportCard:
    options = OPTIONS.get(exporter)
    return client.export("fruit/sorter.v2", target, to=exporter, options=options, **more)  # type: ignore[arg-type]


def test_every_exporter_is_tried() -> None:
    assert {*WITH_FILES, "kserve"} == set(EXPORTERS.builtin)


def test_it_says_what_it_wrote(
    client: Client, version: Version, exporter: str, target: str
) -> None:
    card = _export(client, exporter, target)
    assert card.reference == "fruit/sorter.v2:1"
    assert card.format == exporter
    assert all(path.is_file() for path in card)
    assert card.to_json()["format"] == exporter
    assert exporter in card.text()


@pytest.mark.parametrize("exporter", WITH_FILES, indirect=True)
def test_what_goes_out_comes_back_the_same(
    client: Client, version: Version, exporter: str, target: str, tmp_path: Path
) -> None:
    card = _export(client, exporter, target)
    if exporter == "viam-upload":
        found = sorted((tmp_path / "app").rglob("*.tar.gz"))
        uri, importer = str(found[0]), "viam"
    else:
        uri, importer = BACK[exporter](card, Path(target)), None
    back = client.import_(uri, name="back", importer=importer, labels=None)
    told = [[(one.path, one.digest) for one in each.files] for each in (back, version)]
    assert told[0] == told[1]
    if exporter == "viam-upload":  # which has no place for more than the files
        assert back.signature.outputs[0].shape == version.signature.outputs[0].shape
        return
    assert back.signature == version.signature
    assert (back.model_type, back.description) == (version.model_type, version.description)
    assert dict(back.metrics) == dict(version.metrics)
    assert back.metadata["seed"] == 7
    assert back.manifest.golden == version.manifest.golden


@pytest.mark.parametrize("exporter", [*INTO_FOLDERS, "kserve"], indirect=True)
def test_equal_versions_are_written_equally(
    client: Client, version: Version, exporter: str, tmp_path: Path
) -> None:
    first, second = (_export(client, exporter, str(tmp_path / one)) for one in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("exporter", WITH_FILES, indirect=True)
def test_nothing_half_written_stays_when_it_is_cancelled(
    client: Client, version: Version, exporter: str, target: str, tmp_path: Path
) -> None:
    with pytest.raises(CancelledError):
        _export(client, exporter, target, cancelled=lambda: True)
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert left == []
    assert not list((tmp_path / "app").rglob("*.tar.gz"))


@pytest.mark.parametrize("exporter", WITH_FILES, indirect=True)
def test_damage_in_the_storage_is_found_and_nothing_is_written(
    client: Client, version: Version, exporter: str, target: str, tmp_path: Path
) -> None:
    entry = next(one for one in version.files if one.path.endswith(".onnx"))
    blob = client.registry.storage.path(entry.digest)
    content = bytearray(blob.read_bytes())
    content[50] ^= 1
    blob.chmod(0o644)
    blob.write_bytes(content)
    with pytest.raises(DigestMismatchError, match=entry.path):
        _export(client, exporter, target)
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    assert not list((tmp_path / "app").rglob("*.tar.gz"))


def test_an_option_that_it_does_not_know_is_refused(
    client: Client, version: Version, exporter: str, target: str
) -> None:
    with pytest.raises(InputError, match="has no option 'colour'"):
        client.export("fruit/sorter.v2", target, to=exporter, options={"colour": "red"})


@pytest.mark.parametrize("exporter", INTO_FOLDERS, indirect=True)
def test_a_file_in_the_way_is_one_line(
    client: Client, version: Version, exporter: str, tmp_path: Path
) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(NbModelError) as caught:
        _export(client, exporter, str(tmp_path / "out"))
    assert "\n" not in str(caught.value)
    assert (tmp_path / "out").read_text() == "a file"
