"""The same gRPC calls to a real tritonserver and to a runtime: every difference has a reason."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest

from tests.conformance.conftest import Served
from tests.conformance.differences import Difference, reason_of
from tests.tools.example_models import ALL, DATATYPES
from tests.tools.triton import Triton

grpc = pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
pb = pytest.importorskip("tritonclient.grpc.service_pb2", reason="pip install 'nbmodel[triton]'")

LEAST = 40  # calls
DEADLINE_S = 20
SERVICE = "/inference.GRPCInferenceService/"

#: Fields of answers that are not compared, and why.
IGNORED = {
    "platform": "the oracle runs ONNX files in its Python backend",
    "backend": "the oracle runs ONNX files in its Python backend",
    "default_model_filename": "the oracle runs ONNX files in its Python backend",
    "instance_group": "instances are named otherwise",
    "optimization": "pinned memory is a matter of GPUs",
    "dynamic_batching": "we batch without being told; the oracle does not",
    "sequence_batching": "sequences have no place in a runtime's scheduler",
    "version": "it is another server",
    "extensions": "those that each server has",
    "model_stats": "counts and times of two histories",
    "reason": "empty where a model is ready",
}

_DETAILS = frozenset({"details"})
_ALL = frozenset({"code", "details", "message"})
DIFFERENCES = (
    Difference(
        "messages name the tensor, what was expected and what was found, without "
        "'[request id: …]' before it",
        ("infer: *", "contents: *", "raw: *", "version: *", "memory: *"),
        _DETAILS,
    ),
    Difference("it is another server", ("server metadata",), frozenset({"message"})),
    Difference("versions begin at 1, and no other is looked for", ("version: * 0",), _ALL),
    Difference(
        "outputs come in the order in which they are asked for",
        ("outputs turned",),
        frozenset({"message"}),
    ),
    Difference(
        "contents without an input are refused; Triton leaves them out",
        ("raw: one too many",),
        _ALL,
    ),
    Difference(
        "control inputs of sequences are inputs like others: there is no sequence batcher",
        ("metadata: simple*_sequence", "config: simple*_sequence"),
        frozenset({"message"}),
    ),
)


@dataclass(frozen=True, slots=True)
class Call:
    """One call.

    Attributes:
        id: What it is.
        method: Of the service.
        request: The message.
        answer: Type of the answer.
    """

    id: str
    method: str
    request: Any
    answer: Callable[[], Any]


def calls() -> list[Call]:
    """All calls; what changes the repository comes last."""
    return [
        *_server(),
        *_descriptions(),
        *_datatypes(),
        *_requests(),
        *_wrong(),
        *_memory(),
        *_repository(),
    ]


def _call(id_: str, method: str, **fields: Any) -> Call:
    request = getattr(pb, f"{method}Request")(**fields)
    return Call(id_, method, request, getattr(pb, f"{method}Response"))


def _server() -> Iterator[Call]:
    for method in ("ServerLive", "ServerReady", "ServerMetadata"):
        yield _call(method.replace("ServerM", "server m"), method)
    yield _call("log settings", "LogSettings")


def _descriptions() -> Iterator[Call]:
    for model in (*(model.name for model in ALL), "nope", ""):
        yield _call(f"ready: {model}", "ModelReady", name=model)
        yield _call(f"metadata: {model}", "ModelMetadata", name=model)
        yield _call(f"config: {model}", "ModelConfig", name=model)
    for version in ("1", "2", "0", "-1", "v1", "9" * 30):
        name = {"name": "simple", "version": version}
        yield _call(f"version: ready {version}", "ModelReady", **name)
        yield _call(f"version: metadata {version}", "ModelMetadata", **name)
        yield _call(f"version: config {version}", "ModelConfig", **name)
        yield _call(f"version: stats {version}", "ModelStatistics", **name)
        infer = {"model_name": "simple", "model_version": version, **_pair()}
        yield _call(f"version: infer {version}", "ModelInfer", **infer)
    yield _call("stats: unknown", "ModelStatistics", name="nope")


def _tensor(name: str, datatype: str, shape: list[int], **more: Any) -> Any:
    return pb.ModelInferRequest.InferInputTensor(name=name, datatype=datatype, shape=shape, **more)


_INTS = struct.pack("<16i", *range(16))


def _pair(shape: tuple[int, ...] = (1, 16), raw: bytes = _INTS) -> dict[str, Any]:
    inputs = [_tensor(f"INPUT{i}", "INT32", list(shape)) for i in range(2)]
    return {"inputs": inputs, "raw_input_contents": [raw, raw]}


def _infer(id_: str, model: str, **fields: Any) -> Call:
    return _call(id_, "ModelInfer", model_name=model, **fields)


_SIZES = {"8": 1, "L": 1, "6": 2, "2": 4, "4": 8}
_FIELDS = {
    "BOOL": ("bool_contents", [True, False]),
    "UINT8": ("uint_contents", [1, 255]),
    "UINT16": ("uint_contents", [1, 65535]),
    "UINT32": ("uint_contents", [1, 4294967295]),
    "UINT64": ("uint64_contents", [1, 2**64 - 1]),
    "INT8": ("int_contents", [-128, 127]),
    "INT16": ("int_contents", [-32768, 32767]),
    "INT32": ("int_contents", [-(2**31), 2**31 - 1]),
    "INT64": ("int64_contents", [-(2**63), 2**63 - 1]),
    "FP32": ("fp32_contents", [0.5, -1.25]),
    "FP64": ("fp64_contents", [0.1, -1e300]),
    "BYTES": ("bytes_contents", [b"", "größer".encode()]),
}


def _datatypes() -> Iterator[Call]:
    for datatype in DATATYPES:
        model = f"identity_{datatype.lower()}"
        if datatype == "BYTES":
            raw = b"".join(struct.pack("<I", len(v)) + v for v in (b"a", b"bc"))
        else:
            raw = bytes(i % 2 for i in range(2 * _SIZES[datatype[-1]]))
        tensor = _tensor("x", datatype, [1, 2])
        yield _infer(f"{datatype} raw", model, inputs=[tensor], raw_input_contents=[raw])
        if datatype in _FIELDS:
            field, values = _FIELDS[datatype]
            contents = pb.InferTensorContents(**{field: values})
            tensor = _tensor("x", datatype, [2, 1], contents=contents)
            yield _infer(f"{datatype} typed", model, inputs=[tensor])


def _output(name: str, **parameters: Any) -> Any:
    values = {key: _parameter(value) for key, value in parameters.items()}
    return pb.ModelInferRequest.InferRequestedOutputTensor(name=name, parameters=values)


def _parameter(value: Any) -> Any:
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    return pb.InferParameter(**{kinds[type(value)]: value})


def _requests() -> Iterator[Call]:
    yield _infer("a request", "simple", **_pair())
    yield _infer("an id", "simple", id="größe 1", **_pair())
    for batch in (2, 8):
        yield _infer(f"a batch of {batch}", "simple", **_pair((batch, 16), _INTS * batch))
    for word, outputs in {
        "one": [_output("OUTPUT1")],
        "turned": [_output("OUTPUT1"), _output("OUTPUT0")],
        "twice": [_output("OUTPUT0"), _output("OUTPUT0")],
    }.items():
        yield _infer(f"outputs {word}", "simple", outputs=outputs, **_pair())
    for word, value in {
        "a truth": True,
        "a number": 7,
        "a word": "x",
        "a fraction": 0.5,
    }.items():
        parameters = {"mine": _parameter(value)}
        yield _infer(f"a parameter, {word}", "simple", parameters=parameters, **_pair())
    scores = struct.pack("<8f", 0.25, 0.5, 0.125, 0.0625, 4, 3, 2, 1)
    tensor = _tensor("x", "FP32", [2, 4])
    for classes in (0, 1, 3, 4, 9):
        yield _infer(
            f"classification of {classes}",
            "scores",
            inputs=[tensor],
            raw_input_contents=[scores],
            outputs=[_output("y", classification=classes)],
        )


def _wrong() -> Iterator[Call]:
    pair = _pair()
    first, second = pair["inputs"]
    raw = pair["raw_input_contents"]
    yield _infer("infer: unknown model", "nope", **pair)
    yield _infer("infer: no model", "", **pair)
    yield _infer("infer: nothing", "simple")
    yield _infer("infer: one missing", "simple", inputs=[first], raw_input_contents=raw[:1])
    yield _infer("infer: one twice", "simple", inputs=[first, first], raw_input_contents=raw)
    yield _infer(
        "infer: one unknown",
        "simple",
        inputs=[first, _tensor("INPUT2", "INT32", [1, 16])],
        raw_input_contents=raw,
    )
    yield _infer("infer: a batch of 9", "simple", **_pair((9, 16), _INTS * 9))
    for word, tensor in {
        "wrong datatype": _tensor("INPUT0", "FP32", [1, 16]),
        "unknown datatype": _tensor("INPUT0", "INT33", [1, 16]),
        "no datatype": _tensor("INPUT0", "", [1, 16]),
        "no shape": _tensor("INPUT0", "INT32", []),
        "wrong shape": _tensor("INPUT0", "INT32", [16, 1]),
        "too many dimensions": _tensor("INPUT0", "INT32", [1, 1, 16]),
        "a negative shape": _tensor("INPUT0", "INT32", [-1, -16]),
        "a huge shape": _tensor("INPUT0", "INT32", [1 << 40, 1 << 40]),
    }.items():
        yield _infer(f"infer: {word}", "simple", inputs=[tensor, second], raw_input_contents=raw)
    yield _infer("infer: unknown output", "simple", outputs=[_output("OUTPUT2")], **pair)
    reserved = {"triton_mine": _parameter(1)}
    yield _infer("infer: a reserved parameter", "simple", parameters=reserved, **pair)
    for word, contents in {
        "too short": [raw[0][:60], raw[1]],
        "too long": [raw[0] + b"xxxx", raw[1]],
        "empty": [b"", raw[1]],
        "one too few": raw[:1],
        "one too many": [*raw, raw[0]],
    }.items():
        yield _infer(f"raw: {word}", "simple", inputs=[first, second], raw_input_contents=contents)
    ints = pb.InferTensorContents(int_contents=list(range(16)))
    few = pb.InferTensorContents(int_contents=[1])
    floats = pb.InferTensorContents(fp32_contents=[1.0] * 16)
    for word, contents in {"right": ints, "too few": few, "of another type": floats}.items():
        typed = [_tensor(f"INPUT{i}", "INT32", [1, 16], contents=contents) for i in range(2)]
        yield _infer(f"contents: {word}", "simple", inputs=typed)
    typed = [_tensor(f"INPUT{i}", "INT32", [1, 16], contents=ints) for i in range(2)]
    yield _infer("contents: and raw ones", "simple", inputs=typed, raw_input_contents=raw)
    words = _tensor("x", "BYTES", [1, 2])
    for word, raw_words in {
        "a length too long": struct.pack("<I", 5) + b"abc",
        "one too few": struct.pack("<I", 1) + b"a",
        "one too many": (struct.pack("<I", 1) + b"a") * 3,
    }.items():
        yield _infer(
            f"raw: BYTES, {word}",
            "identity_bytes",
            inputs=[words],
            raw_input_contents=[raw_words],
        )


def _memory() -> Iterator[Call]:
    yield _call("memory: status", "SystemSharedMemoryStatus")
    yield _call("memory: status of one unknown", "SystemSharedMemoryStatus", name="oracle")
    yield _call("memory: unregister unknown", "SystemSharedMemoryUnregister", name="oracle")
    yield _call("memory: unregister all", "SystemSharedMemoryUnregister")
    yield _call(
        "memory: register what is not there",
        "SystemSharedMemoryRegister",
        name="oracle",
        key="/oracle-none",
        byte_size=64,
    )
    region = {
        "shared_memory_region": _parameter("oracle"),
        "shared_memory_byte_size": _parameter(64),
    }
    tensors = [_tensor(f"INPUT{i}", "INT32", [1, 16], parameters=region) for i in range(2)]
    yield _infer("memory: inputs in an unknown region", "simple", inputs=tensors)
    yield _call("CUDA memory: status", "CudaSharedMemoryStatus")
    yield _call("CUDA memory: unregister all", "CudaSharedMemoryUnregister")


def _repository() -> Iterator[Call]:
    yield _call("index", "RepositoryIndex")
    yield _call("index of the ready", "RepositoryIndex", ready=True)
    yield _call("load: unknown", "RepositoryModelLoad", model_name="nope")
    yield _call("unload unknown", "RepositoryModelUnload", model_name="nope")
    yield _call("load again", "RepositoryModelLoad", model_name="simple_string")
    yield _call("unload", "RepositoryModelUnload", model_name="simple_string")
    yield _call("unloaded: ready", "ModelReady", name="simple_string")
    yield _call("unloaded: metadata", "ModelMetadata", name="simple_string")
    yield _call("unloaded: config", "ModelConfig", name="simple_string")
    yield _infer("unloaded: infer", "simple_string", **_pair())
    yield _call("load what was unloaded", "RepositoryModelLoad", model_name="simple_string")
    yield _call("loaded: ready", "ModelReady", name="simple_string")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended: its status, or its answer without what is not compared."""

    code: str = "OK"
    details: str = ""
    message: object = None


def make(channel: Any, call: Call) -> Outcome:
    function = channel.unary_unary(
        SERVICE + call.method,
        request_serializer=type(call.request).SerializeToString,
        response_deserializer=call.answer.FromString,
    )
    try:
        answer = function(call.request, timeout=DEADLINE_S)
    except grpc.RpcError as exc:
        return Outcome(exc.code().name, exc.details())
    return Outcome(message=_comparable(answer))


def _comparable(answer: Any) -> object:
    from google.protobuf.json_format import MessageToDict

    document = MessageToDict(answer, preserving_proto_field_name=True)
    return _without_ignored(document)


def _without_ignored(document: Any) -> Any:
    if isinstance(document, Mapping):
        return {k: _without_ignored(v) for k, v in document.items() if k not in IGNORED}
    if isinstance(document, list):
        entries = [_without_ignored(entry) for entry in document]
        if document and all(isinstance(e, Mapping) and "state" in e for e in document):
            return sorted(entries, key=lambda entry: str(entry["name"]))
        return entries
    return document


@pytest.mark.slow
def test_every_difference_from_triton_over_grpc_has_its_reason(
    real_triton: Triton, our_runtime: Served
) -> None:
    table = calls()
    assert len({call.id for call in table}) == len(table) >= LEAST
    unused = {(d, pattern) for d in DIFFERENCES for pattern in d.cases}
    unexplained = []
    with (
        grpc.insecure_channel(real_triton.grpc) as theirs,
        grpc.insecure_channel(our_runtime.grpc) as ours,
    ):
        for call in table:
            outcomes = make(theirs, call), make(ours, call)
            different = frozenset(
                name
                for name in ("code", "details", "message")
                if getattr(outcomes[0], name) != getattr(outcomes[1], name)
            )
            if not different:
                continue
            reasons = set(reason_of(call.id, different, None, DIFFERENCES))
            unused -= reasons
            if not reasons:
                unexplained.append(f"{call.id}\n  {outcomes[0]}\n  {outcomes[1]}")
    assert not unexplained, "Triton's answer, then ours\n" + "\n".join(unexplained)
    stale = sorted(f"{pattern!r}: {difference.why}" for difference, pattern in unused)
    assert not stale, "these differ no more, take them off the list:\n" + "\n".join(stale)
