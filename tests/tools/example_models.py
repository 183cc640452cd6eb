"""Toy models as Triton's example repository has them, for its server and for a runtime.

Equal in names, tensors and arithmetic to ``docs/examples/model_repository`` of
triton-inference-server/server, and made here; besides, identities of every datatype and a
model to classify with. A real tritonserver runs the same ONNX files in its Python backend.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

#: OIP datatype → (ONNX element type, type in Triton's model configuration).
DATATYPES = {
    "BOOL": ("BOOL", "TYPE_BOOL"),
    "UINT8": ("UINT8", "TYPE_UINT8"),
    "UINT16": ("UINT16", "TYPE_UINT16"),
    "UINT32": ("UINT32", "TYPE_UINT32"),
    "UINT64": ("UINT64", "TYPE_UINT64"),
    "INT8": ("INT8", "TYPE_INT8"),
    "INT16": ("INT16", "TYPE_INT16"),
    "INT32": ("INT32", "TYPE_INT32"),
    "INT64": ("INT64", "TYPE_INT64"),
    "FP16": ("FLOAT16", "TYPE_FP16"),
    "FP32": ("FLOAT", "TYPE_FP32"),
    "FP64": ("DOUBLE", "TYPE_FP64"),
    "BYTES": ("STRING", "TYPE_STRING"),
}
LABELS = ("apple", "banana", "cherry", "date")
_ONNX = {**{name: onnx for name, (onnx, _) in DATATYPES.items()}, "BF16": "BFLOAT16"}
_Node = tuple[str, Sequence[str], Sequence[str], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Model:
    """A toy model.

    Attributes:
        name: Of the model.
        inputs: Name, OIP datatype, and shape with the batch's dimension.
        outputs: As ``inputs``.
        nodes: Of the ONNX graph: operator, inputs, outputs, attributes.
        max_batch_size: 0: the first dimension is like the others.
        labels: Of its output's values.
        config: Lines that Triton's configuration has besides.
        controls: Inputs that Triton's sequence batcher gives, which clients do not.
    """

    name: str
    inputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    outputs: tuple[tuple[str, str, tuple[int, ...]], ...]
    nodes: tuple[_Node, ...]
    max_batch_size: int = 0
    labels: tuple[str, ...] = ()
    config: str = ""
    controls: frozenset[str] = field(default_factory=frozenset)

    def onnx(self) -> bytes:
        """The model as an ONNX file."""
        graph = helper.make_graph(
            [
                helper.make_node(kind, list(takes), list(gives), **attributes)
                for kind, takes, gives, attributes in self.nodes
            ],
            self.name,
            [_value(*tensor) for tensor in self.inputs],
            [_value(*tensor) for tensor in self.outputs],
        )
        # Versions that every supported onnxruntime reads, not the newest that onnx writes.
        opsets = [helper.make_opsetid("", 17)]
        content: bytes = helper.make_model(
            graph, opset_imports=opsets, ir_version=8, producer_name="tests"
        ).SerializeToString()
        return content

    def triton_config(self) -> str:
        """The model's ``config.pbtxt`` for the Python backend."""
        given = [tensor for tensor in self.inputs if tensor[0] not in self.controls]
        lines = [f'name: "{self.name}"', 'backend: "python"']
        lines += [f"max_batch_size: {self.max_batch_size}"]
        lines += [self._tensor("input", tensor) for tensor in given]
        lines += [self._tensor("output", tensor) for tensor in self.outputs]
        if "instance_group" not in self.config:
            lines += ["instance_group [{ kind: KIND_CPU count: 1 }]"]
        return "\n".join([*lines, self.config, ""])

    def _tensor(self, which: str, tensor: tuple[str, str, tuple[int, ...]]) -> str:
        name, datatype, shape = tensor
        dims = ", ".join(map(str, shape[1:] if self.max_batch_size else shape))
        labels = ' label_filename: "labels.txt"' if self.labels and which == "output" else ""
        kind = DATATYPES[datatype][1]
        return f'{which} [{{ name: "{name}" data_type: {kind} dims: [ {dims} ]{labels} }}]'


def _value(name: str, datatype: str, shape: tuple[int, ...]) -> Any:
    dims = [f"d{axis}" if size < 0 else size for axis, size in enumerate(shape)]
    return helper.make_tensor_value_info(name, getattr(TensorProto, _ONNX[datatype]), dims)


def _sum_and_difference(name: str, datatype: str) -> Model:
    """OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1, reckoned in INT32."""
    kind = getattr(TensorProto, _ONNX[datatype])
    return Model(
        name,
        tuple((f"INPUT{i}", datatype, (-1, 16)) for i in range(2)),
        tuple((f"OUTPUT{i}", datatype, (-1, 16)) for i in range(2)),
        (
            ("Cast", ["INPUT0"], ["a"], {"to": TensorProto.INT32}),
            ("Cast", ["INPUT1"], ["b"], {"to": TensorProto.INT32}),
            ("Add", ["a", "b"], ["sum"], {}),
            ("Sub", ["a", "b"], ["difference"], {}),
            ("Cast", ["sum"], ["OUTPUT0"], {"to": kind}),
            ("Cast", ["difference"], ["OUTPUT1"], {"to": kind}),
        ),
        max_batch_size=8,
    )


def _identity(name: str, datatype: str, shape: tuple[int, ...], **kwargs: Any) -> Model:
    names = kwargs.pop("names", ("x", "y"))
    return Model(
        name,
        ((names[0], datatype, shape),),
        ((names[1], datatype, shape),),
        (("Identity", [names[0]], [names[1]], {}),),
        **kwargs,
    )


def _control(name: str, kind: str, values: str) -> str:
    return f'control_input [{{ name: "{name}" control [{{ kind: CONTROL_SEQUENCE_{kind} {values} }}] }}]'


_FLAG = "int32_false_true: [ 0, 1 ]"

SIMPLE = _sum_and_difference("simple", "INT32")
EXAMPLES = (
    SIMPLE,
    _sum_and_difference("simple_int8", "INT8"),
    _sum_and_difference("simple_string", "BYTES"),
    _identity("simple_identity", "BYTES", (-1, -1), max_batch_size=8, names=("INPUT0", "OUTPUT0")),
    Model(
        "simple_sequence",
        (("INPUT", "INT32", (-1, 1)), ("START", "INT32", (-1, 1)), ("READY", "INT32", (-1, 1))),
        (("OUTPUT", "INT32", (-1, 1)),),
        (
            ("Add", ["INPUT", "START"], ["sum"], {}),
            ("Mul", ["READY", "sum"], ["OUTPUT"], {}),
        ),
        max_batch_size=8,
        config=f"sequence_batching {{ {_control('START', 'START', _FLAG)} "
        f"{_control('READY', 'READY', _FLAG)} }}",
        controls=frozenset({"START", "READY"}),
    ),
    Model(
        "simple_dyna_sequence",
        (
            ("INPUT", "INT32", (-1, 1)),
            ("START", "INT32", (-1, 1)),
            ("END", "INT32", (-1, 1)),
            ("READY", "INT32", (-1, 1)),
            ("CORRID", "UINT64", (-1, 1)),
        ),
        (("OUTPUT", "INT32", (-1, 1)),),
        (
            ("Cast", ["CORRID"], ["id"], {"to": TensorProto.INT32}),
            ("Add", ["INPUT", "START"], ["begun"], {}),
            ("Mul", ["END", "id"], ["last"], {}),
            ("Add", ["begun", "last"], ["sum"], {}),
            ("Mul", ["READY", "sum"], ["OUTPUT"], {}),
        ),
        max_batch_size=8,
        config=f"sequence_batching {{ max_sequence_idle_microseconds: 10000000 "
        "oldest { max_candidate_sequences: 1024 max_queue_delay_microseconds: 10000 } "
        f"{_control('START', 'START', _FLAG)} {_control('END', 'END', _FLAG)} "
        f"{_control('READY', 'READY', _FLAG)} "
        f"{_control('CORRID', 'CORRID', 'data_type: TYPE_UINT64')} }} "
        "instance_group [{ count: 2 kind: KIND_CPU }]",
        controls=frozenset({"START", "END", "READY", "CORRID"}),
    ),
)
IDENTITIES = tuple(
    _identity(f"identity_{datatype.lower()}", datatype, (-1, -1)) for datatype in DATATYPES
)
SCORES = _identity("scores", "FP32", (-1, 4), max_batch_size=8, labels=LABELS)
#: One picture of 224 × 224 × 3 each way: 602,112 bytes.
PICTURE = Model(
    "picture",
    (("x", "FP32", (1, 150528)),),
    (("y", "FP32", (1, 150528)),),
    (("Relu", ["x"], ["y"], {}),),
)
RAW = _identity("raw", "FP32", (-1, 4), max_batch_size=8)  # one variable dimension
ALL = (*EXAMPLES, *IDENTITIES, SCORES, PICTURE, RAW)

#: Runs the ``model.onnx`` beside it with one thread, whatever it takes.
_PYTHON_MODEL = """\
import os
import sys

# The stub embeds Python's library, which knows no virtual environment nor PYTHONPATH.
sys.path[:0] = {packages!r}

import numpy as np
import onnxruntime
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = onnxruntime.InferenceSession(
            path, options, providers=["CPUExecutionProvider"]
        )
        self.inputs = [(tensor.name, tensor.type) for tensor in self.session.get_inputs()]
        self.outputs = [tensor.name for tensor in self.session.get_outputs()]

    def execute(self, requests):
        return [self.run(request) for request in requests]

    def run(self, request):
        feed = {{}}
        for name, kind in self.inputs:
            array = pb_utils.get_input_tensor_by_name(request, name).as_numpy()
            if kind == "tensor(string)":
                array = np.array([v.decode() for v in array.flat], object).reshape(array.shape)
            feed[name] = array
        wanted = [name for name in self.outputs if name in request.requested_output_names()]
        try:
            answers = self.session.run(wanted, feed)
        except Exception as exc:
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(exc)))
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(name, encoded(a)) for name, a in zip(wanted, answers)]
        )


def encoded(array):
    if array.dtype != object:
        return array
    return np.array([v.encode() for v in array.flat], object).reshape(array.shape)
"""


def write_triton_repository(
    folder: Path, models: Sequence[Model] = ALL, *, packages: Sequence[str] = ()
) -> Path:
    """Write a model repository that tritonserver's Python backend runs; the folder.

    Args:
        folder: Where to.
        models: Which.
        packages: Folders that the models' Python finds onnxruntime in.
    """
    program = _PYTHON_MODEL.format(packages=list(packages))
    for model in models:
        home = folder / model.name
        (home / "1").mkdir(parents=True)
        (home / "1" / "model.onnx").write_bytes(model.onnx())
        (home / "1" / "model.py").write_text(program)
        (home / "config.pbtxt").write_text(model.triton_config())
        if model.labels:
            (home / "labels.txt").write_text("".join(f"{label}\n" for label in model.labels))
    return folder


def write_machine_config(folder: Path, models: Sequence[Model] = ALL) -> Path:
    """Write the same models, and a machine config that serves them; the config's file."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "machine.json"
    path.write_text(json.dumps({"services": list(_services(folder, models))}, indent=1))
    return path


def _services(folder: Path, models: Sequence[Model]) -> Iterator[dict[str, Any]]:
    for model in models:
        home = folder / model.name
        home.mkdir()
        (home / "model.onnx").write_bytes(model.onnx())
        attributes: dict[str, Any] = {
            "model_path": str(home / "model.onnx"),
            "num_threads": 1,
            "max_batch_size": model.max_batch_size,
        }
        if model.labels:
            (home / "labels.txt").write_text("".join(f"{label}\n" for label in model.labels))
            attributes["label_path"] = str(home / "labels.txt")
        yield {
            "name": model.name,
            "api": "rdk:service:mlmodel",
            "model": "onnx_cpu",
            "attributes": attributes,
        }
