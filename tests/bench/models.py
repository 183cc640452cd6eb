"""Model files to measure with: as large as wanted, made in the time it takes to write them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnx import GraphProto, ModelProto, TensorProto, helper, numpy_helper

MIB = 1024 * 1024
_GRAPH = b"\x3a"  # ModelProto.graph, length-delimited
_INITIALIZER = b"\x2a"  # GraphProto.initializer
_RAW_DATA = b"\x4a"  # TensorProto.raw_data


def write_onnx(
    path: Path, *, tensors: int, tensor_bytes: int, seed: int = 0, holes: bool = False
) -> Path:
    """Write ``y = x`` with weights that nothing uses, inline, before its inputs and outputs.

    Protobuf's own writer would hold the whole file in memory; here the small messages are
    its, and the weights are put between them.

    Args:
        path: Where to.
        tensors: Number of weight tensors.
        tensor_bytes: Size of each; a multiple of 4.
        seed: Files of different seeds have different weights.
        holes: Leave the weights out of the file (zeros that take no disk) instead of
            filling them with bytes that do not compress.
    """
    head = GraphProto(name="large", node=[helper.make_node("Identity", ["x"], ["y"])])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [-1, 4]) for name in "xy"]
    tail = GraphProto(input=values[:1], output=values[1:]).SerializeToString()
    prefixes = [_tensor_prefix(index, tensor_bytes) for index in range(tensors)]
    graph = head.SerializeToString()
    size = len(graph) + sum(len(prefix) + tensor_bytes for prefix in prefixes) + len(tail)
    model = ModelProto(ir_version=8, opset_import=[helper.make_opsetid("", 17)])
    blocks = None if holes else _random_blocks(seed)
    with path.open("wb") as file:
        file.write(model.SerializeToString() + _GRAPH + _varint(size) + graph)
        for prefix in prefixes:
            file.write(prefix)
            if blocks is None:
                file.seek(tensor_bytes, os.SEEK_CUR)
                continue
            for start in range(0, tensor_bytes, MIB):
                file.write(next(blocks)[: tensor_bytes - start])
        file.write(tail)
    return path


def write_dense_onnx(path: Path, *, inputs: int, outputs: int, seed: int) -> Path:
    """Write ``y = x @ W`` with W FP32[inputs,outputs]; a model that an engine runs."""
    weights = np.random.default_rng(seed).standard_normal((inputs, outputs), np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "dense",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, inputs])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, outputs])],
        [numpy_helper.from_array(weights, "W")],
    )
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def write_layers_onnx(path: Path, *, body: int, head: int, seed: int, head_seed: int) -> Path:
    """Write ``y = head(body(x))``, x FP32[-1,64], with the head's weights last in the file.

    Args:
        path: Where to.
        body: Bytes of the weights below the head, roughly.
        head: Bytes of the head's, roughly.
        seed: Of the weights below the head.
        head_seed: Of the head's.
    """
    wide = body // 4 // 64 // 2
    classes = head // 4 // 64
    shapes = [(64, wide), (wide, 64), (64, classes)]
    tensors, nodes, name = [], [], "x"
    for index, shape in enumerate(shapes):
        generator = np.random.default_rng([head_seed if index == 2 else seed, index])
        weights = generator.standard_normal(shape, np.float32) / np.float32(shape[0] ** 0.5)
        tensors.append(numpy_helper.from_array(weights, f"W{index}"))
        nodes.append(helper.make_node("MatMul", [name, f"W{index}"], [f"y{index}"]))
        name = f"y{index}"
    graph = helper.make_graph(
        nodes,
        "layers",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, 64])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [-1, classes])],
        tensors,
    )
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return path


def write_times_onnx(path: Path, *, factor: float, width: int) -> Path:
    """Write ``y = factor · x``, FP32[-1,width], exactly, with ``4 · width²`` bytes of weights."""
    weights = np.eye(width, dtype=np.float32) * np.float32(factor)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "W"], ["y"])],
        "times",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [-1, width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [-1, width])],
        [numpy_helper.from_array(weights, "W")],
    )
    opsets = [helper.make_opsetid("", 17)]
    path.write_bytes(
        helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()
    )
    return path


def _tensor_prefix(index: int, size: int) -> bytes:
    """An initializer up to where its raw data begin."""
    tensor = TensorProto(name=f"w{index}", data_type=TensorProto.FLOAT, dims=[size // 4])
    body = tensor.SerializeToString() + _RAW_DATA + _varint(size)
    return _INITIALIZER + _varint(len(body) + size) + body


def _random_blocks(seed: int) -> Iterator[bytes]:
    """Blocks of 1 MiB: 16 random ones, over and over; hashing does not mind repetition."""
    generator = np.random.default_rng(seed)
    blocks = []
    for _ in range(16):
        blocks.append(generator.bytes(MIB))
        yield blocks[-1]
    while True:
        yield from blocks


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
