"""TorchScript: a PyTorch module as an archive of code and weights.

The code is text, and says what ``forward`` takes and gives; neither it nor the pickles beside
it are ever run. Datatypes and shapes are not in it: they come from who uploads the model.
Outputs have no names; they get those that Triton's PyTorch backend wants.

Source: torch/csrc/jit/serialization (https://github.com/pytorch/pytorch); Triton's "PyTorch
(LibTorch) Backend", naming convention.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any, ClassVar

from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import FormatError
from nbmodel.formats.archive import Archive
from nbmodel.formats.base import Format, ModelFacts
from nbmodel.formats.bytesource import ByteSource
from nbmodel.formats.torch_archive import EXPORT_HINT, pickled_class, torch_archive
from nbmodel.formats.ultralytics import MAX_NOTES, TASKS, labels_of, metadata_of, read_notes

_WHAT = "a TorchScript archive"
_MAX_CODE = 16 << 20  # bytes of one file of code
_MAX_ARGUMENTS = 10_000
_MAX_VERSION = 32  # bytes
_NOTES = "extra/config.txt"
_OPEN, _CLOSE = "([{", ")]}"
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|\'(?:[^\'\\]|\\.)*\'', re.DOTALL)
#: What an argument or result of a type is in a signature: datatype and shape.
_TYPES: dict[str, tuple[str, tuple[int, ...] | None]] = {
    "Tensor": ("UNKNOWN", None),
    "int": ("INT64", ()),
    "float": ("FP64", ()),
    "bool": ("BOOL", ()),
    "str": ("BYTES", ()),
    "Optional": ("OPTIONAL", None),
    "List": ("SEQUENCE", None),
    "Tuple": ("SEQUENCE", None),
    "Dict": ("MAP", None),
}


class TorchScript(Format):
    """``.pt`` and ``.pth`` files that ``torch.jit.save`` wrote."""

    name: ClassVar[str] = "torchscript"
    suffixes: ClassVar[tuple[str, ...]] = (".pt", ".pth")
    is_archive: ClassVar[bool] = True

    def sniff(self, head: bytes) -> bool:  # noqa: ARG002 - weights come first
        """Never: the start of an archive says nothing about it."""
        return False

    def sniff_archive(self, names: Collection[str]) -> bool:
        """Whether it has what PyTorch writes; what is no TorchScript among it is refused."""
        return "data.pkl" in names and "version" in names

    def _read(self, source: ByteSource) -> ModelFacts:
        archive = torch_archive(source, _WHAT)
        module, name = pickled_class(archive)
        if not _has_code(archive):
            raise FormatError(
                f"not {_WHAT} but what torch.save wrote of {_pickled(module, name)}",
                hint=EXPORT_HINT,
            )
        if not module.startswith("__torch__"):
            raise FormatError(f"data.pkl: expected a module of __torch__, found {module}.{name}")
        arguments, result = _forward(archive, module, name)
        notes = read_notes(archive.read(_NOTES, MAX_NOTES) or b"") or {}
        return ModelFacts(
            framework=self.name,
            signature=Signature(
                tuple(_inputs(arguments)), tuple(_outputs(archive, module, result))
            ),
            model_type=TASKS.get(str(notes.get("task", ""))),
            description=str(notes.get("description", "")),
            metadata=_metadata(archive, arguments, result) | metadata_of(notes),
            gap="TorchScript does not tell datatypes and shapes",
            labels=labels_of(notes),
        )


def _has_code(archive: Archive) -> bool:
    return any(name.startswith("code/") for name in archive.names)


def _pickled(module: str, name: str) -> str:
    if name in ("OrderedDict", "dict"):
        return "a state_dict: weights without the model that they are of"
    return f"a {module}.{name}, which needs that class to load"


def _code(archive: Archive, module: str) -> str:
    """The code of a module: ``__torch__.a.b`` is in ``code/__torch__/a/b.py``."""
    path = f"code/{module.replace('.', '/')}.py"
    code = archive.text(path, _MAX_CODE)
    if code is None:
        raise FormatError(f"no {path[:200]!r} in the archive")
    return code


def _class(archive: Archive, module: str, name: str) -> str:
    """The code of a class, without its first line; empty when there is none."""
    match = re.compile(
        rf"^class {re.escape(name)}\(\w+\):\n((?:[ \t][^\n]*\n?|\n)*)", re.MULTILINE
    ).search(_code(archive, module))
    return match[1] if match else ""


def _forward(archive: Archive, module: str, name: str) -> tuple[list[str], str]:
    """What ``forward`` takes besides the module, and the type of what it gives."""
    body = _class(archive, module, name)
    start = re.search(r"^  def forward\(", body, re.MULTILINE)
    if start is None:
        raise FormatError(
            f"{module}.{name} has no method forward",
            hint="save a module of which forward is scripted or traced",
        )
    *arguments, end = _split(body, start.end(), f"{module}.{name}.forward")
    result = re.compile(r" -> ([^\n]*):\n").match(body, int(end))
    return arguments[1:], result[1].strip() if result else "NoneType"


def _split(text: str, start: int, what: str) -> Iterator[str]:
    """The parts between commas up to the closing bracket, and then where that is."""
    depth, begin, position, parts = 0, start, start, 0
    while position < len(text):
        char = text[position]
        if char in "\"'":
            string = _STRING.match(text, position)
            if string is None:
                break
            position = string.end()
            continue
        if char in _CLOSE and depth == 0:
            if text[begin:position].strip():
                yield text[begin:position].strip()
            yield str(position + 1)
            return
        depth += (char in _OPEN) - (char in _CLOSE)
        if char == "," and depth == 0:
            yield text[begin:position].strip()
            begin, parts = position + 1, parts + 1
            if parts > _MAX_ARGUMENTS:
                raise FormatError(f"{what} has more than {_MAX_ARGUMENTS:,} arguments")
        position += 1
    raise FormatError(f"{what}: its arguments do not end")


def _inputs(arguments: list[str]) -> Iterator[Tensor]:
    """What a caller has to give: what is no tensor and has a default is left to that."""
    for argument in arguments:
        name, _, rest = argument.partition(":")
        kind, _, default = rest.partition("=")
        datatype, shape = _type(kind)
        if shape is None or not default:
            yield Tensor(name.strip(), datatype, shape)


def _type(text: str) -> tuple[str, tuple[int, ...] | None]:
    return _TYPES.get(text.strip().partition("[")[0], ("OPAQUE", None))


def _outputs(archive: Archive, module: str, result: str) -> Iterator[Tensor]:
    for index, kind in enumerate(_results(archive, module, result)):
        yield Tensor(f"OUTPUT__{index}", *_type(kind))


def _results(archive: Archive, module: str, result: str) -> list[str]:
    """The types of what is returned, the members of a tuple apart."""
    if result.startswith("Tuple["):
        *members, _ = _split(result, len("Tuple["), "the result of forward")
        return members
    if result.startswith("__torch__"):
        home, _, name = result.rpartition(".")
        body = _class(archive, home or module, name)
        return re.findall(r"^  \w+ : (.*)$", body, re.MULTILINE)[:_MAX_ARGUMENTS] or [result]
    return [] if result == "NoneType" else [result]


def _metadata(archive: Archive, arguments: list[str], result: str) -> dict[str, Any]:
    version = (archive.start("version", _MAX_VERSION) or b"").decode("ascii", "replace").strip()
    forward = f"({', '.join(arguments)}) -> {result}"
    found = {"archive_version": version, "forward": forward if len(forward) <= 4096 else ""}
    return {key: value for key, value in found.items() if value}
