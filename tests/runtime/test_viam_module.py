"""``nbmodel viam-module`` as viam-server sees it: over its unix socket, by the SDK's stubs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("viam", reason="pip install 'nbmodel[viam]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")

from grpclib.client import Channel
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from viam.proto.app.robot import ComponentConfig
from viam.proto.module import (
    AddResourceRequest,
    ModuleServiceStub,
    ReadyRequest,
    ReconfigureResourceRequest,
    RemoveResourceRequest,
    ValidateConfigRequest,
)
from viam.services.mlmodel import MLModelClient
from viam.utils import dict_to_struct

from nbmodel.runtime.auth import Gate
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.grpc_server import GrpcServer
from nbmodel.runtime.server import Address

pytestmark = [
    pytest.mark.unhurried,
    pytest.mark.skipif(os.name == "nt", reason="needs unix sockets"),
]

ONNX = "nbmodel:mlmodel:onnx_cpu"
START_S = 30


@contextlib.contextmanager
def started(path: Path, **environment: str) -> Iterator[None]:
    """A module that listens on a socket, as viam-server starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "nbmodel", "viam-module", str(path), "--log-level=debug", "--later"],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    deadline = time.monotonic() + START_S
    while not path.exists():
        assert process.poll() is None, "the module ended by itself"
        assert time.monotonic() < deadline, "the module does not listen"
        time.sleep(0.02)
    yield
    process.terminate()
    assert process.wait(20) == 0


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The socket of a module that knows no viam-server."""
    path = tmp_path_factory.mktemp("module") / "m.sock"
    with started(path, VIAM_NO_MODULE_PARENT="true"):
        yield path


def talk(socket: Path, say: Callable[[Channel], Awaitable[Any]]) -> Any:
    async def conversation() -> Any:
        channel = Channel(path=str(socket))
        try:
            return await asyncio.wait_for(say(channel), 30)
        finally:
            channel.close()

    return asyncio.run(conversation())


def service(name: str, model_path: Path, model: str = ONNX, **attributes: Any) -> ComponentConfig:
    return ComponentConfig(
        name=name,
        api="rdk:service:mlmodel",
        model=model,
        attributes=dict_to_struct({"model_path": str(model_path), **attributes}),
    )


async def add(channel: Channel, config: ComponentConfig) -> MLModelClient:
    await ModuleServiceStub(channel).AddResource(AddResourceRequest(config=config))
    return MLModelClient(config.name, channel)


async def answer(model: MLModelClient) -> list[Any]:
    """What ``linear`` says of ones, or ``broken`` does not."""
    outputs = await model.infer({"image": np.float32([[1, 1]])})
    return [array.tolist() for array in outputs.values()]


def test_it_says_that_it_makes_every_backend(socket: Path) -> None:
    async def say(channel: Channel) -> Any:
        return await ModuleServiceStub(channel).Ready(ReadyRequest())

    answer = talk(socket, say)
    (handler,) = answer.handlermap.handlers
    assert answer.ready
    assert handler.subtype.proto_service == "viam.service.mlmodel.v1.MLModelService"
    assert handler.subtype.subtype.subtype == "mlmodel"
    assert {ONNX, "nbmodel:mlmodel:tflite_cpu"} <= set(handler.models)


def test_a_service_lives_from_being_added_to_being_removed(
    socket: Path, linear_onnx: Path, tmp_path: Path
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")

    async def say(channel: Channel) -> Any:
        model = await add(
            channel, service("one", linear_onnx, num_threads=1, label_path=str(labels))
        )
        first = await answer(model)
        metadata = await model.metadata()
        status = await model.get_status()
        name = "rdk:service:mlmodel/one"
        await ModuleServiceStub(channel).RemoveResource(RemoveResourceRequest(name=name))
        with pytest.raises(GRPCError) as caught:
            await answer(model)
        again = await answer(await add(channel, service("one", linear_onnx)))
        return first, metadata, status, caught.value, again

    first, metadata, status, gone, again = talk(socket, say)
    assert first == [[[15, 27, 39]]]
    assert [info.name for info in metadata.input_info] == ["x"]
    assert metadata.output_info[0].extra["labels"] == str(labels)
    assert status["ready"] is True
    assert gone.status == Status.NOT_FOUND
    assert again == first


def test_a_reconfigured_service_runs_the_new_model_and_keeps_the_old_one_when_that_fails(
    socket: Path, linear_onnx: Path, counter_onnx: Path
) -> None:
    async def say(channel: Channel) -> Any:
        module = ModuleServiceStub(channel)

        async def change(config: ComponentConfig) -> None:
            await module.ReconfigureResource(ReconfigureResourceRequest(config=config))

        model = await add(channel, service("two", counter_onnx))
        await change(service("two", linear_onnx))
        linear = await answer(model)
        with pytest.raises(GRPCError) as caught:
            await change(service("two", linear_onnx.with_name("missing.onnx")))
        return linear, caught.value, await answer(model)

    linear, error, after = talk(socket, say)
    assert linear == [[[15, 27, 39]]]
    assert error.status == Status.INTERNAL
    assert "missing.onnx" in str(error.message)
    assert after == linear


def test_a_name_that_is_taken_is_refused_and_goes_on(
    socket: Path, linear_onnx: Path, counter_onnx: Path
) -> None:
    async def say(channel: Channel) -> Any:
        model = await add(channel, service("three", linear_onnx))
        with pytest.raises(GRPCError, match="duplicate"):
            await add(channel, service("three", counter_onnx))
        return await answer(model)

    assert talk(socket, say) == [[[15, 27, 39]]]


def test_a_model_that_cannot_be_loaded_is_refused_and_leaves_nothing(
    socket: Path, tmp_path: Path, linear_onnx: Path
) -> None:
    (tmp_path / "empty.onnx").write_bytes(b"")

    async def say(channel: Channel) -> Any:
        with pytest.raises(GRPCError, match="service 'four' cannot be served"):
            await add(channel, service("four", tmp_path / "empty.onnx"))
        return await answer(await add(channel, service("four", linear_onnx)))

    assert talk(socket, say) == [[[15, 27, 39]]]


def test_labels_within_a_models_file_become_a_file_that_viam_server_can_read(
    socket: Path, test_models: Path
) -> None:
    path = test_models / "mobilenet_v1_0.25_224_quant_with_metadata.tflite"
    if not path.is_file():
        pytest.skip(f"no {path.name} among the real models")

    async def say(channel: Channel) -> Any:
        config = service("labelled", path, "nbmodel:mlmodel:tflite_cpu")
        return await (await add(channel, config)).metadata()

    metadata = talk(socket, say)
    (given,) = metadata.output_info
    assert metadata.description.startswith("Identify the most prominent object")
    labels = Path(given.extra["labels"])
    assert given.associated_files[0].name == labels.name == "labels.txt"
    assert labels.read_text().splitlines()[:3] == ["background", "tench", "goldfish"]


@pytest.mark.parametrize(
    ("attributes", "told"),
    [
        pytest.param({"model_path": "model.pb"}, "must end in .onnx", id="another kind of file"),
        pytest.param(
            {"model_path": "m.onnx", "num_threads": 1.5}, "'num_threads' must be", id="a half"
        ),
        pytest.param({}, "'model_path' is required", id="no model"),
        pytest.param(
            {"model_path": "m.onnx", "lable_path": "x"}, "'label_path'", id="a word misspelt"
        ),
    ],
)
def test_attributes_are_checked_before_anything_is_loaded(
    socket: Path, attributes: dict[str, Any], told: str
) -> None:
    config = ComponentConfig(
        name="five", api="rdk:service:mlmodel", model=ONNX, attributes=dict_to_struct(attributes)
    )

    async def say(channel: Channel) -> Any:
        await ModuleServiceStub(channel).ValidateConfig(ValidateConfigRequest(config=config))

    with pytest.raises(GRPCError) as caught:
        talk(socket, say)
    assert caught.value.status == Status.INVALID_ARGUMENT
    assert told in str(caught.value.message)


def test_right_attributes_ask_for_nothing_else(socket: Path, linear_onnx: Path) -> None:
    request = ValidateConfigRequest(config=service("six", linear_onnx, num_threads=2))

    async def say(channel: Channel) -> Any:
        return await ModuleServiceStub(channel).ValidateConfig(request)

    found = talk(socket, say)
    assert not found.dependencies
    assert not found.optional_dependencies


def test_what_cannot_be_run_is_refused_with_the_status_a_runtime_gives(
    socket: Path, linear_onnx: Path
) -> None:
    async def say(channel: Channel) -> Any:
        model = await add(channel, service("seven", linear_onnx))
        with pytest.raises(GRPCError) as caught:
            await model.infer({"x": np.zeros((1, 3), np.float32)})
        return caught.value

    error = talk(socket, say)
    assert error.status == Status.INVALID_ARGUMENT
    assert "input 'x' has shape [-1, 2], found [1, 3]" in str(error.message)


def test_a_call_whose_time_is_up_does_not_hold_up_the_others(
    socket: Path, counter_onnx: Path, linear_onnx: Path
) -> None:
    async def say(channel: Channel) -> Any:
        slow = await add(channel, service("eight", counter_onnx))
        quick = await add(channel, service("nine", linear_onnx))
        long = asyncio.create_task(slow.infer({"x": np.int64([800_000])}))
        await asyncio.sleep(0.05)
        with pytest.raises((asyncio.TimeoutError, GRPCError)):
            await slow.infer({"x": np.int64([1])}, timeout=0.05)
        meanwhile = await answer(quick)
        assert not long.done()
        return meanwhile, (await long)["y"].tolist()

    assert talk(socket, say) == ([[[15, 27, 39]]], [800_000])


def test_it_connects_back_to_the_machine_that_started_it(
    tmp_path_factory: pytest.TempPathFactory, linear_onnx: Path
) -> None:
    folder = tmp_path_factory.mktemp("parent")
    parent = EdgeRuntime(folder / "home", config={})
    server = GrpcServer(parent, Gate(None, None), Address("127.0.0.1", 0), version="1")
    ready = ReadyRequest(parent_address=server.start())

    async def say(channel: Channel) -> Any:
        assert (await ModuleServiceStub(channel).Ready(ready)).ready
        return await answer(await add(channel, service("ten", linear_onnx)))

    try:
        with started(folder / "m.sock"):
            assert talk(folder / "m.sock", say) == [[[15, 27, 39]]]
    finally:
        server.stop(1)
        parent.close()


def test_a_notebook_is_told_that_a_module_would_hold_it_up() -> None:

    from nbmodel.client import Client
    from nbmodel.commands import verbs
    from nbmodel.commands.context import Context
    from nbmodel.errors import InputError

    with pytest.raises(InputError, match="would hold up the kernel"):
        verbs("%mlmodel").main(
            ["viam-module", "x.sock"],
            obj=Context(Client(), in_notebook=True),
            standalone_mode=False,
        )
