"""Makes the small models in ``tests/data/formats``, each with what its framework says of it.

Frameworks are too large to be installed for the tests, so what they wrote is kept. Run this
with a Python that has one of them::

    python tests/tools/make_formats.py tensorflow|torch|openvino tests/data/formats

Beside a model ``NAME`` is ``NAME.json``: inputs and outputs as loaded again by the framework.
"""

from __future__ import annotations

import json
import shutil
import sys
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

#: What frameworks call datatypes → the protocol's names.
DATATYPES = {
    "float32": "FP32", "f32": "FP32", "float64": "FP64", "float16": "FP16", "f16": "FP16",
    "bfloat16": "BF16", "int64": "INT64", "i64": "INT64", "int32": "INT32", "int8": "INT8",
    "uint8": "UINT8", "u8": "UINT8", "bool": "BOOL", "boolean": "BOOL", "string": "BYTES",
}  # fmt: skip
Row = tuple[str, str, "list[int] | None"]


def said(path: Path, by: str, inputs: Iterable[Row], outputs: Iterable[Row]) -> None:
    """Write what a framework says of a model's tensors: name, datatype, shape."""
    content = {"by": by, "inputs": list(inputs), "outputs": list(outputs)}
    path.with_name(f"{path.name}.json").write_text(json.dumps(content, indent=1) + "\n")


def tensorflow(folder: Path) -> None:
    """SavedModels: by ``tf.saved_model``, by Keras, and by TensorFlow 1."""
    import tensorflow as tf

    class Linear(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])

        @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32, name="x")])
        def linear(self, x: Any) -> Any:
            return {"y": x @ self.w}

        @tf.function(
            input_signature=[
                tf.TensorSpec(None, tf.string, name="words"),
                tf.TensorSpec([], tf.int64, name="count"),
                tf.TensorSpec([2, None], tf.bool, name="mask"),
            ]
        )
        def many(self, words: Any, count: Any, mask: Any) -> Any:
            return {"words": words, "next": count + 1, "half": tf.cast(mask, tf.float16)}

    model = Linear()
    save = tf.saved_model.save
    save(model, str(folder / "linear"), signatures={"serving_default": model.linear})
    save(
        model,
        str(folder / "many"),
        signatures={"serving_default": model.many, "linear": model.linear},
    )
    save(model, str(folder / "only_other"), signatures={"predict": model.linear})
    save(model, str(folder / "two_others"), signatures={"a": model.linear, "b": model.many})
    save(tf.Module(), str(folder / "none"))

    keras = tf.keras.Sequential([tf.keras.Input((4,), name="rows"), tf.keras.layers.Dense(3)])
    keras.export(str(folder / "keras"), verbose=False)

    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 2], "x")
        y = tf.identity(x * 2.0, "y")
        v1.saved_model.simple_save(session, str(folder / "tensorflow1"), {"x": x}, {"y": y})

    for name in ("linear", "many", "only_other", "keras", "tensorflow1"):
        loaded = tf.saved_model.load(str(folder / name))
        function = next(iter(loaded.signatures.values()))
        if "serving_default" in loaded.signatures:
            function = loaded.signatures["serving_default"]
        takes = function.structured_input_signature[1]
        if not takes:  # TensorFlow 1 has no structure
            takes = {tensor.name.partition(":")[0]: tensor for tensor in function.inputs}
        said(
            folder / name,
            f"tensorflow {tf.__version__}",
            sorted(_tensorflow(name, tensor) for name, tensor in takes.items()),
            sorted(_tensorflow(*each) for each in function.structured_outputs.items()),
        )


def _tensorflow(name: str, tensor: Any) -> Row:
    shape = None
    if tensor.shape.rank is not None:
        shape = [-1 if dim is None else dim for dim in tensor.shape.as_list()]
    return name, DATATYPES[tensor.dtype.name], shape


def torch(folder: Path) -> None:
    """TorchScript, ``torch.export``, AOTInductor, and what ``torch.save`` writes."""
    from typing import NamedTuple, Optional

    import torch

    class Linear(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(2, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.linear(x)

    class Two(torch.nn.Module):
        def forward(
            self, image: torch.Tensor, mask: torch.Tensor, note: str = "a, b) -> (", k: int = 3
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return image * k, mask > 0

    # Annotations of a class statement would be texts here, which torch cannot read.
    Answer = NamedTuple("Answer", [("boxes", torch.Tensor), ("scores", torch.Tensor)])  # noqa: UP014

    class Named(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> Answer:
            return Answer(x, x)

    class Rich(torch.nn.Module):
        def forward(
            self,
            xs: list[torch.Tensor],
            extra: Optional[torch.Tensor] = None,  # noqa: UP045
        ) -> dict[str, torch.Tensor]:
            return {"x": xs[0]}

    model = Linear().eval()
    scripted = {
        "scripted": torch.jit.script(model),
        "traced": torch.jit.trace(model, torch.ones(1, 2)),
        "frozen": torch.jit.freeze(torch.jit.script(model)),
        "two": torch.jit.script(Two()),
        "named": torch.jit.script(Named()),
        "rich": torch.jit.script(Rich()),
    }
    notes = {"description": "A toy.", "task": "classify", "names": {0: "cat", 1: "dog"}}
    for name, module in scripted.items():
        path = folder / f"{name}.pt"
        extra = {"config.txt": json.dumps(notes)} if name == "named" else {}
        module.save(str(path), _extra_files=extra)
        schema = torch.jit.load(str(path)).forward.schema
        takes = [(one.name, str(one.type), None) for one in schema.arguments[1:]]
        gives = [(one.name, str(one.type), None) for one in schema.returns]
        said(path, f"torch {torch.__version__}", takes, gives)
        _without(path, (".debug_pkl",))
    torch.save(model.state_dict(), folder / "state_dict.pt")
    torch.save(torch.nn.Linear(2, 3), folder / "module.pt")
    torch.save(model.state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    _exported(folder)


def _exported(folder: Path) -> None:
    import torch

    class Many(torch.nn.Module):
        def forward(self, x: torch.Tensor, d: dict[str, torch.Tensor], k: int = 3) -> Any:
            return {"scaled": x * k, "mask": d["a"] > 0}

    class Pair(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = torch.nn.Linear(2, 3)
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x: torch.Tensor, z: torch.Tensor) -> Any:
            self.seen.add_(1)
            return self.linear(x), z.to(torch.bfloat16)

    rows = torch.export.Dim("rows", min=1, max=64)
    programs = {
        "pair": torch.export.export(
            Pair().eval(),
            (torch.ones(2, 2), torch.ones(4, dtype=torch.int32)),
            dynamic_shapes=({0: rows}, None),
        ),
        "many": torch.export.export(
            Many().eval(), (torch.ones(2, 2), {"a": torch.ones(3, dtype=torch.int64)}), {"k": 4}
        ),
    }
    for name, program in programs.items():
        path = folder / f"{name}.pt2"
        for node in program.graph.nodes:
            node.meta.pop("stack_trace", None)  # paths of this machine
        torch.export.save(program, path)
        loaded = torch.export.load(path)
        by_name = {node.name: node.meta["val"] for node in loaded.graph.nodes if "val" in node.meta}
        keys = ["scaled", "mask"] if name == "many" else list(loaded.graph_signature.user_outputs)
        said(
            path,
            f"torch {torch.__version__}",
            (
                _torch(each, by_name[each])
                for each in loaded.graph_signature.user_inputs
                if isinstance(each, str)
            ),
            (
                _torch(key, by_name[each])
                for key, each in zip(keys, loaded.graph_signature.user_outputs, strict=True)
            ),
        )
    compiled = folder / "compiled.pt2"
    torch._inductor.aoti_compile_and_package(programs["pair"], package_path=str(compiled))
    _without(compiled, (), emptied=(".so", ".cpp"))


def _torch(name: str, value: Any) -> Row:
    import torch

    shape = [dim if isinstance(dim, int) else -1 for dim in value.shape]
    assert isinstance(value, torch.Tensor)
    return name, DATATYPES[str(value.dtype).removeprefix("torch.")], shape


def _without(path: Path, dropped: tuple[str, ...], emptied: tuple[str, ...] = ()) -> None:
    """Leave out of an archive what nobody reads: machine code, and paths of this machine."""
    with zipfile.ZipFile(path) as archive:
        kept = [
            (entry, b"" if entry.filename.endswith(emptied) else archive.read(entry))
            for entry in archive.infolist()
            if not entry.filename.endswith(dropped)
        ]
    with zipfile.ZipFile(path, "w") as archive:
        for entry, content in kept:
            archive.writestr(entry.filename, content, entry.compress_type)


def openvino(folder: Path) -> None:
    """IR of a graph with weights, of one with every kind of dimension, and of an ONNX model."""
    import numpy as np
    import openvino as ov
    from openvino import opset13 as ops

    x = ops.parameter([-1, 2], np.float32, name="x")
    w = ops.constant(np.array([[1, 2, 3], [4, 5, 6]], np.float32))
    y = ops.matmul(x, w, False, False)
    x.output(0).set_names({"x"})
    y.output(0).set_names({"y"})
    linear = ov.Model([ops.result(y)], [x], "linear")

    sizes = ov.PartialShape([ov.Dimension(1, 8), 3, -1])
    some = ops.parameter(sizes, np.uint8, name="some")
    any_rank = ops.parameter(ov.PartialShape.dynamic(), np.int64, name="any")
    some.output(0).set_names({"some,with,commas"})
    results = [
        ops.result(ops.relu(ops.convert(some, "f16")), name="first"),
        ops.result(ops.abs(any_rank)),
    ]
    dims = ov.Model(results, [some, any_rank], "dims")

    condition = ops.parameter([], np.bool_, name="condition")
    inner = ops.parameter([2], np.float32, name="inner")
    body = ov.Model([ops.result(ops.relu(inner))], [inner], "body")
    other = ops.parameter([2], np.float32, name="other")
    negative = ov.Model([ops.result(ops.negative(other))], [other], "negative")
    outer = ops.parameter([2], np.float32, name="outer")
    branch = ops.if_op(condition.output(0))
    branch.set_then_body(body)
    branch.set_else_body(negative)
    branch.set_input(outer.output(0), inner, other)
    chosen = branch.set_output(body.results[0], negative.results[0])
    nested = ov.Model([ops.result(chosen, name="chosen")], [condition, outer], "nested")

    for name, model in (("linear", linear), ("dims", dims), ("nested", nested)):
        path = folder / f"{name}.xml"
        ov.save_model(model, path, compress_to_fp16=False)
        loaded = ov.Core().read_model(path)
        said(
            path,
            f"openvino {ov.__version__}",
            map(_openvino, loaded.inputs),
            map(_openvino, loaded.outputs),
        )


def _openvino(port: Any) -> Row:
    rank = port.get_partial_shape().rank
    shape = None
    if rank.is_static:
        shape = [dim.get_length() if dim.is_static else -1 for dim in port.get_partial_shape()]
    names = port.get_names()
    name = port.get_any_name() if names else port.get_node().get_friendly_name()
    return name, DATATYPES[port.get_element_type().get_type_name()], shape


def main() -> None:
    """Make the models of one framework, in a folder of its own."""
    framework, target = sys.argv[1:]
    folder = Path(target) / framework
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    warnings.simplefilter("ignore")
    {"tensorflow": tensorflow, "torch": torch, "openvino": openvino}[framework](folder)


if __name__ == "__main__":
    main()
