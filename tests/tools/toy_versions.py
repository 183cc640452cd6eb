"""Versions of a toy model that scales what it is given, good ones and bad ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from nbmodel.core.golden import Golden
from nbmodel.core.manifest import FileEntry, Manifest
from nbmodel.core.signature import Signature, Tensor
from nbmodel.golden import GoldenSample
from nbmodel.storage import Storage

MODEL = "scale"  # the repository
PACKAGE = "scale"  # its local name
SERVICE = "scaler"
ROW = np.array([[1, 2]], np.float32)
SIGNATURE = Signature((Tensor("x", "FP32", (-1, 2)),), (Tensor("y", "FP32", (-1, 2)),))


@dataclass(frozen=True, slots=True)
class Toy:
    """A version of the toy model.

    Attributes:
        number: Its integer.
        factor: What it scales by.
        digest: Of its manifest.
        raw: The manifest.
    """

    number: int
    factor: float
    digest: str
    raw: bytes

    @property
    def tags(self) -> tuple[str, str]:
        """What names it for good."""
        return str(self.number), stamp_of(self.number)


def stamp_of(number: int) -> str:
    """The timestamp id of the version of that number."""
    return f"2026-02-28T00-00-{number:02d}"


def scaling_onnx(factor: float) -> bytes:
    """A model, ``y = x * factor``: x FP32[-1,2]."""
    return _onnx(
        [helper.make_node("Mul", ["x", "f"], ["y"])],
        [numpy_helper.from_array(np.array([factor], np.float32), "f")],
    )


def hanging_onnx() -> bytes:
    """A model of the same signature that answers only after hours."""
    return _onnx(
        [helper.make_node("Loop", ["trips", "", "x"], ["y"], body=_counting())],
        [
            numpy_helper.from_array(np.array(2**40, np.int64), "trips"),
            numpy_helper.from_array(np.array([1], np.float32), "one"),
        ],
    )


def picky_onnx(factor: float) -> bytes:
    """The same as ``scaling_onnx``, but its engine fails at a row with more than 4 in it."""
    return _onnx(
        [
            helper.make_node("Cast", ["x"], ["places"], to=TensorProto.INT64),
            helper.make_node("Gather", ["zeros", "places"], ["nothing"]),
            helper.make_node("Mul", ["x", "f"], ["product"]),
            helper.make_node("Add", ["product", "nothing"], ["y"]),
        ],
        [
            numpy_helper.from_array(np.array([factor], np.float32), "f"),
            numpy_helper.from_array(np.zeros(5, np.float32), "zeros"),
        ],
    )


def sticky_onnx(factor: float) -> bytes:
    """The same as ``scaling_onnx``, but it takes hours for a row with a thousand in it."""
    return _onnx(
        [
            helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
            helper.make_node("Pow", ["most", "power"], ["many"]),
            helper.make_node("Cast", ["many"], ["trips"], to=TensorProto.INT64),
            helper.make_node("Loop", ["trips", "", "x"], ["same"], body=_counting()),
            helper.make_node("Mul", ["same", "f"], ["y"]),
        ],
        [
            numpy_helper.from_array(np.array([factor], np.float32), "f"),
            numpy_helper.from_array(np.array(4, np.float32), "power"),
            numpy_helper.from_array(np.array([1], np.float32), "one"),
        ],
    )


def toy(
    storage: Storage,
    number: int,
    factor: float,
    *,
    golden: float | None = None,
    files: Mapping[str, bytes] | None = None,
    framework: str = "onnx",
) -> Toy:
    """Put a version into a storage.

    Args:
        storage: Where its blobs go.
        number: Its integer, 0..59.
        factor: What it scales by.
        golden: The factor that its golden sample was made with; None for its own.
        files: Path → content, in place of its model file.
        framework: Of that file.
    """
    content = {"model.onnx": scaling_onnx(factor)} if files is None else dict(files)
    content["golden.npz"] = GoldenSample(
        {"x": ROW}, {"y": ROW * (factor if golden is None else golden)}
    ).to_bytes()
    manifest = Manifest(
        name=MODEL,
        created=f"2026-02-28T00:00:{number:02d}.000000Z",
        files=tuple(
            FileEntry(path, len(data), storage.add_bytes(data))
            for path, data in sorted(content.items())
        ),
        framework=framework,
        model_type="other",
        signature=SIGNATURE,
        golden=Golden(),
    )
    storage.add_bytes(manifest.config_bytes())
    raw = manifest.manifest_bytes()
    return Toy(number, factor, storage.add_bytes(raw), raw)


def machine(version: str = "latest", **deployment: Any) -> dict[str, Any]:
    """A machine config that serves the toy model.

    Args:
        version: Which one: ``latest``, a number, a timestamp id.
        deployment: Keys of the service's ``deployment``.
    """
    return {
        "packages": [
            {"name": PACKAGE, "package": f"local/{MODEL}", "version": version, "type": "ml_model"}
        ],
        "services": [
            {
                "name": SERVICE,
                "api": "rdk:service:mlmodel",
                "model": "onnx_cpu",
                "attributes": {"model_path": "${packages.ml_model.scale}/model.onnx"},
                "deployment": deployment,
            }
        ],
    }


def _counting() -> Any:
    """A loop's body that leaves what it is given as it is."""
    number, truth = TensorProto.INT64, TensorProto.BOOL
    value = helper.make_tensor_value_info
    return helper.make_graph(
        [
            helper.make_node("Identity", ["go_on"], ["goes_on"]),
            helper.make_node("Mul", ["before", "one"], ["after"]),
        ],
        "body",
        [
            value("i", number, []),
            value("go_on", truth, []),
            value("before", TensorProto.FLOAT, ["n", 2]),
        ],
        [value("goes_on", truth, []), value("after", TensorProto.FLOAT, ["n", 2])],
    )


def _onnx(nodes: list[Any], constants: list[Any]) -> bytes:
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 2])],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content
