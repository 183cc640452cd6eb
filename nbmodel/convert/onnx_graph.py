"""Edits of an ONNX graph that converters need: names, shapes and outputs people can rely on.

Converters name tensors as suits them (``sepal_length__cm_``, ``variable``, ``output_label``)
and now and then declare a shape that is not the one they give. Nothing here computes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def rename_inputs(model: Any, names: Sequence[str]) -> None:
    """Give the graph's inputs these names, in order."""
    for value, name in zip(list(model.graph.input), names, strict=True):
        if value.name != name:
            _make_free(model.graph, name)
            _rename(model.graph, value.name, name)


def split_input(model: Any, columns: Mapping[str, NDArray[Any]]) -> None:
    """Replace the graph's one [rows, columns] input by one [rows, 1] input a column.

    Args:
        model: A ModelProto with a single input.
        columns: Name → an array with the datatype of that column's input. Numbers are
            cast to the type of the input they replace.
    """
    from onnx import helper

    graph = model.graph
    whole = graph.input[0]
    element = whole.type.tensor_type.elem_type
    joined = _unused(graph, whole.name)
    _rename(graph, whole.name, joined)
    del graph.input[:]
    parts, nodes = [], []
    for name, array in columns.items():
        _make_free(graph, name)
        kind = helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(helper.make_tensor_value_info(name, kind, [None, 1]))
        part = name
        if kind != element:
            part = _unused(graph, f"{name}_cast")
            nodes.append(helper.make_node("Cast", [name], [part], to=element))
        parts.append(part)
    nodes.append(helper.make_node("Concat", parts, [joined], axis=1))
    _prepend(graph, nodes)


def present_outputs(model: Any, answers: Mapping[str, NDArray[Any]]) -> None:
    """Let the graph's outputs be those of ``answers``, in name, order and shape.

    Args:
        model: A ModelProto with as many outputs or more; those beyond are taken out.
        answers: Name → what the output is for ``rows`` inputs. The first axis of a
            vector or matrix is declared variable, as is the second of a stack of matrices,
            one for each of several targets. A vector is made of whatever shape there is.
    """
    from onnx import helper

    graph = model.graph
    del graph.output[len(answers) :]
    for position, (name, answer) in enumerate(answers.items()):
        value = graph.output[position]
        if answer.ndim == 1 and len(value.type.tensor_type.shape.dim) != 1:
            value.name = _flatten(graph, value.name)
        if value.name != name:
            _make_free(graph, name)
            _rename(graph, value.name, name)
        shape: list[int | None] = list(answer.shape)
        shape[max(0, answer.ndim - 2)] = None
        element = value.type.tensor_type.elem_type
        value.CopyFrom(helper.make_tensor_value_info(name, element, shape))


def output_datatypes(model: Any) -> list[np.dtype[Any] | None]:
    """The dtype of each output; None for those that are no tensors."""
    from onnx import helper

    return [
        helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
        if value.type.HasField("tensor_type")
        else None
        for value in model.graph.output
    ]


def set_locale(model: Any, locale: str) -> None:
    """Let every StringNormalizer change case by this locale."""
    from onnx import helper

    for node in model.graph.node:
        if node.op_type == "StringNormalizer":
            kept = [attribute for attribute in node.attribute if attribute.name != "locale"]
            del node.attribute[:]
            node.attribute.extend((*kept, helper.make_attribute("locale", locale)))


def _flatten(graph: Any, name: str) -> str:
    from onnx import helper, numpy_helper

    shape, flat = _unused(graph, f"{name}_shape"), _unused(graph, f"{name}_flat")
    graph.initializer.append(numpy_helper.from_array(np.array([-1], np.int64), shape))
    graph.node.append(helper.make_node("Reshape", [name, shape], [flat]))
    return flat


def _prepend(graph: Any, nodes: Sequence[Any]) -> None:
    following = list(graph.node)
    del graph.node[:]
    graph.node.extend((*nodes, *following))


def _make_free(graph: Any, name: str) -> None:
    """Rename whatever has this name already."""
    if name in set(_names(graph)):
        _rename(graph, name, _unused(graph, name))


def _unused(graph: Any, stem: str) -> str:
    taken = set(_names(graph))
    return next(name for i in range(len(taken) + 1) if (name := f"{stem}_{i}") not in taken)


def _names(graph: Any) -> Iterator[str]:
    for value in (*graph.input, *graph.output, *graph.initializer):
        yield value.name
    for node in graph.node:
        yield from node.input
        yield from node.output
        for inner in _subgraphs(node):
            yield from _names(inner)


def _rename(graph: Any, old: str, new: str) -> None:
    for value in (*graph.input, *graph.output, *graph.initializer, *graph.value_info):
        if value.name == old:
            value.name = new
    for node in graph.node:
        for names in (node.input, node.output):
            for position, name in enumerate(names):
                if name == old:
                    names[position] = new
        for inner in _subgraphs(node):
            _rename(inner, old, new)


def _subgraphs(node: Any) -> Iterator[Any]:
    for attribute in node.attribute:
        if attribute.HasField("g"):
            yield attribute.g
        yield from attribute.graphs
