"""What every format keeps to, with a small model of each."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nbmodel.errors import FormatError, InputError
from nbmodel.formats import FORMATS, Format, ModelFacts, format_of, read_model
from nbmodel.formats.base import HEAD


def onnx_sample() -> bytes:
    onnx = pytest.importorskip("onnx", reason="onnx writes the sample")
    helper = onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "sample",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("w", onnx.TensorProto.FLOAT, [2], [1.0, 2.0])],
    )
    model = helper.make_model(graph, producer_name="sample", doc_string="A sample.")
    return bytes(model.SerializeToString())


def tflite_sample() -> bytes:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated", reason="has the schema")
    flatbuffers = pytest.importorskip("flatbuffers", reason="flatbuffers writes the sample")
    model, graph, x, y = schema.ModelT(), schema.SubGraphT(), schema.TensorT(), schema.TensorT()
    x.name, x.shape, x.shapeSignature = "x", [1, 2], [-1, 2]
    y.name, y.shape, y.shapeSignature = "y", [1, 2], [-1, 2]
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [x, y], [0], [1], []
    model.version, model.subgraphs, model.buffers = 3, [graph], [schema.BufferT()]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


#: Format → a model with an input ``x`` and an output ``y``, both FP32[-1,2].
SAMPLES: dict[str, Callable[[], bytes]] = {"onnx": onnx_sample, "tflite": tflite_sample}


@pytest.fixture(params=FORMATS.builtin)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def format_(name: str) -> Format:
    made = FORMATS.load(name)()
    assert isinstance(made, Format)
    return made


@pytest.fixture
def sample(name: str) -> bytes:
    return SAMPLES[name]()


@pytest.fixture
def path(tmp_path: Path, format_: Format, sample: bytes) -> Path:
    file = tmp_path / f"sample{format_.suffixes[0]}"
    file.write_bytes(sample)
    return file


def test_every_format_has_a_sample() -> None:
    assert set(SAMPLES) == set(FORMATS.builtin)


def test_it_is_named_like_its_row(name: str, format_: Format) -> None:
    assert format_.name == name
    assert format_.suffixes
    assert all(suffix == suffix.lower() and suffix[0] == "." for suffix in format_.suffixes)


def test_no_two_formats_share_a_suffix() -> None:
    suffixes = [suffix for name in FORMATS.builtin for suffix in FORMATS.load(name).suffixes]
    assert len(set(suffixes)) == len(suffixes)


def test_it_reads_the_tensors(format_: Format, path: Path) -> None:
    facts = format_.read(path)
    assert isinstance(facts, ModelFacts)
    assert facts.framework == format_.name
    described = [
        (tensor.name, tensor.datatype, tensor.shape)
        for tensor in facts.signature.inputs + facts.signature.outputs
    ]
    assert described == [("x", "FP32", (-1, 2)), ("y", "FP32", (-1, 2))]


def test_its_facts_go_into_a_manifest(format_: Format, path: Path) -> None:
    facts = format_.read(path)
    assert json.loads(json.dumps(dict(facts.metadata))) == dict(facts.metadata)


def test_it_knows_its_own_and_nothing_else(format_: Format, sample: bytes) -> None:
    assert format_.sniff(sample[:HEAD])
    others = [make() for name, make in SAMPLES.items() if name != format_.name]
    for foreign in (*others, b"", b"x", b"hello world", b"\0" * HEAD, b"\xff" * HEAD):
        assert not format_.sniff(foreign[:HEAD])


def test_it_is_found_by_content_and_by_name(name: str, path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_bytes(path.read_bytes())
    assert format_of(path) == format_of(bare) == name
    assert read_model(bare) == read_model(path)


def test_it_leaves_the_file_alone(format_: Format, path: Path, sample: bytes) -> None:
    path.chmod(0o444)
    format_.read(path)
    assert path.read_bytes() == sample


def broken(sample: bytes) -> Iterator[bytes]:
    """Every truncation, and every byte of the sample changed in a few ways."""
    yield from (sample[:length] for length in range(1, len(sample)))
    dice = random.Random(len(sample))
    for position in range(len(sample)):
        for value in (0, 0xFF, dice.randrange(256)):
            yield sample[:position] + bytes([value]) + sample[position + 1 :]


def refusal(format_: Format, path: Path) -> str | None:
    """Why the file is refused, or None when it is read."""
    try:
        format_.read(path)
    except FormatError as exc:
        return str(exc)
    return None


def test_damage_is_facts_or_an_error_that_names_the_file(
    format_: Format, sample: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "damaged"
    for content in broken(sample):
        path.write_bytes(content)
        message = refusal(format_, path)
        assert message is None or message.startswith(str(path))
        # What a reader did not foresee would read like this.
        assert "cannot be read as" not in (message or "")


@pytest.mark.parametrize("content", [b"x", b"hello world", b"\0" * 999, b"\xff" * 999])
def test_what_is_something_else_is_an_error_that_says_what(
    format_: Format, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / f"other{format_.suffixes[0]}"
    path.write_bytes(content)
    with pytest.raises(FormatError) as caught:
        format_.read(path)
    assert str(path) in str(caught.value)
    assert f"starts with {content[:16]!r}" in str(caught.value)


def test_nothing_to_read_is_an_error(format_: Format, tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with pytest.raises(FormatError, match="is empty"):
        format_.read(tmp_path / "empty")
    with pytest.raises(FormatError, match="is a folder"):
        format_.read(tmp_path)
    with pytest.raises(InputError, match=r"cannot read .*: No such file"):
        format_.read(tmp_path / "missing")


class Tripping(Format):
    """A reader that did not foresee something."""

    name = "tripping"
    suffixes = (".trip",)

    def sniff(self, head: bytes) -> bool:
        return True

    def _read(self, source: object) -> ModelFacts:
        raise IndexError("list index out of range")


def test_what_a_reader_did_not_foresee_is_a_format_error(tmp_path: Path) -> None:
    path = tmp_path / "model.trip"
    path.write_bytes(b"x")
    with pytest.raises(FormatError, match=r"model\.trip: cannot be read as tripping: IndexError"):
        Tripping().read(path)
