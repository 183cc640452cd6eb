"""What every format keeps to, with a small model of each."""

from __future__ import annotations

import io
import json
import random
import zipfile
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


def message(*fields: tuple[int, bytes | int]) -> bytes:
    """A protobuf message of fields below number 16, texts and messages below 128 bytes."""
    return b"".join(
        bytes([number << 3 | 2, len(value)]) + value
        if isinstance(value, bytes)
        else bytes([number << 3, value])
        for number, value in fields
    )


def savedmodel_sample() -> bytes:
    """As TensorFlow writes it, with nothing but what a signature needs."""
    any_rows = b"\x12\x0b\x08" + b"\xff" * 9 + b"\x01"  # a dim of size −1
    shape = any_rows + message((2, message((1, 2))))
    x, y = (message((1, name), (2, message((2, 1), (3, shape)))) for name in (b"x", b"y"))
    signature = message((1, b"serving_default"), (2, message((1, x), (2, y))))
    info = message((4, b"serve"), (5, b"2.21.0"))
    # Longer than 127 bytes, as every real one is.
    graph = message((1, info), (2, bytes([0x12, 0x02, 0x08, 0x01])), (5, signature))
    return b"\x08\x01\x12" + bytes([len(graph) & 0x7F | 0x80, len(graph) >> 7]) + graph


def zipped(files: dict[str, str | bytes]) -> bytes:
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w") as archive:
        for name, content in files.items():
            archive.writestr(f"m/{name}", content)
    return written.getvalue()


def torchscript_sample() -> bytes:
    code = "class M(Module):\n  def forward(self: __torch__.M,\n    x: Tensor) -> Tensor:\n"
    return zipped(
        {
            "data.pkl": b"\x80\x02c__torch__\nM\nq\x00)\x81}b.",
            "code/__torch__.py": f"{code}    return torch.relu(x)\n",
            "version": "3\n",
        }
    )


def torch_export_sample() -> bytes:
    value = {"dtype": 7, "sizes": [{"as_expr": {"expr_str": "s0"}}, {"as_int": 2}]}
    arguments = {name: {"arg": {"as_tensor": {"name": name}}} for name in ("x", "y")}
    module = {
        "graph": {"tensor_values": dict.fromkeys(arguments, value)},
        "signature": {
            "input_specs": [{"user_input": arguments["x"]}],
            "output_specs": [{"user_output": arguments["y"]}],
        },
    }
    return zipped(
        {"models/model.json": json.dumps({"graph_module": module}), "archive_format": "pt2"}
    )


def tensorrt_sample() -> bytes:
    return b"ftrt" + bytes(20) + bytes([10, 3, 0, 26]) + bytes(36)


def openvino_sample() -> bytes:
    port = '<port id="0" precision="FP32" names="{}"><dim>-1</dim><dim>2</dim></port>'
    x, y = port.format("x"), port.format("y")
    return (
        '<?xml version="1.0"?>\n<net name="m" version="11"><layers>'
        f'<layer id="0" name="x" type="Parameter"><output>{x}</output></layer>'
        f'<layer id="1" name="r" type="ReLU"><output>{y}</output></layer>'
        f'<layer id="2" name="o" type="Result"><input>{y}</input></layer></layers>'
        '<edges><edge from-layer="1" from-port="0" to-layer="2" to-port="0"/></edges></net>'
    ).encode()


def python_sample() -> bytes:
    return b"""\
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "x", "data_type": "TYPE_FP32", "dims": [-1, 2]})
        config.add_output({"name": "y", "data_type": "TYPE_FP32", "dims": [-1, 2]})
        return config
"""


#: Format → a model with an input ``x`` and an output ``y``, both FP32[-1,2].
SAMPLES: dict[str, Callable[[], bytes]] = {
    "onnx": onnx_sample,
    "tflite": tflite_sample,
    "savedmodel": savedmodel_sample,
    "torchscript": torchscript_sample,
    "torch_export": torch_export_sample,
    "tensorrt": tensorrt_sample,
    "openvino": openvino_sample,
    "python": python_sample,
}
#: Formats whose files do not tell all of their tensors: the configuration beside them does.
NEED_CONFIG = ("torchscript", "tensorrt")
CONFIG = """
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
output [ { name: "y" data_type: TYPE_FP32 dims: [ 2 ] } ]
"""


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
def path(tmp_path: Path, name: str, format_: Format, sample: bytes) -> Path:
    if name in NEED_CONFIG:
        (tmp_path / "config.pbtxt").write_text(CONFIG)
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


def knows(format_: Format, content: bytes) -> bool:
    if not content.startswith(b"PK"):
        return format_.sniff(content[:HEAD])
    names = [name.removeprefix("m/") for name in zipfile.ZipFile(io.BytesIO(content)).namelist()]
    return format_.sniff_archive(names)


def test_it_knows_its_own_and_nothing_else(format_: Format, sample: bytes) -> None:
    assert knows(format_, sample)
    assert format_.is_archive == sample.startswith(b"PK")
    others = [make() for name, make in SAMPLES.items() if name != format_.name]
    for foreign in (*others, b"", b"x", b"hello world", b"\0" * HEAD, b"\xff" * HEAD):
        assert not knows(format_, foreign)


def test_it_is_found_by_content_and_by_name(name: str, path: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    bare.write_bytes(path.read_bytes())
    assert format_of(path) == format_of(bare) == name
    assert read_model(bare) == read_model(path)


def test_what_a_file_does_not_tell_it_says(name: str, format_: Format, path: Path) -> None:
    assert format_.read(path).gap == ""
    (path.parent / "config.pbtxt").unlink(missing_ok=True)
    assert bool(format_.read(path).gap) == (name in NEED_CONFIG)


@pytest.mark.parametrize("name", [name for name in FORMATS.builtin if FORMATS.load(name).marker])
def test_a_folder_is_read_by_the_file_that_makes_it_one(
    name: str, format_: Format, path: Path, tmp_path: Path
) -> None:
    path.rename(tmp_path / format_.marker)
    assert format_of(tmp_path) == name
    assert read_model(tmp_path) == read_model(tmp_path / format_.marker)


def test_it_leaves_the_file_alone(format_: Format, path: Path, sample: bytes) -> None:
    path.chmod(0o444)
    format_.read(path)
    assert path.read_bytes() == sample


def broken(sample: bytes) -> Iterator[bytes]:
    """Truncations, and bytes of the sample changed in a few ways; of a small one, all."""
    dice = random.Random(len(sample))
    step = len(sample) // 400 + 1
    for position in range(dice.randrange(step), len(sample), step):
        yield sample[: position or 1]
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
