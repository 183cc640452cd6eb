"""A signature as a person writes it: a mapping of short words, or Hydrosphere's contract.

The simplest spelling of a tensor is one text; what else is known of it takes a mapping::

    {"inputs": {"image": "float32[-1,224,224,3]"},
     "outputs": {"scores": {"dtype": "float32", "shape": [-1, 3], "labels": ["a", "b", "c"]}}}

Types are the protocol's (``FP32``), numpy's (``float32``), Hydrosphere's (``double``,
``qint8``) or TensorFlow's (``DT_FLOAT``), in any case of letters. A type that is left out is
the model file's. A shape is a list of whole numbers, −1 for one that varies; ``scalar`` and
``[]`` have no dimension, and one that is left out, or ``float32[?]``, is of unknown rank.

A contract may be wrapped as Hydrosphere did at any time: in ``contract``, under the name of
its signature (``predict``, ``infer``), with ``model_name`` beside it; its sides are mappings by
name or lists of fields. What is no word of all that is an error, that names its place.

Source: hydro-serving-sdk 3.0.3 ``hydrosdk/data/types.py`` for types; hydro-serving-protos
``contract/*.proto`` for the words of contracts.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Literal, NoReturn, TypeAlias, cast

from nbmodel.core.labels import labels_from_map
from nbmodel.core.signature import (
    DATATYPES,
    FOREIGN_DATATYPES,
    PROFILES,
    LabelKind,
    Normalization,
    Quantization,
    Signature,
    Tensor,
)
from nbmodel.errors import InputError

#: Keys and positions that lead to a part of a document.
Place: TypeAlias = "tuple[str | int, ...]"
#: How a person is told of a place: ``serving.yaml, line 7: contract.inputs.x.type``.
Where: TypeAlias = "Callable[[Place], str]"

#: Words for types, in lower case → datatype.
TYPES: Mapping[str, str] = {
    **{name.lower(): name for name in (*DATATYPES, *FOREIGN_DATATYPES)},
    **dict.fromkeys(("string", "str", "dt_string"), "BYTES"),
    **dict.fromkeys(("float16", "half", "dt_half"), "FP16"),
    **dict.fromkeys(("bfloat16", "dt_bfloat16"), "BF16"),
    **dict.fromkeys(("float32", "single", "dt_float"), "FP32"),
    **dict.fromkeys(("float", "float64", "double", "dt_double"), "FP64"),
    **dict.fromkeys(("byte", "qint8", "dt_int8", "dt_qint8"), "INT8"),
    **dict.fromkeys(("short", "qint16", "dt_int16", "dt_qint16"), "INT16"),
    **dict.fromkeys(("qint32", "dt_int32", "dt_qint32"), "INT32"),
    **dict.fromkeys(("int", "long", "dt_int64"), "INT64"),
    **dict.fromkeys(("ubyte", "quint8", "dt_uint8", "dt_quint8"), "UINT8"),
    **dict.fromkeys(("ushort", "quint16", "dt_uint16", "dt_quint16"), "UINT16"),
    "dt_uint32": "UINT32",
    "dt_uint64": "UINT64",
    "dt_bool": "BOOL",
    "dt_complex64": "COMPLEX64",
    "dt_complex128": "COMPLEX128",
    "dt_any": "UNKNOWN",
    "dt_map": "MAP",
}
_PROFILES: Mapping[str, str] = {
    **{profile: profile for profile in PROFILES},
    **dict.fromkeys(("nominal", "ordinal"), "categorical"),
    **dict.fromkeys(("numeric", "continuous", "interval", "ratio"), "numerical"),
    "none": "",
}
_TYPE_KEYS = ("type", "dtype", "datatype")
_KEYS = (
    *_TYPE_KEYS, "shape", "profile", "description", "labels", "label_kind", "quantization",
    "normalization", "score_threshold",
)  # fmt: skip
_SIDES = ("inputs", "outputs")
_NAMES = ("name", "signature_name")  # of a signature; models here have one each
_WRAPPED = 4  # levels around a signature
_MAX_TENSORS = 20_000  # inputs or outputs
_MAX_RANK = 64  # numpy's
_SHOWN = 3  # tensors in an example
_LARGEST = sys.float_info.max
_SHORT = re.compile(r"\s*([A-Za-z_]\w*)\s*(?:\[([^\]]*)\])?\s*")
_DIM = re.compile(r"-?\d{1,18}")
_EXAMPLE = 'such as {"inputs": {"x": "float32[-1,4]"}, "outputs": {"y": "int64[-1]"}}'


def in_memory(place: Place) -> str:
    """The place in something that is not of a file: ``signature: inputs.x.shape``."""
    return f"signature: {dotted(place)}" if place else "signature"


def dotted(place: Place) -> str:
    """The keys of a place with dots in between; each is cut."""
    return ".".join(str(key)[:80] for key in place)


def signature_of(
    data: object, where: Where = in_memory, *, place: Place = (), needs_types: bool = False
) -> Signature:
    """The signature that a mapping says; ``Signature.to_json`` is one such mapping.

    Args:
        data: The mapping.
        where: Tells a person of a place in it.
        place: Where the mapping is, for ``where``.
        needs_types: Whether a tensor without a type is an error, not the file's own.

    Raises:
        InputError: A key, type, shape or profile is none; the message begins with its place.
    """
    return _Reader(where, needs_types).signature(data, place)


def example_of(signature: Signature, sides: Sequence[Literal["inputs", "outputs"]]) -> str:
    """What a person could type to say what is not known yet of a signature, as JSON.

    Args:
        signature: As far as it is known; its names are kept.
        sides: What to say.
    """
    said: dict[str, dict[str, str]] = {}
    for side in sides:
        known = getattr(signature, side)[:_SHOWN]
        tensors = known or (Tensor("x" if side == "inputs" else "y", "UNKNOWN", None),)
        said[side] = {tensor.name: _spelt(tensor) for tensor in tensors}
    return json.dumps(said, ensure_ascii=False)


def _spelt(tensor: Tensor) -> str:
    if tensor.datatype not in DATATYPES or tensor.shape is None:
        return "float32[-1,4]"
    return f"{tensor.datatype.lower()}[{','.join(map(str, tensor.shape))}]"


class _Reader:
    """Reads a signature; each method is given a value and its place."""

    def __init__(self, where: Where, needs_types: bool) -> None:
        self._where = where
        self._needs_types = needs_types

    def signature(self, data: object, place: Place) -> Signature:
        body, place = self._unwrapped(data, place)
        for key in body:
            if key not in (*_SIDES, *_NAMES):
                self._unknown(key, (*_SIDES, "name"), place)
        return Signature(*(self._side(body.get(side), (*place, side)) for side in _SIDES))

    def _unwrapped(self, data: object, place: Place) -> tuple[Mapping[Any, Any], Place]:
        body = self._mapping(data, place)
        for _ in range(_WRAPPED):
            if any(side in body for side in _SIDES):
                break
            inner = [key for key in body if key not in ("model_name", *_NAMES)]
            misspelt = [key for key in inner if get_close_matches(str(key), _SIDES, 1, 0.8)]
            if misspelt:
                self._unknown(misspelt[0], _SIDES, place)
            if len(inner) != 1 or not isinstance(body[inner[0]], Mapping):
                self._not_one(body, place)
            place, body = (*place, inner[0]), body[inner[0]]
        else:
            self._not_one(body, place)
        return body, place

    def _not_one(self, body: Mapping[Any, Any], place: Place) -> NoReturn:
        several = [key for key in body if isinstance(body[key], Mapping)]
        found = ", ".join(str(key)[:40] for key in body) or "nothing"
        self._fail(
            f"expected one signature with inputs or outputs, found {found}",
            place,
            hint="a model has one signature: give that alone"
            if len(several) > 1
            else f"a mapping {_EXAMPLE}",
        )

    def _side(self, side: object, place: Place) -> tuple[Tensor, ...]:
        tensors: dict[str, Tensor] = {}
        for name, field, at in self._fields(side, place):
            if name in tensors:
                self._fail(f"two tensors are named {name!r}", at)
            if len(tensors) == _MAX_TENSORS:
                self._fail(f"more than {_MAX_TENSORS:,} tensors", place)
            tensors[name] = self._tensor(name, field, at)
        return tuple(tensors.values())

    def _fields(self, side: object, place: Place) -> Iterator[tuple[str, object, Place]]:
        if side is None:
            return
        if isinstance(side, Mapping):
            for key, field in side.items():
                yield self._text(key, (*place, key)), field, (*place, key)
            return
        if not isinstance(side, Sequence) or isinstance(side, str | bytes):
            self._fail(f"expected a mapping by name, found {_kind(side)}", place)
        for index, field in enumerate(side):
            at = (*place, index)
            if isinstance(field, Tensor):
                field = field.to_json()
            if not isinstance(field, Mapping) or "name" not in field:
                self._fail("expected a mapping with the name of the tensor", at)
            rest = {key: value for key, value in field.items() if key != "name"}
            yield self._text(field["name"], (*at, "name")), rest, at

    def _tensor(self, name: str, field: object, place: Place) -> Tensor:
        if isinstance(field, str):
            return self._short(name, field, place)
        if not isinstance(field, Mapping):
            self._fail(
                f"tensor {name[:80]!r}: expected a text such as float32[-1,4] or a mapping with "
                f"type and shape, found {_kind(field)}",
                place,
            )
        for key in field:
            if key == "subfields":
                self._fail(f"tensor {name[:80]!r}: a field of fields is no tensor", (*place, key),
                           hint="give each of its fields as a tensor of its own")  # fmt: skip
            if key not in _KEYS:
                self._unknown(key, _KEYS, place, name)
        return Tensor(
            name=name,
            datatype=self._datatype(name, field, place),
            shape=self._shape(name, field.get("shape"), (*place, "shape")),
            description=self._optional_text(field, "description", place),
            labels=self._labels(field.get("labels"), (*place, "labels")),
            label_kind=self._label_kind(field.get("label_kind"), (*place, "label_kind")),
            profile=self._profile(name, field.get("profile"), (*place, "profile")),
            quantization=self._quantization(field.get("quantization"), (*place, "quantization")),
            normalization=self._normalization(
                field.get("normalization"), (*place, "normalization")
            ),
            score_threshold=self._threshold(
                field.get("score_threshold"), (*place, "score_threshold")
            ),
        )

    def _short(self, name: str, text: str, place: Place) -> Tensor:
        match = _SHORT.fullmatch(text)
        if match is None:
            self._fail(
                f"tensor {name[:80]!r}: expected a type with a shape, such as float32[-1,4], "
                f"found {text[:80]!r}",
                place,
            )
        word, dims = match.groups()
        return Tensor(name, self._word(name, word, place), self._dims(name, dims, place))

    def _dims(self, name: str, text: str | None, place: Place) -> tuple[int, ...] | None:
        if text is None or text.strip() == "?":
            return None
        words = [word.strip() for word in text.split(",")] if text.strip() else []
        if not all(_DIM.fullmatch(word) for word in words):
            self._bad_shape(name, f"[{text}]", place)
        return self._shape(name, [int(word) for word in words], place)

    def _datatype(self, name: str, field: Mapping[Any, Any], place: Place) -> str:
        given = [key for key in _TYPE_KEYS if field.get(key) is not None]
        if len(given) > 1:
            self._fail(f"tensor {name[:80]!r} has both {given[0]} and {given[1]}", place)
        if not given:
            if self._needs_types:
                self._fail(f"tensor {name[:80]!r} has no type", place)
            return "UNKNOWN"
        return self._word(name, field[given[0]], (*place, given[0]))

    def _word(self, name: str, word: object, place: Place) -> str:
        # A class of numpy or Python is called what its values are.
        text = getattr(word, "__name__", None) or str(word)
        datatype = TYPES.get(text.strip().lower())
        if datatype is None:
            near = get_close_matches(text.lower(), TYPES, n=1)
            self._fail(
                f"tensor {name[:80]!r}: unknown type {text[:80]!r}",
                place,
                hint=f"did you mean {near[0]!r}?"
                if near
                else "for example float32, int64, uint8, bool, string",
            )
        return datatype

    def _shape(self, name: str, value: object, place: Place) -> tuple[int, ...] | None:
        if value is None:
            return None
        if value == "scalar":
            return ()
        if isinstance(value, Mapping):  # TensorShape { dims } and its elder { dim { size } }
            value = self._proto_dims(name, value, place)
        if not isinstance(value, list | tuple) or not all(map(_is_whole, value)):
            self._bad_shape(name, value, place)
        if any(dim < -1 for dim in value):
            self._fail(
                f"tensor {name[:80]!r}: expected dimensions from -1 on, found {str(value)[:80]}",
                place,
            )
        if len(value) > _MAX_RANK:
            self._fail(
                f"tensor {name[:80]!r}: {len(value)} dimensions, expected at most {_MAX_RANK}",
                place,
            )
        return tuple(int(dim) for dim in value)

    def _proto_dims(self, name: str, value: Mapping[Any, Any], place: Place) -> object:
        if list(value) == ["dims"]:
            return value["dims"]
        if list(value) == ["dim"] and isinstance(value["dim"], list):
            return [one.get("size") if isinstance(one, Mapping) else one for one in value["dim"]]
        return [] if not value else self._bad_shape(name, dict(value), place)

    def _bad_shape(self, name: str, value: object, place: Place) -> NoReturn:
        self._fail(
            f"tensor {name[:80]!r}: expected shape to be scalar or whole numbers, "
            f"found {str(value)[:80]!r}",
            place,
            hint="a list such as [-1, 4], with -1 for a dimension that varies",
        )

    def _profile(self, name: str, value: object, place: Place) -> str:
        if value is None:
            return ""
        profile = _PROFILES.get(str(value).lower())
        if profile is None:
            self._fail(
                f"tensor {name[:80]!r}: unknown profile {str(value)[:80]!r}",
                place,
                hint=f"one of {', '.join(filter(None, _PROFILES))}",
            )
        return profile

    def _labels(self, value: object, place: Place) -> tuple[str, ...]:
        if value is None:
            return ()
        if isinstance(value, Mapping):
            try:
                return labels_from_map(cast("Mapping[str, int]", value))
            except (InputError, TypeError) as exc:
                self._fail(f"expected a mapping of names to indices: {exc}", place)
        if not isinstance(value, list | tuple):
            self._fail(f"expected a list of names, found {_kind(value)}", place)
        return tuple(
            "" if label == "" else self._text(label, (*place, index))
            for index, label in enumerate(value)
        )

    def _label_kind(self, value: object, place: Place) -> LabelKind:
        if value not in (None, "axis", "value"):
            self._fail(f"expected axis or value, found {str(value)[:80]!r}", place)
        return "value" if value == "value" else "axis"

    def _quantization(self, value: object, place: Place) -> Quantization | None:
        if value is None:
            return None
        given = self._part(value, ("scale", "zero_point", "axis"), 2, place)
        scale = self._numbers(given["scale"], (*place, "scale"))
        zeros = self._numbers(given["zero_point"], (*place, "zero_point"))
        axis = given.get("axis")
        if len(scale) != len(zeros) or not all(zero == int(zero) for zero in zeros):
            self._fail("expected as many whole zero points as scales", place)
        if not all(one > 0 for one in scale):
            self._fail("expected scales above 0", (*place, "scale"))
        if axis is not None and not _is_whole(axis):
            self._fail(f"expected a whole number, found {_kind(axis)}", (*place, "axis"))
        return Quantization(scale, tuple(int(zero) for zero in zeros), axis)

    def _normalization(self, value: object, place: Place) -> Normalization | None:
        if value is None:
            return None
        given = self._part(value, ("mean", "std"), 2, place)
        mean = self._numbers(given["mean"], (*place, "mean"))
        std = self._numbers(given["std"], (*place, "std"))
        if len(mean) != len(std):
            self._fail(f"{len(mean)} means and {len(std)} deviations, expected as many", place)
        if not all(std):
            self._fail("expected deviations other than 0", (*place, "std"))
        return Normalization(mean, std)

    def _part(
        self, value: object, keys: tuple[str, ...], needed: int, place: Place
    ) -> Mapping[Any, Any]:
        given = self._mapping(value, place)
        for key in given:
            if key not in keys:
                self._unknown(key, keys, place)
        missing = [key for key in keys[:needed] if given.get(key) is None]
        if missing:
            self._fail(f"{missing[0]} is missing", place)
        return given

    def _threshold(self, value: object, place: Place) -> float | None:
        return None if value is None else self._number(value, place)

    def _numbers(self, value: object, place: Place) -> tuple[float, ...]:
        values = value if isinstance(value, list | tuple) else [value]
        if not values:
            self._fail("expected a number or several, found none", place)
        return tuple(self._number(one, place) for one in values)

    def _number(self, value: object, place: Place) -> float:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not abs(cast("float", value)) <= _LARGEST:
            self._fail(f"expected a finite number, found {str(value)[:80]!r}", place)
        return float(cast("float", value))

    def _optional_text(self, field: Mapping[Any, Any], key: str, place: Place) -> str:
        value = field.get(key)
        if value is None or value == "":
            return ""
        return self._text(value, (*place, key))

    def _text(self, value: object, place: Place) -> str:
        if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
            self._fail(
                f"expected a text, found {value!s:.80}",
                place,
                hint="put it in quotes" if isinstance(value, bool | float) else None,
            )
        return str(value)

    def _mapping(self, value: object, place: Place) -> Mapping[Any, Any]:
        if not isinstance(value, Mapping):
            self._fail(
                f"expected a mapping, found {_kind(value)}", place, hint=f"a mapping {_EXAMPLE}"
            )
        return value

    def _unknown(self, key: object, known: Sequence[str], place: Place, name: str = "") -> NoReturn:
        near = get_close_matches(str(key), known, n=1)
        of = f"tensor {name[:80]!r}: " if name else ""
        self._fail(
            f"{of}unknown key {str(key)[:80]!r}",
            (*place, cast("str", key)),
            hint=f"did you mean {near[0]!r}?" if near else f"one of {', '.join(known)}",
        )

    def _fail(self, problem: str, place: Place, *, hint: str | None = None) -> NoReturn:
        raise InputError(f"{self._where(place)}: {' '.join(problem.split())}", hint=hint)


def _is_whole(value: object) -> bool:
    is_number = isinstance(value, int) or hasattr(value, "__index__")
    return is_number and not isinstance(value, bool)


def _kind(value: object) -> str:
    return "nothing" if value is None else type(value).__name__
