"""What every importer keeps to, each with the same model in the kind of place that it reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from nbmodel.client import Client
from nbmodel.errors import DigestMismatchError, InputError
from nbmodel.importing import IMPORTERS, Import, download
from nbmodel.importing.table import importer_named, importer_of
from tests.tools.model_places import PLACES, Stand
from tests.tools.site import site

pytestmark = pytest.mark.unhurried


@pytest.fixture(params=PLACES)
def importer(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def uri(
    importer: str,
    tmp_path: Path,
    linear_onnx: Path,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[str]:
    """The address of the toy model in a place of the importer's."""
    monkeypatch.setattr(download, "_PAUSES_S", (0.0,))
    folder = tmp_path / "place"
    folder.mkdir()
    with site() as web:
        yield PLACES[importer](Stand(folder, linear_onnx.read_bytes(), web, request))


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    client = Client(tmp_path / "home")
    yield client
    client.close()


def test_every_importer_has_a_place() -> None:
    assert set(PLACES) == set(IMPORTERS.builtin)


def test_the_address_is_told_from_all_others(importer: str, uri: str) -> None:
    assert importer_of(uri).name == importer
    taking = [name for name in IMPORTERS.builtin if importer_named(name).takes(uri)]
    assert taking[0] == importer


def test_the_same_bytes_and_signature_come_and_where_from_is_kept(
    importer: str, uri: str, client: Client, linear_onnx: Path
) -> None:
    card = client.import_(uri, type="regression")
    assert card.model == "toy"
    (entry,) = [entry for entry in card.files if entry.path.endswith(".onnx")]
    digest = f"sha256:{hashlib.sha256(linear_onnx.read_bytes()).hexdigest()}"
    assert entry.digest == digest
    told = [
        [(one.name, one.datatype, one.shape) for one in side]
        for side in (card.signature.inputs, card.signature.outputs)
    ]
    assert told == [[("x", "FP32", (-1, 2))], [("y", "FP32", (-1, 3))]]
    origin = card.manifest.lineage.origin
    assert origin is not None
    assert origin.kind == importer
    assert origin.digest.startswith("sha256:")
    assert client.infer(card.reference, [[1.0, 1.0]])["y"].tolist() == [[15.0, 27.0, 39.0]]
    assert not list((client.home / "imports").glob("job-*"))


def test_the_same_again_makes_nothing_and_says_so(uri: str, client: Client) -> None:
    first = client.import_(uri, type="regression")
    again = client.import_(uri, type="regression")
    assert again.digest == first.digest
    assert again.notes[0] == "toy:1 is this very import already: nothing was made"
    assert len(client.registry.versions("toy")) == 1


#: Those that know how much will come before it does.
TELLING = ("hf", "url", "object-store", "mlflow")


@pytest.mark.parametrize("importer", TELLING, indirect=True)
def test_what_comes_is_told_as_it_comes(uri: str, tmp_path: Path) -> None:
    came: list[int] = []
    expected: list[int] = []
    (tmp_path / "job").mkdir()
    job = Import(tmp_path / "job", tmp_path / "parts", progress=came.append, expect=expected.append)
    fetched = importer_of(uri).fetch(uri, job)
    root = fetched.path
    files = [root] if root.is_file() else [one for one in root.rglob("*") if one.is_file()]
    assert sum(came) == sum(one.stat().st_size for one in files) == expected[0]


def test_nothing_is_made_of_what_is_cancelled(uri: str, client: Client) -> None:
    with pytest.raises(CancelledError):
        client.import_(uri, type="regression", cancelled=lambda: True)
    assert client.registry.models() == []
    assert not list((client.home / "imports").glob("job-*"))


def test_the_digest_of_an_origin_is_what_sha256_takes(uri: str, client: Client) -> None:
    first = client.import_(uri, type="regression")
    assert first.manifest.lineage.origin is not None
    digest = first.manifest.lineage.origin.digest.partition(":")[2]
    again = client.import_(uri, type="regression", sha256=digest.upper())
    assert again.digest == first.digest
    with pytest.raises(DigestMismatchError):
        client.import_(uri, name="other", type="regression", sha256="0" * 64)
    assert [model.name for model in client.registry.models()] == ["toy"]


def test_more_than_allowed_is_refused_on_one_line(uri: str, client: Client) -> None:
    with pytest.raises(InputError, match="expected at most 20") as caught:
        client.import_(uri, type="regression", max_size=20)
    assert "\n" not in str(caught.value)
    assert client.registry.models() == []
