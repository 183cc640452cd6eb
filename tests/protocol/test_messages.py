"""The messages: compiled from the texts, and in nobody's way."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor

from nbmodel.errors import FormatError
from nbmodel.protocol.messages import message, parse

TOOL = Path(__file__).parents[1] / "tools" / "compile_protos.py"
OURS = "nbmodel.runtime.grpc_server"
THEIRS = "tritonclient.grpc"


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("compile_protos", TOOL)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_descriptors_are_those_of_the_texts(tool: ModuleType) -> None:
    pytest.importorskip("grpc_tools", reason="the compiler is in grpcio-tools")
    compiled = tool.compile_protos()
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(compiled) == read(tool.COMPILED.read_bytes()), f"run {TOOL}"


@pytest.mark.parametrize("order", [(OURS, THEIRS), (THEIRS, OURS)], ids=["before", "after"])
def test_the_messages_load_beside_those_of_tritonclient(order: tuple[str, str]) -> None:
    pytest.importorskip(THEIRS, reason="pip install 'nbmodel[triton]'")
    first, second = order
    code = (
        f"import {first}\nimport {second}\n"
        "from nbmodel.protocol.messages import message\n"
        "message('inference.ModelInferRequest')(model_name='x')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def _fields(descriptor: Descriptor) -> dict[str, tuple[int, int, bool]]:
    return {
        field.name: (field.number, field.type, field.is_repeated) for field in descriptor.fields
    }


def test_the_fields_are_tritons() -> None:
    service_pb2 = pytest.importorskip(
        "tritonclient.grpc.service_pb2", reason="pip install 'nbmodel[triton]'"
    )
    from tritonclient.grpc import model_config_pb2

    theirs = {
        **service_pb2.DESCRIPTOR.message_types_by_name,
        **model_config_pb2.DESCRIPTOR.message_types_by_name,
    }
    ours = message("inference.ModelInferRequest").DESCRIPTOR.file.message_types_by_name
    for name, kind in message("inference.ModelConfig").DESCRIPTOR.file.enum_types_by_name.items():
        expected = model_config_pb2.DESCRIPTOR.enum_types_by_name[name].values_by_name
        assert {v.name: v.number for v in kind.values} == {
            v.name: v.number for v in expected.values()
        }
    pairs = [(ours[name], theirs[name]) for name in ours]
    while pairs:
        own, other = pairs.pop()
        expected = _fields(other)
        assert {name: expected.get(name) for name in _fields(own)} == _fields(own), own.full_name
        pairs += [(nested, other.nested_types_by_name[nested.name]) for nested in own.nested_types]


def test_what_is_no_message_is_refused() -> None:
    with pytest.raises(FormatError, match=r"not a inference\.ServerLiveRequest"):
        parse("inference.ServerLiveRequest", b"\xff\xff")
