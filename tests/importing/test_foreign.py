"""Artifacts of other tools, put into a real registry as their specifications say, and pulled.

Sources: KitOps, ``pkg/lib/constants/mediatype`` and its documentation of ``kit inspect``;
docker/model-distribution, ``types/config.go``, and ``internal/bundle/unpack.go`` for names;
CNCF ModelPack model-spec, ``docs/spec.md`` and ``docs/annotations.md``.
"""

from __future__ import annotations

import gzip
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nbmodel.client import Client
from nbmodel.core.artifact import Artifact
from nbmodel.core.foreign import is_foreign, parts_of
from nbmodel.core.manifest import FILEPATH, MANIFEST_TYPE
from nbmodel.core.reference import Reference
from nbmodel.core.remote import Remote
from nbmodel.errors import FormatError, InputError, ManifestError, NbModelError
from nbmodel.importing.foreign import unpacking
from nbmodel.registry import Registry
from nbmodel.registry.remote.peer import Peer
from nbmodel.storage import MemoryStorage
from nbmodel.storage.distribution_client import Distribution
from tests.tools.docker_registry import PROGRAM, docker_registry
from tests.tools.registries import sha256
from tests.tools.storage_server import add_version
from tests.tools.toy_versions import scaling_onnx

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(PROGRAM is None, reason="docker-registry is not installed"),
]

KIT = "application/vnd.kitops.modelkit"
DOCKER = "application/vnd.docker.ai"
CNCF = "application/vnd.cncf.model"
ONNX = scaling_onnx(2.0)
GGUF = b"GGUF\x03\x00\x00\x00" + bytes(100)

Layer = tuple[str, bytes, dict[str, str]]


def tar(
    files: Mapping[str, bytes], change: Callable[[tarfile.TarFile], None] | None = None
) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for path, data in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
        if change is not None:
            change(archive)
    return out.getvalue()


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with docker_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "registry") as registry:
        yield registry


class Shelf:
    """Artifacts in a registry that runs, and pulling them."""

    def __init__(self, url: str, registry: Registry, home: Path) -> None:
        self.remote = Remote.parse(f"{url}/team")
        self.registry = registry
        self._url, self._home = url, home

    def put(
        self,
        name: str,
        layers: list[Layer],
        *,
        config: tuple[str, Any],
        artifact_type: str | None = None,
    ) -> str:
        """Push an artifact under ``latest``; its digest."""
        store = MemoryStorage()
        kind, told = config
        settings = json.dumps(told).encode()
        raw = json.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                **({} if artifact_type is None else {"artifactType": artifact_type}),
                "config": {"mediaType": kind, "digest": sha256(settings), "size": len(settings)},
                "layers": [
                    {
                        "mediaType": media_type,
                        "digest": sha256(data),
                        "size": len(data),
                        **({"annotations": annotations} if annotations else {}),
                    }
                    for media_type, data, annotations in layers
                ],
            }
        ).encode()
        with Distribution(self._url) as remote:
            for data in (settings, *(data for _, data, _ in layers)):
                remote.push_blob(f"team/{name}", store, store.add_bytes(data))
            return remote.push_manifest(f"team/{name}", "latest", raw)

    def pull(self, name: str, *, unpack: bool = True) -> Any:
        """What the registry says of a pull."""
        with Peer(self.remote) as peer:
            take = unpacking(self.registry, self._home) if unpack else None
            return self.registry.pull(peer, Reference(name), unpack=take)

    def files(self, version: Any) -> dict[str, bytes]:
        storage = self.registry.storage
        return {one.path: storage.read(one.digest, limit=1 << 20) for one in version.files}


@pytest.fixture
def shelf(url: str, registry: Registry, tmp_path: Path) -> Shelf:
    return Shelf(url, registry, tmp_path / "imports")


KITFILE = {
    "manifestVersion": "1.0.0",
    "package": {"name": "Scale It", "version": "1.0.0", "description": "doubles", "license": "MIT"},
    "model": {"name": "scale", "path": "model", "framework": "ONNX"},
    "docs": [{"path": "README.md"}],
}


@pytest.mark.parametrize("compression", ["tar", "tar+gzip"])
@pytest.mark.parametrize("annotated", [False, True], ids=["without paths", "with paths"])
def test_a_modelkit_becomes_a_version(shelf: Shelf, compression: str, annotated: bool) -> None:
    pack = gzip.compress if compression == "tar+gzip" else bytes
    name = f"kit-{len(compression)}-{annotated:d}"
    layers: list[Layer] = [
        (
            f"{KIT}.model.v1.{compression}",
            pack(tar({"model/scale.onnx": ONNX})),
            {FILEPATH: "model"} if annotated else {},
        ),
        (
            f"{KIT}.docs.v1.{compression}",
            pack(tar({"README.md": b"# scale\n"})),
            {FILEPATH: "README.md"} if annotated else {},
        ),
    ]
    digest = shelf.put(
        name,
        layers,
        config=(f"{KIT}.config.v1+json", KITFILE),
        artifact_type=f"{KIT}.manifest.v1+json",
    )
    report = shelf.pull(name)
    version = report.version
    assert (version.model, version.number, version.framework) == (name, 1, "onnx")
    assert shelf.files(version) == {"model/scale.onnx": ONNX, "README.md": b"# scale\n"}
    assert version.signature.inputs[0].name == "x"
    assert version.description == "doubles"
    assert version.metadata["kitops"] == KITFILE
    origin = version.manifest.lineage.origin
    assert origin is not None
    assert (origin.kind, origin.revision, origin.digest) == ("oci", digest, digest)
    assert origin.uri == f"{shelf.remote.host}/team/{name}@{digest}"
    assert digest in report.doubts[0]

    again = shelf.pull(name)
    assert again.version.number == 1, "an artifact is unpacked once"
    assert again.received == 0


def test_a_model_of_docker_model_runner_has_the_names_that_it_gives(shelf: Shelf) -> None:
    shelf.put(
        "smol",
        [
            (f"{DOCKER}.gguf.v3", GGUF, {}),
            (f"{DOCKER}.license", b"Apache", {}),
            (f"{DOCKER}.chat.template.jinja", b"{{ x }}", {}),
            (f"{DOCKER}.vllm.config.tar", tar({"tokenizer.json": b"{}"}), {}),
        ],
        config=(
            f"{DOCKER}.model.config.v0.1+json",
            {"config": {"format": "gguf", "quantization": "Q4_0"}, "descriptor": {}},
        ),
    )
    version = shelf.pull("smol").version
    assert set(shelf.files(version)) == {
        "model.gguf",
        "LICENSE",
        "template.jinja",
        "tokenizer.json",
    }
    assert version.framework == "gguf"
    assert version.metadata["docker"]["config"]["quantization"] == "Q4_0"


def test_several_layers_without_names_are_numbered(shelf: Shelf) -> None:
    shelf.put(
        "split",
        [(f"{DOCKER}.gguf.v3", GGUF + bytes([part]), {}) for part in range(3)],
        config=(f"{DOCKER}.model.config.v0.1+json", {"config": {"format": "gguf"}}),
    )
    files = shelf.files(shelf.pull("split").version)
    assert files == {
        f"model-0000{part + 1}-of-00003.gguf": GGUF + bytes([part]) for part in range(3)
    }


def test_layers_of_files_with_paths_are_a_version_as_they_are(shelf: Shelf) -> None:
    digest = shelf.put(
        "raw",
        [(f"{DOCKER}.gguf.v3", GGUF, {FILEPATH: "smol.gguf"})],
        config=(f"{DOCKER}.model.config.v0.2+json", {"config": {"format": "gguf"}}),
    )
    version = shelf.pull("raw", unpack=False).version
    assert version.digest == digest, "another tool's digest stays what it is"
    assert shelf.files(version) == {"smol.gguf": GGUF}


def test_a_modelpack_of_archives_becomes_a_version(shelf: Shelf) -> None:
    shelf.put(
        "pack",
        [
            (f"{CNCF}.weight.v1.tar", tar({"scale.onnx": ONNX}), {FILEPATH: "scale.onnx"}),
            (f"{CNCF}.doc.v1.raw", b"hello", {FILEPATH: "README.md"}),
        ],
        config=(
            f"{CNCF}.config.v1+json",
            {"descriptor": {"name": "Scale"}, "config": {"format": "onnx"}, "modelfs": {}},
        ),
        artifact_type=f"{CNCF}.manifest.v1+json",
    )
    version = shelf.pull("pack").version
    assert shelf.files(version) == {"scale.onnx": ONNX, "README.md": b"hello"}


def test_without_a_way_to_unpack_it_the_hint_is_to_import_it(shelf: Shelf) -> None:
    shelf.put(
        "told",
        [(f"{KIT}.model.v1.tar", tar({"m.onnx": ONNX}), {})],
        config=(f"{KIT}.config.v1+json", {}),
    )
    with pytest.raises(ManifestError, match="packed by another tool") as caught:
        shelf.pull("told", unpack=False)
    assert (caught.value.hint or "").startswith("nbmodel import oci://127.0.0.1:")


def link(
    name: str, target: str, kind: bytes = tarfile.SYMTYPE
) -> Callable[[tarfile.TarFile], None]:
    def add(archive: tarfile.TarFile) -> None:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, target
        archive.addfile(member)

    return add


@pytest.mark.parametrize(
    ("layers", "error", "says"),
    [
        pytest.param([tar({"../out": b"x"})], FormatError, "unsafe path", id="a path that climbs"),
        pytest.param([tar({"/etc/x": b"x"})], FormatError, "unsafe path", id="an absolute path"),
        pytest.param(
            [tar({}, link("a", "/etc/passwd"))], FormatError, "leads out", id="a link out of it"
        ),
        pytest.param(
            [tar({}, link("a", "../../x"))], FormatError, "leads out", id="a link that climbs"
        ),
        pytest.param(
            [tar({}, link("d", "", tarfile.CHRTYPE))], FormatError, "no file", id="a device"
        ),
        pytest.param(
            [tar({"a": b"1"}), tar({"a": b"2"})], FormatError, "two layers", id="a file twice"
        ),
        pytest.param([b"no archive"], FormatError, "no archive", id="no archive at all"),
        pytest.param([tar({})], FormatError, "without files", id="nothing"),
    ],
)
def test_hostile_archives_are_refused(
    shelf: Shelf,
    tmp_path: Path,
    request: pytest.FixtureRequest,
    layers: list[bytes],
    error: type[Exception],
    says: str,
) -> None:
    name = f"bad-{sha256(request.node.callspec.id.encode())[-8:]}"
    shelf.put(
        name,
        [(f"{KIT}.model.v1.tar", data, {}) for data in layers],
        config=(f"{KIT}.config.v1+json", {}),
    )
    with pytest.raises(error, match=says):
        shelf.pull(name)
    assert not (tmp_path / "out").exists()
    assert shelf.registry.models() == []


def test_an_archive_that_unpacks_to_too_much_is_refused(shelf: Shelf) -> None:
    bomb = gzip.compress(tar({"zeros": bytes(3_000_000)}))
    shelf.put(
        "bomb",
        [(f"{KIT}.model.v1.tar+gzip", bomb, {})],
        config=(f"{KIT}.config.v1+json", {}),
    )
    take = unpacking(shelf.registry, shelf._home, max_size=1_000_000)
    with Peer(shelf.remote) as peer, pytest.raises(InputError, match="at most 1,000,000"):
        shelf.registry.pull(peer, Reference("bomb"), unpack=take)


def test_an_artifact_is_imported_by_its_address(shelf: Shelf, tmp_path: Path) -> None:
    digest = shelf.put(
        "imported",
        [(f"{KIT}.model.v1.tar", tar({"scale.onnx": ONNX}), {})],
        config=(f"{KIT}.config.v1+json", KITFILE),
    )
    client = Client(tmp_path / "home")
    uri = f"oci://{shelf.remote.host}/team/imported"
    version = client.import_(f"{uri}:latest", type="other")
    assert version.model == "scale-it", "as the Kitfile calls it"
    assert version.manifest.lineage.origin is not None
    assert version.manifest.lineage.origin.revision == digest
    with pytest.raises(NbModelError, match="no"):
        client.import_(f"{uri}:nothing")
    client.close()


def artifact(*layers: tuple[str, dict[str, str]], config: str) -> Artifact:
    zero = sha256(b"")
    return Artifact.from_bytes(
        json.dumps(
            {
                "config": {"mediaType": config, "digest": zero, "size": 0},
                "layers": [
                    {"mediaType": kind, "digest": zero, "size": 0, "annotations": annotations}
                    for kind, annotations in layers
                ],
            }
        ).encode()
    )


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(
            artifact((f"{KIT}.model.v1.tar+zstd", {}), config=f"{KIT}.config.v1+json"),
            "compressed with zstd",
            id="a compression that is not read",
        ),
        pytest.param(
            artifact(
                ("application/vnd.oci.image.layer.v1.tar+gzip", {}),
                config="application/vnd.oci.image.config.v1+json",
            ),
            "expected one of a model",
            id="an image of a container",
        ),
        pytest.param(
            artifact((f"{DOCKER}.model.file", {}), config=f"{DOCKER}.model.config.v0.2+json"),
            "has no path",
            id="a file that nothing names",
        ),
        pytest.param(
            artifact(
                (f"{DOCKER}.gguf.v3", {FILEPATH: "../x"}),
                (f"{DOCKER}.license", {}),
                config=f"{DOCKER}.model.config.v0.2+json",
            ),
            "unsafe path",
            id="a path that climbs",
        ),
    ],
)
def test_what_cannot_be_read_is_told(found: Artifact, says: str) -> None:
    assert is_foreign(found)
    with pytest.raises(ManifestError, match=says):
        parts_of(found)


def test_our_own_versions_are_not_foreign() -> None:
    storage = MemoryStorage()
    digest = add_version(storage, {"model.onnx": bytes(5_000_000), "labels.txt": b"a\n"})
    found = Artifact.from_bytes(storage.read(digest, limit=1 << 20))
    assert not is_foreign(found)
    assert [part.path for part in parts_of(found)] == ["model.onnx", "labels.txt"]
