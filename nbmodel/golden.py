"""Golden samples: example inputs, and what the original model answered to them.

Here are the arrays, their file, and how answers are compared. The tolerance is a value of
``nbmodel.core.golden``; who runs the model is the caller's business.

The file is an ``.npz`` that numpy reads: one member ``<side>/<datatype>/<name>.npy`` a
tensor, with side ``inputs`` or ``outputs`` and the name percent-encoded. Nothing in it is
compressed or dated, so equal samples are equal bytes on every machine. BF16, which the
format lacks, is kept as its 16 bits. The elements of a BYTES tensor are kept end to end, as
UINT8, and ``lengths/<side>/<name>.npy`` before it has the length of each, in the tensor's shape.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from nbmodel.core.golden import Golden
from nbmodel.errors import FormatError, GoldenSampleError, InputError
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.tensor import datatype_of, to_tensor

MAX_GOLDEN = 64 * 1024 * 1024  # bytes; 16 images of 1024x1024 RGB, and their masks
_SIDES = ("inputs", "outputs")
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a ZIP member can have


@dataclass(frozen=True, slots=True, eq=False)
class GoldenSample:
    """Inputs, and the outputs the original model gave for them.

    Attributes:
        inputs: Tensors by name, in the protocol's form (BYTES: object arrays of bytes).
        outputs: As ``inputs``.

    Raises:
        DatatypeError: The protocol cannot carry one of the arrays.
    """

    inputs: Mapping[str, NDArray[Any]]
    outputs: Mapping[str, NDArray[Any]]

    def __post_init__(self) -> None:
        for side in _SIDES:
            tensors = {
                name: to_tensor(array, what=f"{name!r} of the golden sample's {side}")
                for name, array in getattr(self, side).items()
            }
            object.__setattr__(self, side, tensors)

    @property
    def rows(self) -> int:
        """How many samples there are: the length of the first input's first axis, else 1."""
        first = next(iter(self.inputs.values()), None)
        return 1 if first is None or first.ndim == 0 else int(first.shape[0])

    def to_bytes(self, *, limit: int = MAX_GOLDEN) -> bytes:
        """The ``.npz`` file; ``from_bytes`` gives an equal sample back.

        Args:
            limit: Largest size of the file in bytes.

        Raises:
            InputError: The sample is larger than that.
        """
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
            for side in _SIDES:
                for member, array in _stored(side, getattr(self, side)):
                    archive.writestr(zipfile.ZipInfo(member, _EPOCH), _npy(array))
        size = buffer.tell()
        if size > limit:
            raise InputError(
                f"the golden sample has {size:,} bytes, more than {limit:,}",
                hint="give fewer sample rows",
            )
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes, *, limit: int = MAX_GOLDEN) -> GoldenSample:
        """The sample that ``to_bytes`` wrote; pickles and compressed members are refused.

        Args:
            data: The file.
            limit: Largest size in bytes that is accepted.

        Raises:
            FormatError: Too large, truncated, or not a golden sample.
        """
        # What follows unpacks nothing and believes no size but those of the bytes at hand,
        # so this one check bounds the memory a hostile file can claim.
        if len(data) > limit:
            raise FormatError(f"golden sample has {len(data):,} bytes, more than {limit:,}")
        try:
            return cls(**_read_members(data))
        except FormatError:
            raise
        except Exception as exc:  # zipfile and numpy raise many kinds for damaged files
            raise FormatError(f"golden sample cannot be read: {exc}") from exc


def read_sample(path: Path) -> GoldenSample:
    """The golden sample in a file.

    Raises:
        GoldenSampleError: It cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            return GoldenSample.from_bytes(file.read(MAX_GOLDEN + 1))
    except OSError as exc:
        raise GoldenSampleError(f"cannot read the golden sample: {exc}") from exc
    except FormatError as exc:
        raise GoldenSampleError(str(exc)) from exc


def _stored(side: str, tensors: Mapping[str, NDArray[Any]]) -> Iterator[tuple[str, NDArray[Any]]]:
    for name, array in tensors.items():
        datatype = datatype_of(array, what=repr(name))
        path = quote(name, safe="")
        if datatype == "BF16":
            array = array.view(np.uint16)
        elif datatype == "BYTES":
            lengths = np.fromiter((len(item) for item in array.flat), np.int64, array.size)
            yield f"lengths/{side}/{path}.npy", lengths.reshape(array.shape)
            array = np.frombuffer(b"".join(array.flat), np.uint8)
        yield f"{side}/{datatype}/{path}.npy", array


def _npy(array: NDArray[Any]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    return buffer.getvalue()


def _read_members(data: bytes) -> dict[str, dict[str, NDArray[Any]]]:
    tensors: dict[str, dict[str, NDArray[Any]]] = {side: {} for side in _SIDES}
    lengths: dict[tuple[str, str], NDArray[Any]] = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            parts = info.filename.removesuffix(".npy").split("/")
            if info.compress_type != zipfile.ZIP_STORED or len(parts) != 3:
                raise FormatError(f"golden sample has an unexpected member {info.filename!r}")
            array = _read_npy(archive.read(info), info.filename)
            if parts[0] == "lengths":
                lengths[parts[1], unquote(parts[2])] = array
            elif parts[0] in _SIDES:
                name = unquote(parts[2])
                key = (parts[0], name)
                tensors[parts[0]][name] = _restore(array, parts[1], lengths.get(key))
            else:
                raise FormatError(f"golden sample has an unexpected member {info.filename!r}")
    return tensors


def _read_npy(data: bytes, member: str) -> NDArray[Any]:
    """An array of its own from an npy file; numpy's reader would allocate what a header claims."""
    stream = io.BytesIO(data)
    if np.lib.format.read_magic(stream) != (1, 0):
        raise FormatError(f"{member!r} of the golden sample is not an npy file of version 1.0")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    body = data[stream.tell() :]
    if dtype.hasobject or prod(shape) * dtype.itemsize != len(body):
        raise FormatError(
            f"{member!r} of the golden sample should hold {dtype}{list(shape)}, "
            f"found {len(body)} bytes"
        )
    flat = np.frombuffer(body, dtype).copy() if body else np.empty(0, dtype)
    return flat.reshape(shape, order="F" if fortran else "C")


def _restore(array: NDArray[Any], datatype: str, lengths: NDArray[Any] | None) -> NDArray[Any]:
    if datatype == "BYTES":
        if lengths is None:
            raise FormatError("golden sample has a BYTES tensor without lengths")
        return _split(array.tobytes(), lengths)
    expected = np.dtype(np.uint16) if datatype == "BF16" else to_numpy(datatype)
    if array.dtype != expected:
        raise FormatError(f"golden sample holds {array.dtype} where it says {datatype}")
    return array.view(to_numpy("BF16")) if datatype == "BF16" else array


def _split(joined: bytes, lengths: NDArray[Any]) -> NDArray[Any]:
    ends = np.concatenate([[0], np.cumsum(lengths.ravel())])
    if lengths.dtype != np.int64 or lengths.min(initial=0) < 0 or ends[-1] != len(joined):
        raise FormatError("lengths of a BYTES tensor in the golden sample do not add up")
    result = np.empty(lengths.size, object)
    for position in range(lengths.size):
        result[position] = joined[ends[position] : ends[position + 1]]
    return result.reshape(lengths.shape)


@dataclass(frozen=True, slots=True)
class TensorDifference:
    """How far one output is from the golden one.

    Attributes:
        name: Of the output.
        agrees: Whether every element is within tolerance.
        max_abs: Largest absolute difference; ``inf`` where elements cannot be subtracted
            (text, NaN against a number, another shape).
        max_rel: Largest ``|a - g| / |g|`` among elements whose ``|g|`` exceeds ``atol``.
        index: Where it is worst: the largest difference among the elements out of
            tolerance, if there are any. Empty for scalars and where there are no elements.
        differing: How many elements are out of tolerance.
        size: How many elements there are.
        argmax_agreement: Share of rows with the same largest column, 0 to 1; None unless
            the output is a floating [rows, columns] with two columns or more.
        problem: What is wrong, in words; empty when nothing is.
    """

    name: str
    agrees: bool
    max_abs: float
    max_rel: float
    index: tuple[int, ...] = ()
    differing: int = 0
    size: int = 0
    argmax_agreement: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """How far answers are from a golden sample; ``str()`` is one sentence about it.

    Attributes:
        tensors: One for every golden output, in the sample's order.
    """

    tensors: tuple[TensorDifference, ...]

    @property
    def agrees(self) -> bool:
        """Whether every output is within tolerance."""
        return all(tensor.agrees for tensor in self.tensors)

    @property
    def max_abs(self) -> float:
        """Largest absolute difference over all outputs."""
        return max((tensor.max_abs for tensor in self.tensors), default=0.0)

    @property
    def max_rel(self) -> float:
        """Largest relative difference over all outputs."""
        return max((tensor.max_rel for tensor in self.tensors), default=0.0)

    @property
    def worst(self) -> TensorDifference | None:
        """The output that is furthest off; None when there are no outputs."""
        return max(
            self.tensors, key=lambda tensor: (not tensor.agrees, tensor.max_abs), default=None
        )

    @property
    def argmax_agreement(self) -> float | None:
        """Smallest share of rows with the same largest column; None without such outputs."""
        shares = [t.argmax_agreement for t in self.tensors if t.argmax_agreement is not None]
        return min(shares, default=None)

    def __str__(self) -> str:
        worst = self.worst
        if worst is None:
            return "the golden sample has no outputs"
        if worst.problem:
            return worst.problem
        where = f" at {list(worst.index)}" if worst.index else ""
        return (
            f"all outputs agree; the largest difference is {worst.max_abs:.3g}, "
            f"in output {worst.name!r}{where}"
        )


def non_finite(
    answer: NDArray[Any], expected: NDArray[Any] | None = None
) -> tuple[int, ...] | None:
    """Where an answer first is NaN or infinite; None where it is nowhere.

    Args:
        answer: In the protocol's form.
        expected: An array of its shape, or None. What is not finite there may be so in the
            answer.
    """
    if answer.dtype.kind in "biuO":
        return None
    wrong = ~_finite(answer)
    if expected is not None and expected.shape == answer.shape:
        wrong &= _finite(expected)
    if not wrong.any():
        return None
    return tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), answer.shape))


def check_answers(sample: GoldenSample) -> None:
    """Refuse a golden sample that no answer could disagree with.

    Single values that are not finite may be meant, and a device expects them then.

    Raises:
        GoldenSampleError: An output of it has values, and not one that is finite.
    """
    for name, answer in sample.outputs.items():
        if answer.size and answer.dtype.kind not in "biuO" and not _finite(answer).any():
            given = next(
                (one for one, array in sample.inputs.items() if non_finite(array) is not None), None
            )
            raise GoldenSampleError(
                f"output {name!r} of the golden sample is not finite in any of its "
                f"{answer.size} values, which would let every device pass a broken model",
                hint=f"input {given!r} has NaN or infinite values: give another sample"
                if given is not None
                else "the model is broken, or the sample is nothing like what it was made for",
            )


def _finite(array: NDArray[Any]) -> NDArray[np.bool_]:
    # bfloat16 has no isfinite of its own; every value of it is one of float32.
    reals = array if array.dtype.kind in "fc" else array.astype(np.float32)
    return np.asarray(np.isfinite(reals))


def compare(
    expected: Mapping[str, NDArray[Any]], actual: Mapping[str, NDArray[Any]], golden: Golden
) -> Difference:
    """Compare answers with golden ones.

    NaN agrees with NaN and infinities with themselves, with nothing else. Outputs that only
    ``actual`` has are not looked at.

    Args:
        expected: The golden outputs, by name.
        actual: The answers, by name.
        golden: The tolerance.

    Raises:
        DatatypeError: The protocol cannot carry one of the arrays.
    """
    return Difference(tuple(_compare(name, expected[name], actual, golden) for name in expected))


def _compare(
    name: str, wanted: NDArray[Any], answers: Mapping[str, NDArray[Any]], golden: Golden
) -> TensorDifference:
    if name not in answers:
        found = ", ".join(map(repr, answers)) or "none"
        return _incomparable(name, f"output {name!r} is missing; there is {found}")
    what = f"output {name!r}"
    wanted, found_array = to_tensor(wanted, what=what), to_tensor(answers[name], what=what)
    datatypes = datatype_of(wanted, what=what), datatype_of(found_array, what=what)
    if datatypes[0] != datatypes[1]:
        return _incomparable(name, f"{what} should be {datatypes[0]}, found {datatypes[1]}")
    if wanted.shape != found_array.shape:
        return _incomparable(
            name, f"{what} should have shape {list(wanted.shape)}, found {list(found_array.shape)}"
        )
    if wanted.size == 0:
        return TensorDifference(name, agrees=True, max_abs=0.0, max_rel=0.0)
    return _measure(name, wanted, found_array, golden)


def _incomparable(name: str, problem: str) -> TensorDifference:
    infinity = float("inf")
    return TensorDifference(name, False, infinity, infinity, problem=problem)


def _measure(
    name: str, wanted: NDArray[Any], found: NDArray[Any], golden: Golden
) -> TensorDifference:
    distance, magnitude = _distances(wanted, found)
    is_exact = wanted.dtype.kind in "biuO"
    allowed: Any = golden.atol + golden.rtol * magnitude
    if is_exact:
        # Below one step an integer cannot differ, so a smaller atol means "equal".
        allowed = golden.atol if golden.atol >= 1 and wanted.dtype.kind in "iu" else 0
    # inf <= inf would let a wrong infinity pass: a distance of inf never agrees.
    within = (distance <= allowed) & np.isfinite(distance)
    candidates = distance if within.all() else np.where(within, -1.0, distance)
    index = np.unravel_index(int(candidates.argmax()), wanted.shape)
    position = tuple(int(i) for i in index)
    comparable = magnitude > golden.atol
    relative = distance[comparable] / magnitude[comparable]
    differing = int(np.count_nonzero(~within))
    return TensorDifference(
        name,
        agrees=differing == 0,
        max_abs=float(distance.max()),
        max_rel=float(relative.max(initial=0.0)),
        index=position,
        differing=differing,
        size=wanted.size,
        argmax_agreement=_argmax_agreement(wanted, found),
        problem="" if differing == 0 else _sentence(name, wanted, found, position, differing),
    )


def _sentence(
    name: str, wanted: NDArray[Any], found: NDArray[Any], index: tuple[int, ...], differing: int
) -> str:
    where = f" at {list(index)}" if index else ""
    return (
        f"output {name!r} differs{where}: expected {_show(wanted[index])}, "
        f"found {_show(found[index])} ({differing} of {wanted.size} elements out of tolerance)"
    )


def _show(value: Any) -> str:
    if isinstance(value, bytes):
        return repr(value.decode(errors="replace"))
    return f"{float(value):.7g}" if isinstance(value, np.inexact) else str(value)


def _distances(
    wanted: NDArray[Any], found: NDArray[Any]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Element-wise ``|found - wanted|`` and ``|wanted|``, in float64."""
    kind = wanted.dtype.kind
    if kind == "O":
        distance = np.where(_unequal(wanted, found), np.inf, 0.0)
        return distance, np.zeros(wanted.shape)
    if kind == "b":
        return (wanted != found).astype(np.float64), np.zeros(wanted.shape)
    if kind in "iu":
        # Modulo 2**64 the larger minus the smaller is right even where int64 overflows.
        steps = np.maximum(wanted, found).astype(np.uint64)
        steps -= np.minimum(wanted, found).astype(np.uint64)
        return steps.astype(np.float64), np.abs(wanted.astype(np.float64))
    reals, others = wanted.astype(np.float64), found.astype(np.float64)
    same = (reals == others) | (np.isnan(reals) & np.isnan(others))
    with np.errstate(invalid="ignore"):  # inf - inf, where `same` decides
        apart = np.abs(others - reals)
    distance = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    return distance, np.where(np.isfinite(reals), np.abs(reals), 0.0)


def _unequal(wanted: NDArray[Any], found: NDArray[Any]) -> NDArray[np.bool_]:
    pairs = zip(wanted.flat, found.flat, strict=True)
    return np.fromiter((a != b for a, b in pairs), np.bool_, wanted.size).reshape(wanted.shape)


def _argmax_agreement(wanted: NDArray[Any], found: NDArray[Any]) -> float | None:
    if wanted.ndim != 2 or wanted.shape[1] < 2 or wanted.dtype.kind in "biuO":
        return None
    same = wanted.astype(np.float64).argmax(1) == found.astype(np.float64).argmax(1)
    return float(same.mean())
