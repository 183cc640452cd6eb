"""A real MobileNet of the test models as an ONNX file: the weights of its TFLite file.

Quantised as that is: each layer's answer passes through the same steps of 1/scale, so both
files answer alike, but for where they round. Operators are those that MobileNets have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

_TYPES = {np.dtype(np.uint8): TensorProto.UINT8}


def mobilenet_onnx(path: Path) -> bytes:
    """The model in a TFLite file as ONNX: one picture, UINT8[1,224,224,3], to UINT8[1,1001].

    Args:
        path: Of a quantised MobileNet.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        str(path), experimental_op_resolver_type=OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    )
    interpreter.allocate_tensors()
    return _Graph(interpreter).onnx()


class _Graph:
    """An ONNX graph that grows with the layers of a TFLite one; pictures have channels first."""

    def __init__(self, interpreter: Any) -> None:
        self._engine = interpreter
        self._tensors = {one["index"]: one for one in interpreter.get_tensor_details()}
        self._nodes: list[Any] = []
        self._constants: list[Any] = []
        self._names: dict[int, str] = {}

    def onnx(self) -> bytes:
        (given,), (wanted,) = self._engine.get_input_details(), self._engine.get_output_details()
        whole = self._add("DequantizeLinear", ["image", *self._steps(given["index"])])
        self._names[given["index"]] = self._add("Transpose", [whole], perm=[0, 3, 1, 2])
        for layer in self._engine._get_ops_details():
            self._layer(layer["op_name"], list(layer["inputs"]), int(layer["outputs"][0]))
        last = self._nodes[-1]  # what the model answers is what goes into its last step
        self._nodes[-1] = helper.make_node("Identity", [last.input[0]], ["scores"])
        graph = helper.make_graph(
            self._nodes,
            "mobilenet",
            [_value("image", given)],
            [_value("scores", wanted)],
            self._constants,
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        content: bytes = model.SerializeToString()
        return content

    def _layer(self, kind: str, inputs: list[int], output: int) -> None:
        x = self._names[inputs[0]]
        if kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            y = self._convolution(x, *inputs, output, is_deep=kind == "CONV_2D")
        elif kind == "ADD":
            y = self._add("Add", [x, self._names[inputs[1]]])
        elif kind == "AVERAGE_POOL_2D":  # over all that there is
            y = self._add("GlobalAveragePool", [x])
        elif kind == "RESHAPE":  # of a picture of one point
            shape = self._constant(np.array(self._tensors[output]["shape"], np.int64))
            y = self._add("Reshape", [x, shape])
        elif kind == "SOFTMAX":
            y = self._add("Softmax", [x], axis=-1)
        else:
            raise ValueError(f"no MobileNet has {kind}")
        steps = self._steps(output)
        whole = self._add("QuantizeLinear", [y, *steps])
        self._names[output] = self._add("DequantizeLinear", [whole, *steps])

    def _convolution(
        self, x: str, given: int, weights: int, bias: int, output: int, *, is_deep: bool
    ) -> str:
        order = (0, 3, 1, 2) if is_deep else (3, 0, 1, 2)
        kernel = np.ascontiguousarray(self._engine.get_tensor(weights).transpose(order))
        scale = self._scale(given) * self._scale(weights)
        added = (self._engine.get_tensor(bias) * scale).astype(np.float32)
        before, after = self._tensors[given]["shape"], self._tensors[output]["shape"]
        stride = -(-int(before[1]) // int(after[1]))
        return self._add(
            "Conv",
            [
                x,
                self._add("DequantizeLinear", [self._constant(kernel), *self._steps(weights)]),
                self._constant(added),
            ],
            kernel_shape=list(kernel.shape[2:]),
            strides=[stride] * 2,
            auto_pad="SAME_UPPER",
            group=1 if is_deep else kernel.shape[0],
        )

    def _scale(self, index: int) -> np.float32:
        return np.float32(self._tensors[index]["quantization_parameters"]["scales"][0])

    def _steps(self, index: int) -> list[str]:
        zero = self._tensors[index]["quantization_parameters"]["zero_points"][0]
        return [self._constant(self._scale(index)), self._constant(np.uint8(zero))]

    def _constant(self, array: Any) -> str:
        name = f"c{len(self._constants)}"
        self._constants.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name


def _value(name: str, detail: dict[str, Any]) -> Any:
    shape = [int(size) for size in detail["shape"]]
    return helper.make_tensor_value_info(name, _TYPES[np.dtype(detail["dtype"])], shape)
