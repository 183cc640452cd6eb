"""A runtime as Viam's own SDK sees it: robot, models, pictures, credentials, time."""

from __future__ import annotations

import asyncio
import inspect
import json
import textwrap
import uuid
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbmodel.protocol.messages import message

pytest.importorskip("viam", reason="pip install 'nbmodel[viam]'")
pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")

import grpc
from google.protobuf.descriptor import FieldDescriptor
from grpclib.const import Status
from grpclib.exceptions import GRPCError
from viam.media.utils.pil import pil_to_viam_image
from viam.media.video import CameraMimeType, ViamImage
from viam.robot.client import RobotClient
from viam.rpc.dial import DialOptions
from viam.services.generic import GenericClient
from viam.services.mlmodel import LabelType, MLModel, MLModelClient
from viam.services.vision import VisionClient

from nbmodel.runtime.auth import Gate
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.grpc_server import GrpcServer
from nbmodel.runtime.server import Address

CARRIED = {
    "int8": "int8",
    "uint8": "uint8",
    "int16": "int16",
    "uint16": "uint16",
    "int32": "int32",
    "uint32": "uint32",
    "int64": "int64",
    "uint64": "uint64",
    "fp32": "float32",
    "fp64": "float64",
}
FOREIGN = {"bool": "bool", "fp16": "float16", "bf16": "bfloat16", "bytes": "string"}
TOKEN = "the-token-of-the-runtime"
SAMPLE = "my_mlmodel_service"  # as in the SDK's samples


def picture_model() -> bytes:
    """x UINT8[1,384,384,3] → y, the largest value of each colour, UINT8[1,3]."""
    from onnx import TensorProto, helper

    uint8 = TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node("ReduceMax", ["x"], ["y"], axes=[1, 2], keepdims=0)],
        "largest",
        [helper.make_tensor_value_info("x", uint8, [1, 384, 384, 3])],
        [helper.make_tensor_value_info("y", uint8, [1, 3])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("labels") / "colours.txt"
    path.write_text("red\ngreen\nblue\n")
    return path


@pytest.fixture(scope="module")
def runtime(
    tmp_path_factory: pytest.TempPathFactory,
    toy_config: Path,
    counter_onnx: Path,
    labels: Path,
    service: Callable[[str, Path], dict[str, Any]],
) -> Iterator[EdgeRuntime]:
    folder = tmp_path_factory.mktemp("viam")
    (folder / "picture.onnx").write_bytes(picture_model())
    sample = service(SAMPLE, folder / "picture.onnx")
    sample["attributes"]["label_path"] = str(labels)
    config = json.loads(toy_config.read_text())
    config["services"] += [
        sample,
        service("counter", counter_onnx),
        service("broken", folder / "missing.onnx"),
    ]
    runtime = EdgeRuntime(folder / "home", config=config, name="viam")
    assert runtime.wait_settled(30)
    yield runtime
    runtime.close()


def serve(runtime: EdgeRuntime, token: str | None) -> Iterator[str]:
    server = GrpcServer(runtime, Gate(token, None), Address("127.0.0.1", 0), version="1.2.3")
    yield server.start()
    server.stop(1)


@pytest.fixture(scope="module")
def address(runtime: EdgeRuntime) -> Iterator[str]:
    """Of the runtime, which wants no token."""
    yield from serve(runtime, None)


@pytest.fixture(scope="module")
def guarded(runtime: EdgeRuntime) -> Iterator[str]:
    """Of the same runtime, wanting ``TOKEN``."""
    yield from serve(runtime, TOKEN)


def options(**kwargs: Any) -> RobotClient.Options:
    """Those that the SDK needs for a server without TLS."""
    return RobotClient.Options(
        dial_options=DialOptions(insecure=True, disable_webrtc=True, **kwargs)
    )


def talk(
    address: str,
    say: Callable[[RobotClient], Awaitable[Any]],
    given: RobotClient.Options | None = None,
) -> Any:
    """What comes of a conversation with the machine at an address."""

    async def conversation() -> Any:
        machine = await RobotClient.at_address(address, given or options())
        try:
            return await asyncio.wait_for(say(machine), 30)
        finally:
            await machine.close()

    return asyncio.run(conversation())


def infer(address: str, name: str, tensors: dict[str, NDArray[Any]], **kwargs: Any) -> Any:
    async def say(machine: RobotClient) -> Any:
        return await MLModelClient.from_robot(machine, name).infer(tensors, **kwargs)

    return talk(address, say)


def refusal(address: str, say: Callable[[RobotClient], Awaitable[Any]]) -> tuple[Status, str]:
    with pytest.raises(GRPCError) as caught:
        talk(address, say)
    return caught.value.status, str(caught.value.message)


class TestRobot:
    def test_every_service_of_the_config_is_a_resource(
        self, address: str, runtime: EdgeRuntime
    ) -> None:
        async def say(machine: RobotClient) -> Any:
            return machine.resource_names

        names = talk(address, say)
        assert [name.name for name in names] == [view.name for view in runtime.services()]
        assert {(name.namespace, name.type, name.subtype) for name in names} == {
            ("rdk", "service", "mlmodel")
        }

    def test_version_and_operations(self, address: str) -> None:
        async def say(machine: RobotClient) -> Any:
            await machine.stop_all()
            return await machine.get_version(), await machine.get_operations()

        version, operations = talk(address, say)
        assert (version.platform, version.version) == ("nbmodel", "1.2.3")
        assert operations == []

    def test_the_machine_status_tells_what_is_ready_and_why_something_is_not(
        self, address: str, runtime: EdgeRuntime
    ) -> None:
        from viam.proto.robot import GetMachineStatusResponse, ResourceStatus

        async def say(machine: RobotClient) -> Any:
            return await machine.get_machine_status()

        status = talk(address, say)
        by_name = {resource.name.name: resource for resource in status.resources}
        assert status.state == GetMachineStatusResponse.STATE_RUNNING
        assert status.config.revision == runtime.config[1]
        assert by_name["fp32"].state == ResourceStatus.STATE_READY
        assert by_name["fp32"].error == ""
        assert by_name["fp32"].last_updated.seconds > 1_700_000_000
        assert by_name["broken"].state == ResourceStatus.STATE_UNHEALTHY
        assert "missing.onnx" in by_name["broken"].error


class TestModels:
    @pytest.mark.parametrize(("name", "dtype"), CARRIED.items(), ids=CARRIED)
    def test_every_datatype_comes_back_as_it_went(
        self, address: str, name: str, dtype: str
    ) -> None:
        info = np.iinfo(dtype) if np.dtype(dtype).kind in "iu" else np.finfo(dtype)
        sent = np.array([[info.min, info.max, 0], [1, 2, info.max // 3]], dtype)
        outputs = infer(address, name, {"x": sent})
        assert list(outputs) == ["y"]
        np.testing.assert_array_equal(outputs["y"], sent, strict=True)

    @pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 0)], ids=str)
    def test_shapes_with_little_or_nothing_in_them_come_back(
        self, address: str, shape: tuple[int, ...]
    ) -> None:
        sent = np.ones(shape, np.float32)
        np.testing.assert_array_equal(infer(address, "fp32", {"x": sent})["y"], sent, strict=True)

    def test_the_answer_is_the_models(self, address: str) -> None:
        outputs = infer(address, "linear", {"x": np.float32([[1, 1], [0, 0]])})
        np.testing.assert_array_equal(outputs["y"], np.float32([[15, 27, 39], [10, 20, 30]]))

    @pytest.mark.parametrize(("name", "word"), FOREIGN.items(), ids=FOREIGN)
    def test_a_model_of_other_datatypes_is_refused_by_the_names_of_its_tensors(
        self, address: str, name: str, word: str
    ) -> None:
        async def say(machine: RobotClient) -> Any:
            return await MLModelClient.from_robot(machine, name).infer({"x": np.float32([[1]])})

        status, told = refusal(address, say)
        assert status == Status.INVALID_ARGUMENT
        assert f"input 'x' is {word}; output 'y' is {word}" in told

    @pytest.mark.parametrize(
        ("name", "tensors", "status", "told"),
        [
            pytest.param(
                "linear",
                {"x": np.zeros((1, 2), np.float64)},
                Status.INVALID_ARGUMENT,
                "input 'x' is FP32, found FP64",
                id="another datatype",
            ),
            pytest.param(
                "linear",
                {"x": np.zeros((1, 3), np.float32)},
                Status.INVALID_ARGUMENT,
                r"input 'x' has shape [-1, 2], found [1, 3]",
                id="another shape",
            ),
            pytest.param(
                "linear",
                {"a": np.zeros((1, 2), np.float32), "b": np.zeros((1, 2), np.float32)},
                Status.INVALID_ARGUMENT,
                "unexpected input 'a'",
                id="too many inputs",
            ),
            pytest.param("linear", {}, Status.INVALID_ARGUMENT, "missing input 'x'", id="no input"),
            pytest.param(
                "broken",
                {"x": np.zeros((1, 2), np.float32)},
                Status.UNAVAILABLE,
                "missing.onnx",
                id="a model that is not loaded",
            ),
        ],
    )
    def test_what_cannot_be_run_is_refused_with_the_reason(
        self,
        address: str,
        name: str,
        tensors: dict[str, NDArray[Any]],
        status: Status,
        told: str,
    ) -> None:
        async def say(machine: RobotClient) -> Any:
            return await MLModelClient.from_robot(machine, name).infer(tensors)

        found = refusal(address, say)
        assert found[0] == status
        assert told in found[1]

    def test_a_service_that_there_is_not_is_told_with_those_there_are(self, address: str) -> None:
        async def say(machine: RobotClient) -> Any:
            return await MLModelClient("nothing", machine._channel).metadata()

        status, told = refusal(address, say)
        assert status == Status.NOT_FOUND
        assert "no service 'nothing'" in told
        assert "linear" in told

    def test_bytes_that_are_no_request_are_refused(self, address: str) -> None:
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary("/viam.service.mlmodel.v1.MLModelService/Infer")
            with pytest.raises(grpc.RpcError) as caught:
                call(b"\x0a\xff\xff")
        assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert "InferRequest" in caught.value.details()

    def test_metadata_is_in_viams_words(self, address: str, labels: Path) -> None:
        async def say(machine: RobotClient) -> Any:
            return await MLModelClient.from_robot(machine, SAMPLE).metadata()

        found = talk(address, say)
        (taken,), (given,) = found.input_info, found.output_info
        assert (found.name, found.type) == (SAMPLE, "classifier")
        assert (taken.name, taken.data_type, list(taken.shape)) == ("x", "uint8", [1, 384, 384, 3])
        assert (given.name, given.data_type, list(given.shape)) == ("y", "uint8", [1, 3])
        assert given.associated_files[0].name == "colours.txt"
        assert given.associated_files[0].label_type == LabelType.LABEL_TYPE_TENSOR_AXIS
        assert given.extra["labels"] == str(labels)

    @pytest.mark.parametrize(
        ("name", "word"), (CARRIED | FOREIGN).items(), ids=list(CARRIED | FOREIGN)
    )
    def test_metadata_names_every_datatype(self, address: str, name: str, word: str) -> None:
        async def say(machine: RobotClient) -> Any:
            return await MLModelClient.from_robot(machine, name).metadata()

        found = talk(address, say)
        assert [info.data_type for info in (*found.input_info, *found.output_info)] == [word] * 2
        assert list(found.input_info[0].shape) == [-1, -1]

    def test_status_and_commands(self, address: str) -> None:
        async def say(machine: RobotClient) -> Any:
            model = MLModelClient.from_robot(machine, SAMPLE)
            # The SDK's model client has no call for commands; its generic one has.
            generic = GenericClient(SAMPLE, machine._channel)
            return await model.get_status(), await generic.do_command({"command": "stats"})

        status, answer = talk(address, say)
        assert status["ready"] is True
        assert status["backend"] == "onnx_cpu"
        assert answer["failures"] == 0

    def test_an_unknown_command_is_refused_with_those_there_are(self, address: str) -> None:
        async def say(machine: RobotClient) -> Any:
            return await GenericClient(SAMPLE, machine._channel).do_command({"command": "jump"})

        status, told = refusal(address, say)
        assert status == Status.INVALID_ARGUMENT
        assert "unknown command 'jump'" in told
        assert "stats" in told


@pytest.mark.parametrize("method", ["infer", "metadata"])
def test_the_sample_in_the_sdks_documentation_runs_as_it_stands(address: str, method: str) -> None:
    documentation = inspect.getdoc(getattr(MLModel, method)) or ""
    code = documentation.partition("::\n")[2].partition("\nArgs:")[0].partition("\nReturns:")[0]
    source = "async def sample(machine):\n" + textwrap.indent(
        textwrap.dedent(code) + "\nreturn locals()\n", "    "
    )
    names: dict[str, Any] = {"MLModelClient": MLModelClient}
    exec(compile(source, "sample", "exec"), names)
    found = talk(address, names["sample"])
    if method == "infer":
        np.testing.assert_array_equal(found["output_tensors"]["y"], np.uint8([[0, 0, 0]]))
    else:
        assert found["metadata"].name == SAMPLE


class TestTime:
    """The counter takes a second for a million, on one instance."""

    def test_a_request_whose_time_is_up_or_that_nobody_wants_is_never_run(
        self, address: str, runtime: EdgeRuntime
    ) -> None:
        async def say(machine: RobotClient) -> Any:
            model = MLModelClient.from_robot(machine, "counter")
            long = asyncio.create_task(model.infer({"x": np.int64([1_000_000])}))
            await asyncio.sleep(0.1)
            cancelled = asyncio.create_task(model.infer({"x": np.int64([1])}))
            with pytest.raises((asyncio.TimeoutError, GRPCError)):
                await model.infer({"x": np.int64([2])}, timeout=0.1)
            cancelled.cancel()
            return await long

        before = runtime.do("counter", {"command": "stats"})["inferences"]
        assert talk(address, say)["y"] == [1_000_000]
        # Whatever waited had its turn by now, had it not been dropped.
        assert infer(address, "counter", {"x": np.int64([3])})["y"] == [3]
        assert runtime.do("counter", {"command": "stats"})["inferences"] == before + 2


class TestCredentials:
    def test_an_api_key_is_the_runtimes_token(self, guarded: str) -> None:
        given = RobotClient.Options.with_api_key(TOKEN, str(uuid.uuid4()))
        assert given.dial_options is not None
        given.dial_options.insecure = True  # there is no TLS

        async def say(machine: RobotClient) -> Any:
            return await MLModelClient.from_robot(machine, "linear").infer(
                {"x": np.float32([[1, 1]])}
            )

        assert talk(guarded, say, given)["y"].tolist() == [[15, 27, 39]]

    def test_credentials_are_not_minded_where_none_are_wanted(self, address: str) -> None:
        request = message("viam.AuthenticateRequest")(credentials={"payload": "anything"})
        with grpc.insecure_channel(address) as channel:
            call = channel.unary_unary("/proto.rpc.v1.AuthService/Authenticate")
            answer = call(request.SerializeToString())
        assert message("viam.AuthenticateResponse").FromString(answer).access_token

    @pytest.mark.parametrize(
        ("method", "metadata", "payload"),
        [
            pytest.param("proto.rpc.v1.AuthService/Authenticate", [], "wrong", id="a wrong key"),
            pytest.param("proto.rpc.v1.AuthService/Authenticate", [], "", id="no key"),
            pytest.param("viam.robot.v1.RobotService/ResourceNames", [], None, id="no token"),
            pytest.param(
                "viam.service.mlmodel.v1.MLModelService/Metadata",
                [("authorization", "Bearer wrong")],
                None,
                id="a wrong token",
            ),
        ],
    )
    def test_who_does_not_have_the_token_is_turned_away(
        self, guarded: str, method: str, metadata: list[tuple[str, str]], payload: str | None
    ) -> None:
        data = b""
        if payload is not None:
            request = message("viam.AuthenticateRequest")(credentials={"payload": payload})
            data = request.SerializeToString()
        with grpc.insecure_channel(guarded) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(f"/{method}")(data, metadata=metadata)
        assert caught.value.code() == grpc.StatusCode.UNAUTHENTICATED


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory, test_models: Path) -> Iterator[str]:
    """The address of a runtime with a vision service, ``see``, that finds objects."""
    model = test_models / "coco_ssd_mobilenet_v1_1.0_quant_with_metadata.tflite"
    if not model.is_file():
        pytest.skip(f"no {model.name} among the real models")
    config = {
        "services": [
            {
                "name": "coco",
                "api": "rdk:service:mlmodel",
                "model": "viam:mlmodel-tflite:tflite_cpu",
                "attributes": {
                    "model_path": str(model),
                    "label_path": str(test_models / "coco_labels.txt"),
                },
            },
            {
                "name": "see",
                "api": "rdk:service:vision",
                "model": "mlmodel",
                "attributes": {"mlmodel_name": "coco", "default_minimum_confidence": 0.5},
            },
        ]
    }
    runtime = EdgeRuntime(tmp_path_factory.mktemp("seeing"), config=config)
    assert runtime.wait_settled(60)
    yield from serve(runtime, None)
    runtime.close()


def look(address: str, say: Callable[[VisionClient], Awaitable[Any]]) -> Any:
    async def conversation(machine: RobotClient) -> Any:
        return await say(VisionClient.from_robot(machine, "see"))

    return talk(address, conversation)


class TestVision:
    def test_objects_in_a_picture_are_found(self, seeing: str, test_models: Path) -> None:
        from PIL import Image

        path = test_models / "kite_and_cold.jpg"
        image = ViamImage(path.read_bytes(), CameraMimeType.JPEG)
        with Image.open(path) as file:  # the SDK finds another size in some files
            width, height = file.size

        async def say(vision: VisionClient) -> Any:
            return await vision.get_properties(), await vision.get_detections(image)

        properties, found = look(seeing, say)
        assert properties.detections_supported
        assert not properties.classifications_supported
        assert not properties.object_point_clouds_supported
        assert {"person", "kite"} >= {one.class_name for one in found} >= {"person"}
        for one in found:
            assert 0.5 <= one.confidence <= 1
            assert 0 <= one.x_min < one.x_max < width
            assert 0 <= one.y_min < one.y_max < height
            assert one.x_min == int(one.x_min_normalized * (width - 1))

    def test_a_picture_of_raw_pixels_is_the_same_picture(
        self, seeing: str, test_models: Path
    ) -> None:
        from PIL import Image

        with Image.open(test_models / "kite_and_cold.jpg") as file:
            picture = file.convert("RGBA").resize((300, 200))
        as_file = pil_to_viam_image(picture, CameraMimeType.PNG)
        raw = pil_to_viam_image(picture, CameraMimeType.VIAM_RGBA)

        async def say(vision: VisionClient) -> Any:
            return await vision.get_detections(as_file), await vision.get_detections(raw)

        of_file, of_raw = look(seeing, say)
        assert of_file == of_raw
        assert len(of_file) > 0

    def test_status_and_commands_reach_a_vision_service(self, seeing: str) -> None:
        async def say(vision: VisionClient) -> Any:
            return await vision.get_status(), await vision.do_command({"command": "stats"})

        status, answer = look(seeing, say)
        assert (status["state"], status["mlmodel_name"]) == ("ready", "coco")
        assert "error" not in status
        assert answer["inferences"] >= 1

    @pytest.mark.parametrize(
        ("ask", "told"),
        [
            pytest.param(
                lambda vision: vision.get_detections_from_camera("c"),
                "this runtime has none (take the picture yourself and send it with GetDetections)",
                id="detections from a camera",
            ),
            pytest.param(
                lambda vision: vision.get_classifications_from_camera("c", 3),
                "send it with GetClassifications",
                id="classifications from a camera",
            ),
            pytest.param(
                lambda vision: vision.capture_all_from_camera("c"),
                "CaptureAllFromCamera takes its picture from a camera",
                id="everything from a camera",
            ),
            pytest.param(
                lambda vision: vision.get_object_point_clouds("c"),
                "three dimensions",
                id="point clouds",
            ),
            pytest.param(
                lambda vision: vision.get_detections_3d("c"), "three dimensions", id="in 3D"
            ),
        ],
    )
    def test_what_needs_a_camera_or_a_third_dimension_is_refused_with_a_sentence(
        self, seeing: str, ask: Callable[[VisionClient], Awaitable[Any]], told: str
    ) -> None:
        with pytest.raises(GRPCError) as caught:
            look(seeing, ask)
        assert caught.value.status == Status.UNIMPLEMENTED
        assert told in str(caught.value.message)

    def test_a_detector_is_no_classifier(self, seeing: str, test_models: Path) -> None:
        image = ViamImage((test_models / "kite_and_cold.jpg").read_bytes(), CameraMimeType.JPEG)
        with pytest.raises(GRPCError, match="does not implement a Classifier"):
            look(seeing, lambda vision: vision.get_classifications(image, 3))

    @pytest.mark.parametrize(
        ("image", "mime_type", "code", "told"),
        [
            pytest.param(b"nothing", "image/jpeg", "INVALID_ARGUMENT", "not a picture", id="text"),
            pytest.param(b"", "image/jpeg", "INVALID_ARGUMENT", "not a picture", id="nothing"),
            pytest.param(
                b"RGBA\0\0\0\1\0\0\0\1\0", "", "INVALID_ARGUMENT", "4 bytes of pixels", id="cut off"
            ),
            pytest.param(
                b"RGBA\xff\xff\xff\xff\xff\xff\xff\xff",
                "image/vnd.viam.rgba",
                "INVALID_ARGUMENT",
                "bytes of pixels, found 0",
                id="a size that lies",
            ),
            pytest.param(
                b"RGB",
                "image/vnd.viam.rgba",
                "INVALID_ARGUMENT",
                "begins with RGBA",
                id="no header",
            ),
            pytest.param(
                b"DEPTHMAP", "image/vnd.viam.dep", "UNIMPLEMENTED", "depth map", id="a depth map"
            ),
        ],
    )
    def test_what_is_no_picture_is_refused(
        self, seeing: str, image: bytes, mime_type: str, code: str, told: str
    ) -> None:
        request = message("viam.GetDetectionsRequest")(name="see", image=image, mime_type=mime_type)
        with grpc.insecure_channel(seeing) as channel, pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/viam.service.vision.v1.VisionService/GetDetections")(
                request.SerializeToString()
            )
        assert caught.value.code().name == code
        assert told in caught.value.details()


def _sdk_messages() -> dict[str, Any]:
    """Message of ours → the SDK's descriptor of the same message."""
    from viam.gen.proto.rpc.v1 import auth_pb2
    from viam.proto import common, robot
    from viam.proto.service import mlmodel, vision

    found: dict[str, Any] = {}
    for module, names in (
        (
            common,
            "ResourceName DoCommandRequest DoCommandResponse GetStatusRequest GetStatusResponse",
        ),
        (mlmodel, "MetadataRequest MetadataResponse Metadata TensorInfo File"),
        (
            vision,
            "GetDetectionsRequest GetDetectionsResponse Detection GetPropertiesRequest",
        ),
        (
            vision,
            "GetClassificationsRequest GetClassificationsResponse Classification",
        ),
        (
            vision,
            "GetPropertiesResponse",
        ),
        (
            robot,
            "ResourceNamesResponse GetMachineStatusResponse ResourceStatus",
        ),
        (
            robot,
            "ConfigStatus GetVersionResponse",
        ),
        (auth_pb2, "Credentials AuthenticateRequest AuthenticateResponse"),
    ):
        found |= {name: getattr(module, name).DESCRIPTOR for name in names.split()}
    return found


SDK_MESSAGES = _sdk_messages()


@pytest.mark.parametrize("name", SDK_MESSAGES)
def test_a_message_has_the_numbers_and_types_that_the_sdk_has(name: str) -> None:
    def facts(field: FieldDescriptor) -> tuple[Any, ...]:
        return field.number, field.type, field.has_presence, field.default_value == []

    theirs = {field.name: facts(field) for field in SDK_MESSAGES[name].fields}
    ours = {field.name: facts(field) for field in message(f"viam.{name}").DESCRIPTOR.fields}
    assert ours
    assert ours.items() <= theirs.items()
