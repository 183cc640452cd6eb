"""PyTorch's archives: of other releases than the samples, damaged, and hostile."""

from __future__ import annotations

import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nbmodel.core.signature import describe
from nbmodel.errors import FormatError
from nbmodel.formats import format_of
from nbmodel.formats.base import Format
from nbmodel.formats.torch_export import TorchExport
from nbmodel.formats.torchscript import TorchScript

DATA = Path(__file__).parents[1] / "data" / "formats" / "torch"
PICKLE = b"\x80\x02c__torch__\nM\nq\x00)\x81}b."


def zipped(path: Path, files: dict[str, str | bytes], root: str = "m/") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(root + name, content)
    return path


def module(body: str, name: str = "M") -> str:
    return f"class {name}(Module):\n{body}\n"


def script(path: Path, code: str, **more: str | bytes) -> Path:
    files = {"data.pkl": PICKLE, "code/__torch__.py": code, "version": "3\n", **more}
    return zipped(path / "m.pt", files)


def forward(arguments: str, result: str) -> str:
    return module(f"  def forward(self: __torch__.M{arguments}) -> {result}:\n    return x\n")


@pytest.mark.parametrize(
    ("arguments", "result", "inputs", "outputs"),
    [
        (", x: Tensor", "Tensor", ["x UNKNOWN[?]"], ["OUTPUT__0 UNKNOWN[?]"]),
        ("", "NoneType", [], []),
        (",\n    n: int,\n    f: float=0.5", "int", ["n INT64[]"], ["OUTPUT__0 INT64[]"]),
        (', s: str="a, ) -> (\\"", b: bool', "str", ["b BOOL[]"], ["OUTPUT__0 BYTES[]"]),
        (
            ", x: Dict[str, List[Tensor]], y: Tensor",
            "Tuple[Tensor, Tuple[int, Tensor], Dict[str, Tensor]]",
            ["x MAP[?]", "y UNKNOWN[?]"],
            ["OUTPUT__0 UNKNOWN[?]", "OUTPUT__1 SEQUENCE[?]", "OUTPUT__2 MAP[?]"],
        ),
        (", x: __torch__.Own", "__torch__.Missing", ["x OPAQUE[?]"], ["OUTPUT__0 OPAQUE[?]"]),
    ],
)
def test_arguments_of_forward(
    tmp_path: Path, arguments: str, result: str, inputs: list[str], outputs: list[str]
) -> None:
    signature = TorchScript().read(script(tmp_path, forward(arguments, result))).signature
    assert list(map(describe, signature.inputs)) == inputs
    assert list(map(describe, signature.outputs)) == outputs


def test_only_the_class_that_is_pickled_counts(tmp_path: Path) -> None:
    code = (
        module("  def forward(self, wrong: Tensor) -> Tensor:\n    return wrong\n", "Other")
        + forward(", right: Tensor", "Tensor")
        + module("  def forward(self, wrong: Tensor) -> Tensor:\n    return wrong\n", "MM")
    )
    (x,) = TorchScript().read(script(tmp_path, code)).signature.inputs
    assert x.name == "right"


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        pytest.param(module("  training : bool"), "M has no method forward", id="no forward"),
        pytest.param("", "M has no method forward", id="no class"),
        pytest.param(module("  def forward(self, x: Tensor"), "do not end", id="no end"),
        pytest.param(module('  def forward(self, x: str="' + '\\"' * 99), "do not end", id="a text without end"),
        pytest.param(forward(", x: int" * 10_002, "int"), "more than 10,000 arguments", id="many"),
        pytest.param(b"\xff", "is not UTF-8", id="no text"),
    ],
)  # fmt: skip
def test_code_without_forward_is_refused(tmp_path: Path, code: str, problem: str) -> None:
    with pytest.raises(FormatError, match=problem):
        TorchScript().read(script(tmp_path, code))


class Boom:
    def __reduce__(self) -> Any:
        return (exec, ("raise __import__('builtins').SystemExit('it was run')",))


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl"])
def test_pickles_are_not_loaded(tmp_path: Path, name: str) -> None:
    hostile = pickle.dumps(Boom(), protocol=2)
    path = script(tmp_path, forward(", x: Tensor", "Tensor"), **{name: hostile})
    if name == "data.pkl":
        with pytest.raises(FormatError, match="expected a module of __torch__, found"):
            TorchScript().read(path)
    else:
        assert TorchScript().read(path).signature.inputs


def test_names_lead_to_no_other_file(tmp_path: Path) -> None:
    files = {
        "data.pkl": b"\x80\x02c__torch__..etc\nM\n)\x81.",
        "code/__torch__.py": forward("", "Tensor"),
        "version": "3",
    }
    with pytest.raises(FormatError, match=r"no 'code/__torch__//etc\.py' in the archive"):
        TorchScript().read(zipped(tmp_path / "m.pt", files))


@pytest.mark.parametrize("format_", [TorchScript(), TorchExport()])
def test_a_bomb_does_not_go_off(tmp_path: Path, format_: Format) -> None:
    zeros = bytes(40 << 20)
    if format_.name == "torchscript":
        path = script(tmp_path, zeros.decode())
    else:
        path = zipped(tmp_path / "m.pt2", {"models/model.json": zeros, "archive_format": "pt2"})
    assert path.stat().st_size < len(zeros) / 100
    with pytest.raises(FormatError, match="is longer than"):
        format_.read(path)


def test_a_web_page_called_pt_says_so(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(b"<!DOCTYPE html>")
    with pytest.raises(FormatError, match="a web page") as caught:
        TorchScript().read(path)
    assert caught.value.hint == "download the file itself, not the page about it"


def test_an_archive_of_something_else_is_no_model(tmp_path: Path) -> None:
    path = zipped(tmp_path / "m.pt2", {"readme.txt": "hello"})
    with pytest.raises(FormatError, match="neither a graph nor compiled code in it"):
        TorchExport().read(path)
    with pytest.raises(FormatError, match="expected a pickled object, found b''"):
        TorchScript().read(path)


def program(**module: Any) -> dict[str, Any]:
    """A graph as torch writes it, with one input and one output."""
    meta = {"dtype": 7, "sizes": [{"as_int": 2}]}
    return {
        "graph_module": {
            "graph": {"tensor_values": {"x": meta, "y": meta}},
            "signature": {
                "input_specs": [
                    {"parameter": {"arg": {"name": "p_w"}, "parameter_name": "w"}},
                    {"user_input": {"arg": {"as_tensor": {"name": "x"}}}},
                ],
                "output_specs": [
                    {"buffer_mutation": {"arg": {"name": "y"}, "buffer_name": "b"}},
                    {"user_output": {"arg": {"as_tensor": {"name": "y"}}}},
                ],
            },
            **module,
        }
    }


def of_x(dtype: int, sizes: list[Any]) -> dict[str, Any]:
    """A graph whose input is something else."""
    content = program()
    values = content["graph_module"]["graph"]["tensor_values"]
    content["graph_module"]["graph"]["tensor_values"] = {
        **values,
        "x": {"dtype": dtype, "sizes": sizes},
    }
    return content


def exported(path: Path, content: Any, name: str = "models/model.json") -> Path:
    text = content if isinstance(content, str) else json.dumps(content)
    return zipped(path / "m.pt2", {name: text, "archive_format": "pt2"})


def test_parameters_and_mutations_are_not_the_callers(tmp_path: Path) -> None:
    signature = TorchExport().read(exported(tmp_path, program())).signature
    assert list(map(describe, signature.inputs)) == ["x FP32[2]"]
    assert list(map(describe, signature.outputs)) == ["y FP32[2]"]


def test_archives_without_a_format_of_their_own_are_read(tmp_path: Path) -> None:
    """Those of PyTorch 2.1 to 2.6 have the graph in the root, with another layout of names."""
    old = program(signature={"user_inputs": ["x"], "user_outputs": ["y"]})
    files = {"serialized_exported_program.json": json.dumps(old), "version": "5.3"}
    path = zipped(tmp_path / "m.pt2", files, root="")
    assert format_of(path) == "torch_export"
    assert [one.name for one in TorchExport().read(path).signature.outputs] == ["y"]


def test_numbers_are_scalars_and_nothing_is_nothing(tmp_path: Path) -> None:
    arguments = [
        {"as_sym_int": {"as_name": "s0"}},
        {"as_none": True},
        {"as_float": 0.5},
        {"as_tensor": {"name": "x"}},
    ]
    specs = [{"user_input": {"arg": one}} for one in arguments]
    outputs = [{"user_output": {"arg": one}} for one in ({"as_none": True}, arguments[3])]
    content = program(signature={"input_specs": specs, "output_specs": outputs})
    signature = TorchExport().read(exported(tmp_path, content)).signature
    assert list(map(describe, signature.inputs)) == ["s0 INT64[]", "input_1 FP64[]", "x FP32[2]"]
    assert list(map(describe, signature.outputs)) == ["x FP32[2]"]


def test_notes_that_nothing_can_write_are_left_out(tmp_path: Path) -> None:
    content = {**program(), "torch_version": "2\ud800", "opset_version": {"aten": 10, "x": [1]}}
    metadata = TorchExport().read(exported(tmp_path, content)).metadata
    assert metadata == {"torch_version": "2?", "opset": {"aten": 10}}
    code = forward(", x: Tensor", "Tensor")
    for note in ('{"task": "\\ud800"}', '{"stride": NaN}', "[1]", "{", "[" * 100_000):
        facts = TorchScript().read(script(tmp_path, code, **{"extra/config.txt": note}))
        assert facts.metadata.keys() == {"archive_version", "forward"}


def test_of_several_graphs_one_is_the_model(tmp_path: Path) -> None:
    graph = json.dumps(program())
    files = {f"models/{name}.json": graph for name in ("encoder", "model", "decoder")}
    facts = TorchExport().read(zipped(tmp_path / "m.pt2", files))
    assert facts.metadata["other_graphs"] == ["decoder", "encoder"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        pytest.param("{", "is not JSON", id="no JSON"),
        pytest.param("[" * 100_000, "is not JSON", id="nested"),
        pytest.param("[]", "expected an object, found list", id="a list"),
        pytest.param("{}", "expected an exported program", id="no program"),
        pytest.param({"graph_module": 1}, "expected an exported program", id="another kind"),
        pytest.param(
            program(signature={"input_specs": [{"user_input": {"arg": {}}}], "output_specs": []}),
            "expected an exported program",
            id="an empty argument",
        ),
        pytest.param(
            program(signature={"input_specs": [{"user_input": {"arg": {"as_int": {"as_name": "\ud800"}}}}], "output_specs": []}),
            "surrogates not allowed",
            id="half a character",
        ),
        pytest.param(program(graph={"tensor_values": {}}), "expected an exported program", id="no tensors"),
        pytest.param(
            of_x(dtype=99, sizes=[]),
            "unknown dtype 99 of 'x'",
            id="dtype",
        ),
        pytest.param(
            of_x(dtype=7, sizes=[{"as_int": -2}]),
            "expected a size",
            id="size",
        ),
        pytest.param(
            of_x(dtype=7, sizes=[{}] * 1025),
            "more than 1024 dimensions",
            id="rank",
        ),
    ],
)  # fmt: skip
def test_a_graph_of_another_shape_is_refused(tmp_path: Path, content: Any, problem: str) -> None:
    with pytest.raises(FormatError, match=problem) as caught:
        TorchExport().read(exported(tmp_path, content))
    assert "cannot be read as" not in str(caught.value)


def test_a_directory_without_end_is_refused(tmp_path: Path) -> None:
    content = bytearray((DATA / "scripted.pt").read_bytes())
    at = content.rindex(b"PK\x05\x06")
    content[at + 12 : at + 16] = (1 << 30).to_bytes(4, "little")
    path = tmp_path / "m.pt"
    path.write_bytes(content)
    with pytest.raises(FormatError, match="a directory of 1,073,741,824 bytes"):
        TorchScript().read(path)


def test_an_archive_of_the_kind_for_large_files_is_read(tmp_path: Path) -> None:
    """ZIP64 records are written for more than 65,535 files, too."""
    with zipfile.ZipFile(tmp_path / "m.pt2", "w") as archive:
        archive.writestr("m/models/model.json", json.dumps(program()))
        for number in range(65_536):
            archive.writestr(f"m/{number}", b"")
    assert TorchExport().read(tmp_path / "m.pt2").signature.inputs
