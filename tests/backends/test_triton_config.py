"""Configurations as Triton's own message reads them, and attributes; no server is needed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nbmodel.backends import Known, backends_for, load_backend
from nbmodel.backends.owner import is_left, owner
from nbmodel.backends.renamed import Renaming
from nbmodel.backends.triton_client import Endpoint
from nbmodel.backends.triton_config import ENGINES, Wanted, check_written, model_config
from nbmodel.backends.triton_refusals import meaning
from nbmodel.backends.triton_room import arrived
from nbmodel.core.signature import DATATYPES, Signature, Tensor
from nbmodel.errors import (
    ConfigError,
    InferenceError,
    NbModelError,
    NoCompatibleBackendError,
    SignatureError,
    StorageUnavailableError,
    TensorNameError,
)
from nbmodel.formats import read_model
from nbmodel.golden import GoldenSample

pytest.importorskip("tritonclient.grpc", reason="Triton's message is tritonclient's")
from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from nbmodel.backends.triton_model import checked, model_from_file, model_from_repository, to_pbtxt
from tests.conformance.test_backends import onnx_sums

SIGNATURE = Signature(
    (Tensor("image", "UINT8", (-1, 224, 224, 3)),),
    (Tensor("probability", "FP32", (-1, 2), labels=("cat", "dog")),),
)


def parsed(config: dict[str, Any]) -> dict[str, Any]:
    """What Triton's message has after reading what we write."""
    message = text_format.Parse(to_pbtxt(config).encode(), model_config_pb2.ModelConfig())
    return dict(json_format.MessageToDict(message, preserving_proto_field_name=True))


def made(
    signature: Signature | None = SIGNATURE,
    wanted: Wanted | None = None,
    *,
    format_: str = "onnx",
    written: dict[str, Any] | None = None,
) -> dict[str, Any]:
    config = model_config(
        ENGINES[format_],
        signature,
        wanted or Wanted(),
        file="m.bin",
        label_files={},
        written=written or {},
    )
    return parsed({**config, "name": "m"})


#: Backend and platform of each format.
#: Source: "Backend and Platform" tables of Triton's backend documentation; for torch_aoti, "AOT
#: Inductor Support" of its PyTorch backend, since 26.03.
FORMATS = {
    "onnx": ("onnxruntime", "onnxruntime_onnx"),
    "savedmodel": ("tensorflow", "tensorflow_savedmodel"),
    "torchscript": ("pytorch", "pytorch_libtorch"),
    "torch_export": ("pytorch", "torch_aoti"),
    "tensorrt": ("tensorrt", "tensorrt_plan"),
    "openvino": ("openvino", None),
    "python": ("python", None),
}


def test_every_format_of_the_backend_is_in_the_table() -> None:
    assert FORMATS.keys() == ENGINES.keys() == set(load_backend("triton").formats)


@pytest.mark.parametrize("format_", FORMATS)
def test_a_format_has_its_backend(format_: str) -> None:
    config = made(format_=format_)
    assert (config["backend"], config.get("platform")) == FORMATS[format_]
    assert config["default_model_filename"] == "m.bin"
    assert "triton" in backends_for(format_)


def test_every_datatype_is_one_of_tritons() -> None:
    tensors = tuple(Tensor(name.lower(), name, (-1, 3)) for name in DATATYPES)
    config = made(Signature(tensors, SIGNATURE.outputs))
    assert [entry["data_type"] for entry in config["input"]] == [
        "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}" for name in DATATYPES
    ]


def test_without_batches_every_dimension_is_said() -> None:
    config = made()
    assert config["input"][0]["dims"] == ["-1", "224", "224", "3"]
    assert "dynamic_batching" not in config


def test_with_batches_their_dimension_is_left_out() -> None:
    config = made(wanted=Wanted(max_batch_size=8, max_queue_delay_microseconds=500))
    assert config["max_batch_size"] == 8
    assert config["input"][0]["dims"] == ["224", "224", "3"]
    assert config["output"][0]["dims"] == ["2"]
    assert config["dynamic_batching"] == {"max_queue_delay_microseconds": "500"}


def test_a_model_without_a_batch_axis_is_not_batched() -> None:
    fixed = Signature((Tensor("x", "FP32", (1, 3)),), (Tensor("y", "FP32", (-1, 3)),))
    with pytest.raises(ConfigError, match=r"no variable first dimension|x FP32\[1,3\]"):
        made(fixed, Wanted(max_batch_size=4))


def test_an_output_of_rows_alone_is_not_batched() -> None:
    """As the label of a scikit-learn classifier: Triton would give it as [-1, 1]."""
    classifier = Signature(
        (Tensor("x", "FP32", (-1, 4)),),
        (Tensor("label", "INT64", (-1,)), Tensor("scores", "FP32", (-1, 3))),
    )
    with pytest.raises(ConfigError, match=r"two dimensions in every output.*'label' has one") as no:
        made(classifier, Wanted(max_batch_size=8))
    assert "leave out max_batch_size" in str(no.value.hint)
    assert made(classifier)["output"][0]["dims"] == ["-1"]
    reshaped = {"name": "label", "data_type": "TYPE_INT64", "dims": [1], "reshape": {"shape": []}}
    scores = {"name": "scores", "data_type": "TYPE_FP32", "dims": [3]}
    written = {"max_batch_size": 8, "output": [reshaped, scores]}
    assert made(classifier, written=written)["output"][0]["dims"] == ["1"]


@pytest.mark.parametrize("shape", [(), (0, 2), (-1,)], ids=["scalar", "empty", "a row"])
def test_every_shape_can_be_said(shape: tuple[int, ...]) -> None:
    config = made(Signature((Tensor("x", "FP32", shape),), SIGNATURE.outputs))
    assert all(int(dim) > 0 or dim == "-1" for dim in config["input"][0]["dims"])


def test_tensors_of_no_known_rank_are_left_to_triton() -> None:
    config = made(Signature((Tensor("x", "FP32", None),), SIGNATURE.outputs))
    assert "input" not in config
    assert "output" not in config


def test_instances_are_where_the_service_says() -> None:
    config = made(wanted=Wanted(kind="KIND_GPU", instances=3))
    assert config["instance_group"] == [{"kind": "KIND_GPU", "count": 3}]


@pytest.mark.parametrize(
    ("pinned", "expected"),
    [(None, None), (True, {"enable": True}), (False, {})],
    ids=["as Triton has it", "cpu-pinned", "cpu"],
)  # fmt: skip
def test_inputs_may_be_kept_out_of_pinned_memory(
    pinned: bool | None, expected: dict[str, bool] | None
) -> None:
    config = made(wanted=Wanted(pinned_inputs=pinned))
    assert config.get("optimization", {}).get("input_pinned_memory") == expected


#: Every field of Triton's message that a service may give, with a value of it.
GIVEN: dict[str, Any] = {
    "runtime": "model.py",
    "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [224, 224, 3]}],
    "output": [{"name": "probability", "data_type": "TYPE_FP32", "dims": [2]}],
    "batch_input": [
        {
            "kind": "BATCH_ELEMENT_COUNT",
            "target_name": ["n"],
            "data_type": "TYPE_FP32",
            "source_input": ["image"],
        }
    ],
    "batch_output": [
        {
            "target_name": ["probability"],
            "kind": "BATCH_SCATTER_WITH_INPUT_SHAPE",
            "source_input": ["image"],
        }
    ],
    "optimization": {
        "graph": {"level": 1},
        "priority": "PRIORITY_MAX",
        "cuda": {"graphs": True, "busy_wait_events": True, "output_copy_stream": True},
        "execution_accelerators": {
            "gpu_execution_accelerator": [
                {
                    "name": "tensorrt",
                    "parameters": {
                        "precision_mode": "FP16",
                        "max_workspace_size_bytes": "1073741824",
                        "trt_engine_cache_enable": "true",
                        "trt_engine_cache_path": "/var/cache/engines",
                    },
                }
            ]
        },
        "input_pinned_memory": {"enable": True},
        "output_pinned_memory": {"enable": True},
        "gather_kernel_buffer_threshold": 8,
        "eager_batching": True,
    },
    "dynamic_batching": {
        "preferred_batch_size": [4, 8],
        "max_queue_delay_microseconds": "100",
        "preserve_ordering": True,
        "priority_levels": "2",
        "default_priority_level": "1",
        "default_queue_policy": {
            "timeout_action": "DELAY",
            "default_timeout_microseconds": "10",
            "allow_timeout_override": True,
            "max_queue_size": 16,
        },
    },
    "sequence_batching": {"max_sequence_idle_microseconds": "5000000", "direct": {}},
    "ensemble_scheduling": {
        "step": [
            {
                "model_name": "m",
                "model_version": "-1",
                "input_map": {"x": "image"},
                "output_map": {"y": "probability"},
            }
        ]
    },
    "instance_group": [
        {"kind": "KIND_GPU", "count": 2, "gpus": [0, 1], "profile": ["0"], "host_policy": "gpu_0"}
    ],
    "default_model_filename": "net.onnx",
    "cc_model_filenames": {"8.7": "orin.plan"},
    "metric_tags": {"team": "vision"},
    "parameters": {
        "intra_op_thread_count": {"string_value": "2"},
        "enable_mem_arena": {"string_value": "0"},
        "optimization.graph.level": {"string_value": "1"},
    },
    "model_warmup": [
        {
            "name": "zeros",
            "batch_size": 1,
            "count": 2,
            "inputs": {
                "image": {"data_type": "TYPE_UINT8", "dims": ["224", "224", "3"], "zero_data": True}
            },
        }
    ],
    "model_operations": {"op_library_filename": ["ops.so"]},
    "model_transaction_policy": {"decoupled": True},
    "model_repository_agents": {"agents": [{"name": "checksum", "parameters": {"a": "b"}}]},
    "response_cache": {"enable": True},
    "model_metrics": {
        "metric_control": [
            {
                "metric_identifier": {"family": "nv_inference_first_response_histogram_ms"},
                "histogram_options": {"buckets": [1.0, 2.0]},
            }
        ]
    },
}
#: What a deployment says itself: which backend and how many rows by its own attributes, too.
OWN = {"name", "platform", "backend", "version_policy", "max_batch_size"}


def test_the_table_has_every_field_of_triton_s() -> None:
    fields = {field.name for field in model_config_pb2.ModelConfig.DESCRIPTOR.fields}
    assert GIVEN.keys() | OWN == fields


@pytest.mark.parametrize("field", GIVEN)
def test_a_field_that_the_service_gives_comes_to_triton_as_it_is(field: str) -> None:
    config = made(wanted=Wanted(given={field: GIVEN[field]}))
    assert config[field] == parsed({field: GIVEN[field]})[field]
    assert config[field]


def test_what_the_service_gives_prevails() -> None:
    given = {
        "max_batch_size": 4,
        "instance_group": [{"kind": "KIND_CPU", "count": 2}],
        "optimization": {
            "execution_accelerators": {"gpu_execution_accelerator": [{"name": "tensorrt"}]}
        },
        "parameters": {"intra_op_thread_count": {"string_value": "2"}},
    }
    config = made(wanted=Wanted(max_batch_size=16, given=given))
    for name, value in given.items():
        assert config[name] == value
    assert config["input"][0]["dims"] == ["224", "224", "3"]


def test_another_backend_takes_the_platform_away() -> None:
    config = made(wanted=Wanted(given={"backend": "python"}))
    assert config["backend"] == "python"
    assert "platform" not in config


WRITTEN: dict[str, Any] = {
    "max_batch_size": 4,
    "input": [{"name": "image", "data_type": "TYPE_UINT8", "dims": [224, 224, 3]}],
    "output": [{"name": "probability", "data_type": "TYPE_FP32", "dims": [2]}],
}


def entry(side: str, **changes: Any) -> dict[str, Any]:
    return {**WRITTEN, side: [{**WRITTEN[side][0], **changes}]}


def test_a_configuration_by_hand_is_kept() -> None:
    config = made(written=entry("input", format="FORMAT_NHWC"))
    assert config["max_batch_size"] == 4
    assert config["input"] == [
        {
            "name": "image",
            "data_type": "TYPE_UINT8",
            "format": "FORMAT_NHWC",
            "dims": ["224", "224", "3"],
        }
    ]


def test_dimensions_by_hand_are_made_anew_for_another_batch() -> None:
    config = made(wanted=Wanted(given={"max_batch_size": 0}), written=WRITTEN)
    assert config["input"][0]["dims"] == ["-1", "224", "224", "3"]


@pytest.mark.parametrize(
    ("written", "message"),
    [
        (entry("input", name="x"), "input 'x' is not the model's; input 'image' is missing"),
        (entry("input", data_type="TYPE_FP32"), r"input 'image' is image UINT8\[-1,224,224,3\]"),
        (entry("input", dims=[3, 224, 224]), r"FP32|UINT8\[-1,3,224,224\] in the file"),
        (entry("output", dims=[2, 1]), r"probability FP32\[-1,2,1\] in the file"),
        (entry("input", data_type="TYPE_FLOAT"), "data_type such as TYPE_FP32"),
        ({**WRITTEN, "max_batch_size": 0}, r"image UINT8\[224,224,3\] in the file"),
    ],
    ids=["another name", "another type", "another shape", "another rank", "no type", "no batch"],
)
def test_a_configuration_of_another_model_is_refused(written: dict[str, Any], message: str) -> None:
    with pytest.raises(SignatureError, match=message):
        check_written(written, SIGNATURE)


@pytest.mark.parametrize(
    ("written", "signature"),
    [
        (
            {
                "max_batch_size": 8,
                "input": [
                    {
                        "name": "x",
                        "data_type": "TYPE_FP32",
                        "dims": [1],
                        "reshape": {"shape": []},
                    }
                ],
            },
            Signature((Tensor("x", "FP32", (-1,)),)),
        ),
        (
            {"input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [2, 3]}]},
            Signature((Tensor("x", "FP32", None),)),
        ),
    ],
    ids=["a dimension that Triton takes away", "a model of any rank"],
)
def test_a_configuration_by_hand_may_say_what_the_model_does_not(
    written: dict[str, Any], signature: Signature
) -> None:
    check_written(written, signature)


# --- models as Triton takes them ---------------------------------------------------------


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    path.write_bytes(onnx_sums())
    return path


def test_a_file_of_onnx_is_moved_alone(sums: Path) -> None:
    (sums.parent / "notes.txt").write_text("not the model's")
    model = model_from_file(sums, Known(), Wanted())
    assert dict(model.files) == {"net.onnx": sums}
    assert [entry["name"] for entry in model.config["input"]] == ["a", "b"]


def test_onnx_in_the_python_backend_has_a_program(sums: Path) -> None:
    wanted = Wanted(given={"backend": "python"})
    model = model_from_file(sums, Known(), wanted)
    assert set(model.files) == {"model.py", "settings.json", "net.onnx"}
    assert model.backend == "python"
    assert model.config["default_model_filename"] == "model.py"


def test_labels_lie_beside_the_model(sums: Path) -> None:
    signature = Signature(
        (Tensor("a", "FP32", (-1, 3)), Tensor("b", "FP32", (-1, 3))),
        (
            Tensor("sum", "FP32", (-1, 3), labels=("x", "y\nz", "")),
            Tensor("double", "FP32", (-1, 3)),
        ),
    )
    model = model_from_file(sums, Known(signature), Wanted())
    assert model.config["output"][0]["label_filename"] == "labels-0.txt"
    assert model.beside == {"labels-0.txt": b"x\ny z\n\n"}


@pytest.mark.parametrize(
    ("batch", "dims", "size"), [(0, [2, 3], 0), (4, [3], 2), (1, None, None)],
    ids=["whole", "as a batch", "too many rows"],
)  # fmt: skip
def test_the_golden_sample_warms_up(
    sums: Path, batch: int, dims: list[int] | None, size: int | None
) -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    sample = sums.with_name("golden.npz")
    sample.write_bytes(GoldenSample({"a": a, "b": a}, {"sum": a + a}).to_bytes())
    model = model_from_file(sums, Known(sample=sample), Wanted(max_batch_size=batch))
    if dims is None:
        assert "model_warmup" not in model.config
        return
    (warm_up,) = parsed({**model.config, "name": "m"})["model_warmup"]
    assert warm_up.get("batch_size", 0) == size
    assert warm_up["inputs"]["a"]["dims"] == [str(dim) for dim in dims]
    file = warm_up["inputs"]["a"]["input_data_file"]
    assert model.beside[f"warmup/{file}"] == a.tobytes()


def test_a_field_that_triton_has_not_is_named(sums: Path) -> None:
    with pytest.raises(ConfigError, match="instance_groups"):
        model_from_file(sums, Known(), Wanted(given={"instance_groups": []}))


def test_a_configuration_by_hand_beside_the_file_counts(sums: Path) -> None:
    sums.with_name("config.pbtxt").write_text(
        'name: "x"\nbackend: "tensorrt"\noptimization { priority: PRIORITY_MAX }\n'
        'input { name: "c" data_type: TYPE_FP32 dims: [-1, 3] }\n'
    )
    with pytest.raises(SignatureError, match="'c' is not the model's"):
        model_from_file(sums, Known(), Wanted())
    sums.with_name("config.pbtxt").write_text("optimization { priority: PRIORITY_MAX }\n")
    config = model_from_file(sums, Known(), Wanted()).config
    assert config["optimization"] == {"priority": "PRIORITY_MAX"}
    assert config["backend"] == "onnxruntime"


DATA = Path(__file__).parents[1] / "data" / "formats"
PLAN = b"ftrt" + bytes(20) + bytes((10, 3, 0, 26)) + bytes(100)
#: As its signature was given for a compiled archive, which does not tell it.
COMPILED = Signature(
    (Tensor("INPUT__0", "FP32", (-1, 2)),), (Tensor("OUTPUT__0", "FP32", (-1, 3)),)
)
#: File of a framework → what Triton is told to load, and what comes with it.
FILES: dict[str, tuple[str, Signature | None, str, set[str]]] = {
    "savedmodel": (
        "tensorflow/linear",
        None,
        "model.savedmodel",
        {
            "model.savedmodel/saved_model.pb",
            "model.savedmodel/variables/variables.index",
            "model.savedmodel/variables/variables.data-00000-of-00001",
        },
    ),
    "torchscript": ("torch/scripted.pt", None, "scripted.pt", {"scripted.pt"}),
    "torch_export": ("torch/compiled.pt2", COMPILED, "compiled.pt2", {"compiled.pt2"}),
    "openvino": ("openvino/linear.xml", None, "linear.xml", {"linear.xml", "linear.bin"}),
    "tensorrt": ("yolo.engine", COMPILED, "yolo.engine", {"yolo.engine"}),
    "python": ("own", COMPILED, "model.py", {"model.py", "weights.npz"}),
    "onnx": ("net.onnx", None, "net.onnx", {"net.onnx"}),
}


def model_of(name: str, folder: Path) -> Path:
    """A model file of each framework: as it wrote it, or where it is small, written here."""
    path = folder / name
    if name == "yolo.engine":
        path.write_bytes(PLAN)
    elif name == "net.onnx":
        path.write_bytes(onnx_sums())
    elif name == "own":
        path.mkdir()
        (path / "model.py").write_text("class TritonPythonModel:\n    pass\n")
        (path / "weights.npz").write_bytes(b"w")
    else:
        return DATA / name
    return path


def test_every_format_has_a_file_in_the_table() -> None:
    assert FILES.keys() == ENGINES.keys()


@pytest.mark.parametrize("format_", FILES)
def test_a_file_of_each_framework_becomes_a_configuration_of_triton_s(
    format_: str, tmp_path: Path
) -> None:
    name, signature, file, files = FILES[format_]
    path = model_of(name, tmp_path)
    model = model_from_file(path, Known(signature), Wanted("KIND_GPU", 2))
    config = parsed(model.configured("m.1", 1))
    assert (config["name"], config["default_model_filename"]) == ("m.1", file)
    assert (config["backend"], config.get("platform")) == FORMATS[format_]
    assert set(model.files) == files
    assert config["instance_group"] == [{"kind": "KIND_GPU", "count": 2}]
    assert config["version_policy"] == {"specific": {"versions": ["1"]}}
    told = signature or read_model(path).signature
    if format_ == "torchscript":  # which tells no datatypes: they come from who uploads it
        assert "input" not in config
        return
    for side, tensors in (("input", told.inputs), ("output", told.outputs)):
        said = [(entry["name"], entry["data_type"]) for entry in config[side]]
        assert said == [(one.name, f"TYPE_{one.datatype}") for one in tensors]


@pytest.mark.parametrize(
    ("name", "signature", "words"),
    [
        ("pair.pt2", None, "not compiled; Triton's PyTorch backend runs those that AOTInductor"),
        ("compiled.pt2", SIGNATURE, r"by INPUT__0, OUTPUT__0 .* found image, probability"),
    ],
    ids=["not compiled", "names of its own"],
)
def test_an_archive_that_triton_cannot_run_is_refused_before_it_is_moved(
    name: str, signature: Signature | None, words: str
) -> None:
    with pytest.raises(NoCompatibleBackendError, match=words) as caught:
        model_from_file(DATA / "torch" / name, Known(signature), Wanted())
    assert caught.value.hint


@pytest.mark.parametrize("names", [("ARGS[0]", "RESULT[scores]"), ("KWARGS[x]", "OUTPUT__1")])
def test_tensors_of_a_compiled_archive_may_be_called_as_its_call_has_them(
    names: tuple[str, str],
) -> None:
    signature = Signature((Tensor(names[0], "FP32", (2,)),), (Tensor(names[1], "FP32", (2,)),))
    model = model_from_file(DATA / "torch" / "compiled.pt2", Known(signature), Wanted())
    assert model.config["platform"] == "torch_aoti"


def test_a_plan_goes_without_the_notes_that_ultralytics_puts_before_it(tmp_path: Path) -> None:
    path = tmp_path / "yolo.engine"
    notes = b'{"task": "classify"}'
    path.write_bytes(len(notes).to_bytes(4, "little") + notes + PLAN)
    model = model_from_file(path, Known(COMPILED), Wanted())
    assert dict(model.files) == {"yolo.engine": PLAN}


#: What Triton and TensorRT say → the kind of error, and words of it.
REFUSALS: dict[str, tuple[str, type[NbModelError], str]] = {
    "another GPU": (
        (
            "Internal: unable to create TensorRT engine: 6: The engine plan file is generated on an "
            "incompatible device, expecting compute 8.7 got compute 8.6, please rebuild."
        ),
        InferenceError,
        "built for a GPU of compute capability 8.6, that of Triton has 8.7: a plan runs on",
    ),
    "another TensorRT": (
        (
            "The engine plan file is not compatible with this version of TensorRT, expecting library "
            "version 10.3.0 got 8.6.1, please rebuild."
        ),
        InferenceError,
        "built with TensorRT 8.6.1, Triton has 10.3.0",
    ),
    "another TensorRT, by a number of its own": (
        (
            "Error Code 1: Serialization (Serialization assertion stdVersionRead == "
            "kSERIALIZATION_VERSION failed.Version tag does not match. Note: Current Version: 239)"
        ),
        InferenceError,
        "built with another TensorRT than Triton's",
    ),
    "no room": (
        "Failed to create local temp folder: /tmp/folderXXXXXX, errno:28",
        StorageUnavailableError,
        "Triton has no room for the model",
    ),
    "no GPU": (
        (
            "Invalid argument: instance group m.1_0 of model m.1 has kind KIND_GPU but no GPUs are "
            "available"
        ),
        InferenceError,
        "^it is to run on a GPU, and Triton has none$",
    ),
    "nothing more": (
        "failed to load 'm.1', failed to poll from model repository",
        InferenceError,
        "^failed to load 'm.1', failed to poll",
    ),
    "anything else": ("Internal: no such operator", InferenceError, "^Internal: no such operator$"),
}


@pytest.mark.parametrize(("words", "kind", "expected"), REFUSALS.values(), ids=REFUSALS)
def test_what_triton_says_has_a_meaning(
    words: str, kind: type[NbModelError], expected: str
) -> None:
    found = meaning(InferenceError(words))
    assert type(found) is kind
    assert re.search(expected, str(found))
    assert "\n" not in str(found)


@pytest.mark.parametrize(
    ("words", "come"),
    [
        ("RuntimeError: nbmodel: 4096 bytes have arrived", 4096),
        ("RuntimeError: nbmodel: 9000 bytes have arrived", None),
        ("AttributeError: module '1.model' has no attribute 'TritonPythonModel'", 0),
        ("unable to find backend library for backend 'python'", None),
        ("ModuleNotFoundError: No module named 'numpy'", None),
    ],
)
def test_a_weight_tells_how_much_of_it_arrived(words: str, come: int | None) -> None:
    assert arrived(words, 9000) == come


def test_a_model_in_a_repository_brings_all_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "2" / "variables").mkdir(parents=True)
    for name in ("2/model.plan", "2/variables/data", "labels.txt"):
        (tmp_path / name).write_text("x")
    (tmp_path / "config.pbtxt").write_text("version_policy { all {} }\nmax_batch_size: 2\n")
    model = model_from_repository(tmp_path, 2, Wanted(max_batch_size=8))
    assert set(model.files) == {"model.plan", "variables/data"}
    assert set(model.beside) == {"labels.txt"}
    assert model.config["max_batch_size"] == 2
    assert model.backend == "tensorrt"
    assert model.configured("m.1", 1)["version_policy"] == {"specific": {"versions": [1]}}


def repository(folder: Path, config: str) -> Path:
    (folder / "1").mkdir()
    (folder / "1" / "model.onnx").write_bytes(onnx_sums())
    (folder / "config.pbtxt").write_text(config)
    return folder


A, B, SUM = (
    f'{side} {{ name: "{name}" data_type: TYPE_FP32 dims: [ -1, 3 ] }}\n'
    for side, name in (("input", "a"), ("input", "b"), ("output", "sum"))
)


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (A, "input 'b' is missing"),
        (
            A + B.replace("FP32", "INT64"),
            r"input 'b' is b FP32\[-1,3\] .* INT64\[-1,3\] in the file",
        ),
        (A + B + SUM.replace("sum", "total"), "output 'total' is not the model's"),
    ],
    ids=["an input left out", "another type", "another output"],
)
def test_a_configuration_in_a_repository_is_held_against_the_file_of_its_model(
    config: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(SignatureError, match=words):
        model_from_repository(repository(tmp_path, config), 1, Wanted())


@pytest.mark.parametrize("config", ["", A + B, A + B + SUM], ids=["none", "inputs", "an output"])
def test_a_configuration_in_a_repository_need_not_say_all(config: str, tmp_path: Path) -> None:
    model = model_from_repository(repository(tmp_path, config), 1, Wanted())
    assert model.backend == "onnxruntime"


# --- attributes ----------------------------------------------------------------------------

PATH = {"model_path": "/m/model.onnx"}
ATTRIBUTES: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a path": (PATH, []),
    "as Viam writes it": (
        {
            "model_name": "effdet",
            "model_repository_path": "/r",
            "model_version": 1,
            "backend_directory": "/opt/tritonserver/backends",
            "tensor_name_remappings": {
                "inputs": {"images": "image"},
                "outputs": {"output_0": "location"},
            },
            "model_config": {"max_batch_size": 0},
            "preferred_input_memory_type": "gpu",
            "preferred_input_memory_type_id": 0,
        },
        [],
    ),
    "memory of another kind": (
        {**PATH, "preferred_input_memory_type": "disk"},
        ["attribute 'preferred_input_memory_type' must be cpu, cpu-pinned, gpu, found 'disk'"],
    ),
    "memory of a GPU before the first": (
        {**PATH, "preferred_input_memory_type_id": -1},
        ["attribute 'preferred_input_memory_type_id' must be an integer of 0 or more, found -1"],
    ),
    "an address": ({**PATH, "address": "grpc://127.0.0.1:8001", "device": "gpu"}, []),
    "both paths": (
        {**PATH, "model_name": "m", "model_repository_path": "/r"},
        ["expected exactly one of 'model_path' and 'model_repository_path'"],
    ),
    "no path": ({"model_name": "m"}, ["expected exactly one of 'model_path' and "]),
    "a repository without a name": (
        {"model_repository_path": "/r"},
        ["attribute 'model_name' is required with 'model_repository_path'"],
    ),
    "a version of a path": (
        {**PATH, "model_version": 3},
        ["attribute 'model_version' is for 'model_repository_path'"],
    ),
    "version 0": (
        {"model_name": "m", "model_repository_path": "/r", "model_version": 0},
        ["attribute 'model_version' must be 1 or more, or -1"],
    ),
    "a name that leads elsewhere": (
        {**PATH, "model_name": "../m"},
        ["attribute 'model_name' must be letters, digits, '_', '-' and '.', found '../m'"],
    ),
    "an address and a program": (
        {**PATH, "address": "http://h:8000", "tritonserver": "/t", "backend_directory": "/b"},
        [
            "attribute 'tritonserver' is for a program that is started here, not for an address",
            "attribute 'backend_directory' is for a program that is started here",
        ],
    ),
    "an address of something else": (
        {**PATH, "address": "ftp://h"},
        ["attribute 'address': expected http://host:8000 or grpc://host:8001 as the address"],
    ),
    "another device": (
        {**PATH, "device": "cuda"},
        ["attribute 'device' must be cpu, gpu, auto, found 'cuda'"],
    ),
    "remappings of something else": (
        {**PATH, "tensor_name_remappings": {"input": {}, "outputs": ["a"]}},
        [
            "tensor_name_remappings: expected inputs and outputs, found 'input'",
            "tensor_name_remappings.outputs must be names by names of tensors",
        ],
    ),
    "a configuration in text": (
        {**PATH, "model_config": "x"},
        ["attribute 'model_config' must be an object, found 'x'"],
    ),
}


@pytest.mark.parametrize(("attributes", "expected"), ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_every_problem_is_a_sentence(attributes: dict[str, Any], expected: list[str]) -> None:
    problems = load_backend("viam:mlmodelservice:triton").check(attributes)
    assert len(problems) == len(expected)
    for problem, start in zip(problems, expected, strict=True):
        assert problem.startswith(start)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("http://jetson:8000", "http://jetson:8000"),
        ("grpc://127.0.0.1", "grpc://127.0.0.1:8001"),
        ("https://[::1]:8443/", "https://[::1]:8443"),
    ],
)
def test_an_address_is_read(address: str, expected: str) -> None:
    assert str(Endpoint.parse(address)) == expected


@pytest.mark.parametrize(
    "address",
    ["", "jetson:8000", "http://", "http://h:0", "http://h:x", "http://u@h", "grpc://h/x"],
)
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="as the address of Triton"):
        Endpoint.parse(address)


# --- names ---------------------------------------------------------------------------------


def test_tensors_are_renamed() -> None:
    renamed = Renaming({"image": "picture"}, {"probability": "score"}).of(SIGNATURE)
    assert [tensor.name for tensor in (*renamed.inputs, *renamed.outputs)] == ["picture", "score"]
    assert renamed.labels == ("cat", "dog")


@pytest.mark.parametrize(
    "names", [{"nothing": "x"}, {"a": "b"}], ids=["an unknown one", "two the same"]
)
def test_a_renaming_that_cannot_be_is_refused(names: dict[str, str]) -> None:
    signature = Signature((Tensor("a", "FP32", ()), Tensor("b", "FP32", ())))
    with pytest.raises(TensorNameError, match="tensor_name_remappings"):
        Renaming(names).of(signature)


def test_what_this_process_names_is_not_left() -> None:
    assert not is_left(f"digits.{owner()}.3")


def test_what_a_process_that_is_gone_named_is_left() -> None:
    place, pid, start = owner().split("-")
    assert is_left(f"digits.{place}-{pid}-{int(start) + 1}.3")  # its number was given again
    assert not is_left(f"digits.{'0' * 8}-{pid}-{int(start) + 1}.3")  # on another machine
    assert not is_left("digits.3")


#: ``model_config`` with a field that is none → message and hint.
NO_FIELDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "almost one": ({"max_batchsize": 8}, "'max_batchsize'", "did you mean 'max_batch_size'?"),
    "within another": (
        {"dynamic_batching": {"max_delay": 5}},
        "ModelDynamicBatching has no field 'max_delay'",
        "max_queue_delay_microseconds",
    ),
    "nothing like one": ({"qqqq": 1}, "ModelConfig has no field 'qqqq'", "instance_group"),
}


@pytest.mark.parametrize(("config", "words", "hint"), NO_FIELDS.values(), ids=NO_FIELDS)
def test_a_field_that_is_none_is_told_with_the_nearest(
    config: dict[str, Any], words: str, hint: str
) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        checked(config)
    assert hint in str(caught.value.hint)
    assert "maxBatchSize" not in f"{caught.value} {caught.value.hint}"
