"""Networks of the shape and size of those that cameras run, with weights that mean nothing.

Layer for layer as their papers have them, batch normalisation folded into the convolutions as
an export does: how long an engine takes does not depend on what the weights say.

Source: Sandler et al. 2018, "MobileNetV2", table 2; He et al. 2016, "Deep Residual Learning",
table 1 (50 layers), with the stride in the 3×3 convolution.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

SIZE = 224  # pixels of a picture, both ways
CLASSES = 1000
#: Expansion, channels, repeats, stride of each group of blocks.
_MOBILE = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
           (6, 160, 3, 2), (6, 320, 1, 1))  # fmt: skip
#: Channels of the narrow convolutions, repeats, stride of each group of blocks.
_RESIDUAL = ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2))


class _Network:
    """A graph that grows layer by layer; layers are known by the name of their output."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._nodes: list[object] = []
        self._weights: list[object] = []

    def convolution(
        self,
        x: str,
        inputs: int,
        outputs: int,
        *,
        kernel: int = 1,
        stride: int = 1,
        groups: int = 1,
        act: str = "Relu",
    ) -> str:
        """A convolution with a bias, and what comes after it: ``Relu``, ``Clip`` or nothing."""
        shape = (outputs, inputs // groups, kernel, kernel)
        weight, bias = self._weight(shape), self._weight((outputs,))
        y = self._node(
            "Conv",
            [x, weight, bias],
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[kernel // 2] * 4,
            group=groups,
        )
        if act == "Clip":
            return self._node("Clip", [y, self._constant(0.0), self._constant(6.0)])
        return self._node(act, [y]) if act else y

    def add(self, x: str, y: str, act: str = "") -> str:
        """The sum of two layers."""
        both = self._node("Add", [x, y])
        return self._node(act, [both]) if act else both

    def pool(self, x: str) -> str:
        """The largest of each 3×3 pixels, every second one."""
        return self._node("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)

    def write(self, path: Path, x: str, channels: int) -> Path:
        """End in the mean over all pixels and a dense layer, and write it."""
        flat = self._node("Flatten", [self._node("GlobalAveragePool", [x])])
        weight, bias = self._weight((channels, CLASSES)), self._weight((CLASSES,))
        self._nodes.append(helper.make_node("Gemm", [flat, weight, bias], ["scores"]))
        graph = helper.make_graph(
            self._nodes,
            path.stem,
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIZE, SIZE])],
            [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
            self._weights,
        )
        opsets = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
        path.write_bytes(model.SerializeToString())
        return path

    def _node(self, kind: str, inputs: list[str], **attributes: object) -> str:
        name = f"n{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def _weight(self, shape: tuple[int, ...]) -> str:
        fan_in = max(1, int(np.prod(shape[1:])))
        values = self._random.standard_normal(shape, np.float32) * np.float32(fan_in**-0.5)
        return self._constant(values)

    def _constant(self, values: object) -> str:
        name = f"w{len(self._weights)}"
        array = np.asarray(values, np.float32)
        self._weights.append(numpy_helper.from_array(array, name))
        return name


def write_mobilenet(path: Path) -> Path:
    """Write a network of MobileNetV2's shape: 3.5 million weights, 0.3 GMAC."""
    net = _Network(1)
    x, channels = net.convolution("image", 3, 32, kernel=3, stride=2, act="Clip"), 32
    for expansion, outputs, repeats, first in _MOBILE:
        for index in range(repeats):
            wide, stride = channels * expansion, first if index == 0 else 1
            y = net.convolution(x, channels, wide, act="Clip") if expansion > 1 else x
            y = net.convolution(y, wide, wide, kernel=3, stride=stride, groups=wide, act="Clip")
            y = net.convolution(y, wide, outputs, act="")
            x = net.add(x, y) if stride == 1 and channels == outputs else y
            channels = outputs
    return net.write(path, net.convolution(x, channels, 1280, act="Clip"), 1280)


def write_resnet50(path: Path) -> Path:
    """Write a network of ResNet-50's shape: 25.6 million weights, 4.1 GMAC."""
    net = _Network(2)
    x, channels = net.pool(net.convolution("image", 3, 64, kernel=7, stride=2)), 64
    for narrow, repeats, first in _RESIDUAL:
        outputs = narrow * 4
        for index in range(repeats):
            stride = first if index == 0 else 1
            y = net.convolution(x, channels, narrow)
            y = net.convolution(y, narrow, narrow, kernel=3, stride=stride)
            y = net.convolution(y, narrow, outputs, act="")
            if channels != outputs:
                x = net.convolution(x, channels, outputs, stride=stride, act="")
            x, channels = net.add(x, y, act="Relu"), outputs
    return net.write(path, x, channels)
