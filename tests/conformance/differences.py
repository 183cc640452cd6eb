"""Where a runtime answers otherwise than a real tritonserver, and why.

``test_triton_differential`` compares status, content type and coding, error message, JSON
and tensors. What is different and not listed here fails, and so does what is listed and
not different any more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

#: Keys of JSON documents that are left out of the comparison, and why.
IGNORED = {
    "$.hint": "what to do, beside the message of an error of another part of the runtime",
    "$.platform": "the oracle runs ONNX files in its Python backend",
    "$.backend": "the oracle runs ONNX files in its Python backend",
    "$.default_model_filename": "the oracle runs ONNX files in its Python backend",
    "$.instance_group": "instances are named otherwise; a test of the config has the counts",
    "$.optimization": "pinned memory is a matter of GPUs",
    "$.dynamic_batching": "we batch without being told; the oracle does not",
    "$.sequence_batching": "sequences have no place in a runtime's scheduler",
    "$.version": "it is another server",
    "$.extensions": "those that each server has",
    "$.model_stats": "counts and times of two histories; tests of the statistics have the counts",
}


@dataclass(frozen=True, slots=True)
class Difference:
    """A difference that is meant.

    Attributes:
        why: The reason.
        cases: Their ids, as patterns; each must match a case that is different.
        fields: What may be different.
        statuses: Triton's status and ours; None: whatever they are.
    """

    why: str
    cases: tuple[str, ...]
    fields: frozenset[str]
    statuses: tuple[int, int] | None = None

    def covers(self, case: str, fields: frozenset[str], statuses: tuple[int, int] | None) -> bool:
        """Whether it explains a difference."""
        return (
            fields <= self.fields
            and self.statuses in (None, statuses)
            and any(fnmatchcase(case, pattern) for pattern in self.cases)
        )


_TEXT = frozenset({"error"})
_VERDICT = frozenset({"status", "error", "json", "type", "bytes"})
_CONTENT = frozenset({"json", "type", "bytes"})

DIFFERENCES = (
    Difference(
        "malformed JSON is the client's fault: 400, where Triton says 500",
        (
            "body: *",
            "data: *",
            "tensor: *",
            "shape: *",
            "outputs: *",
            "id: *",
            "parameters: *",
            "*INT* below the least",
            "*INT* above the greatest",
            "FP?? *",
            "binary: *",
            "header length: *",
            "classification: *",
            "shared memory: *",
            "logging: *",
            "trace: *",
            "repository: *",
            "gzip: *",
            "deflate: *",
            "route * /v2/*",
        ),
        _TEXT | {"status", "type"},
        (500, 400),
    ),
    Difference(
        "messages name the tensor, what was expected and what was found, without "
        "'[request id: …]' before it",
        (
            "FP16 *",
            "data: fractions for FP16",
            "outputs: unknown*",
            "parameters: *",
            "body: *",
            "tensor: *",
            "shape: *",
            "a batch of *",
            "batches that differ",
            "binary: *",
            "header length: *",
            "BYTES: *",
            "gzip: *",
            "deflate: *",
            "content coding *",
            "raw: *",
            "version *",
            "shared memory: *",
            "repository: *",
        ),
        _TEXT,
    ),
    Difference(
        "an empty body is no JSON; Triton takes it for a raw request",
        ("route POST /v2/models/simple/infer", "route POST /v2/models/simple/versions/1/infer"),
        _TEXT,
    ),
    Difference(
        "names in paths are decoded, as its own client encodes them; Triton 2.51 does not",
        ("model *%*", "model größe:*"),
        _VERDICT,
    ),
    Difference(
        "a number that its datatype cannot hold is refused; Triton wraps or drops bits",
        ("*INT* above the greatest", "INT* below the least", "data: too large"),
        _VERDICT,
        (200, 400),
    ),
    Difference(
        "decimal fractions are read to the nearest double; Triton's reader is off by one bit",
        ("FP64 small", "FP64 great"),
        frozenset({"json"}),
    ),
    Difference(
        "JSON does not begin with a byte order mark (RFC 8259 section 8.1)",
        ("body: a byte order mark",),
        _VERDICT,
        (200, 400),
    ),
    Difference(
        "parameters are an object, and their values are scalars",
        ("tensor: parameters a word",),
        _VERDICT,
        (200, 400),
    ),
    Difference(
        "the header's length is a number and nothing else: framing has one reading",
        ("header length: with a sign", "header length: fractional"),
        _VERDICT,
        (200, 400),
    ),
    Difference(
        "bytes after a compressed body are refused: framing has one reading",
        ("gzip: more after it", "deflate: more after it"),
        _VERDICT,
        (200, 400),
    ),
    Difference(
        "an empty header says nothing",
        ("content coding ''",),
        _VERDICT,
        (501, 200),
    ),
    Difference(
        "outputs come in the order in which they are asked for",
        ("outputs: both turned*",),
        _CONTENT,
        (200, 200),
    ),
    Difference(
        "binary_data_output holds for listed outputs that do not say themselves, as the binary "
        "data extension has it; Triton then sends JSON",
        ("outputs: *, binary by default",),
        _CONTENT,
        (200, 200),
    ),
    Difference(
        "a classification of more classes than there are gives all; Triton keeps the lower "
        "32 bits of the number",
        ("classification: 1099511627776",),
        frozenset({"json"}),
    ),
    Difference(
        "a raw request may have several rows, one element of BYTES, and any shape that is "
        "deduced without doubt",
        ("raw: two rows", "raw: too many variable dimensions", "raw: BYTES"),
        _VERDICT,
        (400, 200),
    ),
    Difference(
        "it is another server",
        ("route GET /v2", "a query is ignored: /v2"),
        frozenset({"json"}),
    ),
    Difference(
        "ONNX strings are text: bytes that are none are the client's fault; the model in the "
        "oracle's Python backend fails on them",
        ("BYTES: no UTF-8",),
        _VERDICT,
        (500, 400),
    ),
    Difference(
        "JSON is UTF-8 (RFC 8259 section 8.1); Triton repeats the bytes in an answer that is not",
        ("body: no UTF-8",),
        _TEXT | {"json"},
        (400, 400),
    ),
    Difference(
        "settings are an object",
        ("logging: a list",),
        _VERDICT,
        (200, 400),
    ),
    Difference(
        "control inputs of sequences are inputs like others: there is no sequence batcher",
        ("metadata of simple*_sequence", "config of simple*_sequence"),
        frozenset({"json"}),
    ),
)


def reason_of(
    case: str,
    fields: frozenset[str],
    statuses: tuple[int, int] | None,
    listed: Sequence[Difference] = DIFFERENCES,
) -> Iterator[tuple[Difference, str]]:
    """Every listed difference, with its pattern, that explains this one."""
    for difference in listed:
        if difference.covers(case, fields, statuses):
            for pattern in difference.cases:
                if fnmatchcase(case, pattern):
                    yield difference, pattern


def without_ignored(document: Any) -> Any:
    """A JSON document without the keys that are not compared."""
    if isinstance(document, dict):
        return {key: value for key, value in document.items() if f"$.{key}" not in IGNORED}
    return document
