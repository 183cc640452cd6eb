"""``torch.export`` archives: a graph as JSON with every shape, weights beside it.

An archive that AOTInductor compiled has machine code in the graph's place: it says for which
machine, and nothing of its tensors.

Source: torch/_export/serde/schema.py, torch/export/pt2_archive/constants.py
(https://github.com/pytorch/pytorch).
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, ClassVar, cast

from nbmodel.core.model_type import model_type_of
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.archive import Archive
from nbmodel.formats.base import Format, ModelFacts, distinct_names
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.torch_archive import torch_archive

_WHAT = "a torch.export archive"
_MAX_GRAPH = 32 << 20  # bytes of JSON; that of a model with a hundred layers has about one
_MAX_NOTES = 1 << 20  # bytes
_MAX_TENSORS = 20_000  # inputs or outputs
_MAX_RANK = 1024
_MAX_NAME = 1 << 12  # characters of a tensor's name
#: ``ScalarType`` by number.
DATATYPES = {
    0: "UNKNOWN", 1: "UINT8", 2: "INT8", 3: "INT16", 4: "INT32", 5: "INT64", 6: "FP16", 7: "FP32",
    8: "FP64", 9: "UNKNOWN", 10: "COMPLEX64", 11: "COMPLEX128", 12: "BOOL", 13: "BF16",
    28: "UINT16", 29: "FP8E4M3FN", 30: "FP8E5M2", 31: "FP8E4M3FNUZ", 32: "FP8E5M2FNUZ",
    33: "FP8E8M0", 34: "UINT32", 35: "UINT64",
}  # fmt: skip
#: Arguments that are no tensors: what a caller gives for them.
_SCALARS = {
    "as_int": "INT64",
    "as_sym_int": "INT64",
    "as_float": "FP64",
    "as_sym_float": "FP64",
    "as_bool": "BOOL",
    "as_sym_bool": "BOOL",
    "as_string": "BYTES",
}
_OLD = "serialized_exported_program.json"  # before archives had a format of their own
_COMPILED = "data/aotinductor/"
_GRAPH = re.compile(r"models/([^/]+)\.json")
_COMPILED_FOR = {
    "AOTI_DEVICE_KEY": "device",
    "AOTI_PLATFORM": "platform",
    "AOTI_MACHINE": "machine",
    "AOTI_CPU_ISA": "cpu_isa",
    "AOTI_COMPUTE_CAPABILITY": "compute_capability",
}


class TorchExport(Format):
    """``.pt2`` files."""

    name: ClassVar[str] = "torch_export"
    suffixes: ClassVar[tuple[str, ...]] = (".pt2",)
    is_archive: ClassVar[bool] = True

    def sniff(self, head: bytes) -> bool:  # noqa: ARG002 - weights come first
        """Never: the start of an archive says nothing about it."""
        return False

    def sniff_archive(self, names: Collection[str]) -> bool:
        """Whether it says its format, or has the graph where it used to be."""
        return "archive_format" in names or _OLD in names

    def _read(self, source: ByteSource) -> ModelFacts:
        archive = torch_archive(source, _WHAT)
        names = archive.names
        graphs = sorted(match[1] for name in names if (match := _GRAPH.fullmatch(name)))
        if not graphs and _OLD not in names:
            return _compiled(archive)
        chosen = "model" if "model" in graphs else next(iter(graphs), "")
        path = f"models/{chosen}.json" if graphs else _OLD
        program = _json(archive, path, _MAX_GRAPH)
        try:
            signature = _signature(program)
        except (LookupError, TypeError, ValueError, AttributeError, StopIteration) as exc:
            raise FormatError(f"{path}: expected an exported program, found {exc!r}") from exc
        return ModelFacts(
            framework=self.name,
            signature=signature,
            model_type=model_type_of(signature),
            metadata=_metadata(program, [name for name in graphs if name != chosen]),
        )


def _json(archive: Archive, path: str, max_size: int) -> Mapping[str, Any]:
    try:
        data = json.loads(archive.read(path, max_size) or b"")
    except (ValueError, RecursionError) as exc:
        raise FormatError(f"{path} is not JSON: {exc}") from exc
    if not isinstance(data, dict):
        raise FormatError(f"{path}: expected an object, found {type(data).__name__}")
    return data


def _compiled(archive: Archive) -> ModelFacts:
    """What is known of machine code: the machine it is for."""
    notes = sorted(
        name
        for name in archive.names
        if name.startswith(_COMPILED) and name.endswith("metadata.json")
    )
    if not notes:
        raise FormatError(
            f"not {_WHAT}: neither a graph nor compiled code in it",
            hint="torch.export.save(torch.export.export(model, (example,)), 'model.pt2')",
        )
    said = _json(archive, notes[0], _MAX_NOTES)
    return ModelFacts(
        framework=TorchExport.name,
        signature=Signature(),
        metadata={
            "compiled_for": {
                ours: _note(said[name]) for name, ours in _COMPILED_FOR.items() if said.get(name)
            }
        },
        gap="an archive that AOTInductor compiled does not tell its tensors",
    )


def _metadata(program: Mapping[str, Any], others: list[str]) -> dict[str, Any]:
    schema = _numbers(program.get("schema_version"))
    found = {
        "torch_version": _note(program.get("torch_version", "")),
        "opset": _numbers(program.get("opset_version")),
        "schema_version": ".".join(
            str(schema[part]) for part in ("major", "minor") if part in schema
        ),
        "other_graphs": others[:100],
    }
    return {key: value for key, value in found.items() if value}


def _numbers(value: object) -> dict[str, int]:
    """What is a number of a small object."""
    pairs = list(value.items())[:100] if isinstance(value, dict) else []
    return {_note(key): number for key, number in pairs if type(number) is int}


def _note(value: object) -> str:
    """A short text, or nothing; JSON may have halves of characters, which nothing can write."""
    text = value[:200] if isinstance(value, str) else ""
    return text.encode(errors="replace").decode()


def _signature(program: Mapping[str, Any]) -> Signature:
    module = program["graph_module"]
    values: Mapping[str, Any] = module["graph"]["tensor_values"]
    signature = module["signature"]
    takes = _arguments(signature, "input_specs", "user_input", "user_inputs")
    gives = _arguments(signature, "output_specs", "user_output", "user_outputs")
    outputs = [tensor for arg in gives if (tensor := _tensor(arg, values))]
    names = _result_names(module, len(gives)) if len(outputs) == len(gives) else []
    return Signature(
        _named([tensor for arg in takes if (tensor := _tensor(arg, values))], [], "input"),
        _named(outputs, names, "output"),
    )


def _arguments(
    signature: Mapping[str, Any], specs: str, kind: str, old: str
) -> list[Mapping[str, Any]]:
    """What a caller gives or gets, parameters and constants left out."""
    found: list[Mapping[str, Any]]
    if specs not in signature:
        found = [{"as_tensor": {"name": name}} for name in signature[old]]
    else:
        found = [spec[kind]["arg"] for spec in signature[specs] if kind in spec]
    if len(found) > _MAX_TENSORS:
        raise FormatError(f"{len(found):,} {specs}, expected at most {_MAX_TENSORS:,}")
    return found


def _tensor(argument: Mapping[str, Any], values: Mapping[str, Any]) -> Tensor | None:
    """An argument as a tensor; None for what is nothing to a caller."""
    kind, value = next(iter(argument.items()))
    if kind == "as_tensor":
        return _described(str(value["name"]), values[value["name"]])
    if kind not in _SCALARS:
        return None
    name = value.get("as_name", "") if isinstance(value, dict) else ""
    return Tensor(_short(str(name)), _SCALARS[kind], ())


def _described(name: str, meta: Mapping[str, Any]) -> Tensor:
    datatype = DATATYPES.get(meta["dtype"])
    if datatype is None:
        raise FormatError(f"unknown dtype {str(meta['dtype'])[:40]} of {name[:200]!r}")
    sizes = meta["sizes"]
    if len(sizes) > _MAX_RANK:
        raise FormatError(f"{name[:200]!r} has more than {_MAX_RANK} dimensions")
    return Tensor(_short(name), datatype, tuple(_size(size) for size in sizes))


def _size(size: Mapping[str, Any]) -> int:
    """A dimension: a number, or an expression for one that varies."""
    number = size.get("as_int", -1)
    if not isinstance(number, int) or isinstance(number, bool) or number < -1:
        raise FormatError(f"expected a size, found {str(size)[:80]}")
    return number


def _short(name: str) -> str:
    if len(name) > _MAX_NAME:
        raise FormatError(f"a name of {len(name):,} characters, expected at most {_MAX_NAME:,}")
    name.encode()  # JSON may have halves of characters, which nothing can write
    return name


def _named(tensors: list[Tensor], names: list[str], side: str) -> tuple[Tensor, ...]:
    distinct = distinct_names(names or [tensor.name for tensor in tensors], side)
    return tuple(
        Tensor(name, tensor.datatype, tensor.shape)
        for name, tensor in zip(distinct, tensors, strict=True)
    )


def _result_names(module: Mapping[str, Any], count: int) -> list[str]:
    """The keys of a dictionary of tensors that the model returns; empty when it is none."""
    with suppress(KeyError, TypeError, ValueError, IndexError, AttributeError, RecursionError):
        _, spec = json.loads(module["module_call_graph"][0]["signature"]["out_spec"])
        keys = json.loads(spec["context"])
        is_flat = all(child["type"] is None for child in spec["children_spec"])
        if spec["type"] == "builtins.dict" and is_flat and len(keys) == count:
            return [_short(key) for key in _texts(keys)]
    return []


def _texts(keys: object) -> Iterator[str]:
    for key in cast("list[object]", keys):
        if not isinstance(key, str):
            raise TypeError(key)
        yield key
