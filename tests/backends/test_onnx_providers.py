"""Providers, their options, and what takes their place: tables."""

from __future__ import annotations

import re

import pytest

from nbmodel.backends.onnx_providers import (
    Choice,
    Lack,
    Provider,
    choose,
    provider_problems,
    providers_of,
)
from nbmodel.errors import PluginError

CUDA_HERE = {"device_id": "0", "cudnn_conv_algo_search": "HEURISTIC"}
NO_LIBRARY = Lack("the library libcudnn.so.9 is missing", "install cuDNN 9")
NOT_BUILT = Lack("onnxruntime 1.23.2 here is built without TensorRT", "install another")

WISHES = {
    "nothing said: CUDA": ({}, [("cuda", CUDA_HERE)]),
    "the CPU by choice": ({"providers": ["cpu"]}, [("cpu", {})]),
    "TensorRT brings CUDA for what it leaves over": (
        {"providers": ["tensorrt"]},
        [("tensorrt", {"device_id": "0"}), ("cuda", CUDA_HERE)],
    ),
    "TensorRT brings CUDA before the CPU": (
        {"providers": ["tensorrt", "cpu"]},
        [("tensorrt", {"device_id": "0"}), ("cuda", CUDA_HERE), ("cpu", {})],
    ),
    "another GPU, for all of them": (
        {"providers": ["tensorrt", "cuda"], "device_id": 1},
        [("tensorrt", {"device_id": "1"}), ("cuda", {**CUDA_HERE, "device_id": "1"})],
    ),
    "a limit of memory": (
        {"providers": ["tensorrt"], "gpu_mem_limit": 1 << 30},
        [
            ("tensorrt", {"device_id": "0", "trt_max_workspace_size": "1073741824"}),
            (
                "cuda",
                {
                    **CUDA_HERE,
                    "gpu_mem_limit": "1073741824",
                    "arena_extend_strategy": "kSameAsRequested",
                },
            ),
        ],
    ),
    "options as each provider writes them": (
        {
            "providers": [
                {
                    "name": "tensorrt",
                    "options": {
                        "trt_fp16_enable": True,
                        "trt_int8_enable": False,
                        "trt_builder_optimization_level": 5,
                        "trt_profile_min_shapes": "x:1x3x224x224",
                    },
                },
                {"name": "cuda", "options": {"use_tf32": False, "enable_cuda_graph": True}},
            ]
        },
        [
            (
                "tensorrt",
                {
                    "device_id": "0",
                    "trt_fp16_enable": "True",
                    "trt_int8_enable": "False",
                    "trt_builder_optimization_level": "5",
                    "trt_profile_min_shapes": "x:1x3x224x224",
                },
            ),
            ("cuda", {**CUDA_HERE, "use_tf32": "0", "enable_cuda_graph": "1"}),
        ],
    ),
    "what is given stands over what is usual": (
        {"providers": [{"name": "cuda", "options": {"cudnn_conv_algo_search": "EXHAUSTIVE"}}]},
        [("cuda", {"device_id": "0", "cudnn_conv_algo_search": "EXHAUSTIVE"})],
    ),
    "an entry without options": ({"providers": [{"name": "cuda"}]}, [("cuda", CUDA_HERE)]),
}


@pytest.mark.parametrize(("attributes", "expected"), WISHES.values(), ids=WISHES)
def test_a_service_asks_for_providers_with_options(attributes, expected):
    assert provider_problems(attributes) == []
    found = providers_of(attributes)
    assert [(one.name, dict(one.options)) for one in found] == expected


PROBLEMS = {
    "an empty list": ([], "must name at least one of tensorrt, cuda, cpu"),
    "another vendor's": (["rocm"], "must be a list of tensorrt, cuda, cpu or .* found 'rocm'"),
    "a number": ([1], "found 1 in it"),
    "no name": ([{"options": {}}], r"found \{'options': \{\}\}"),
    "a name that is no text": ([{"name": ["cuda"]}], "found"),
    "a key too many": ([{"name": "cuda", "option": {}}], "cuda has 'option'; known are 'name'"),
    "options that are none": ([{"name": "cuda", "options": 1}], "options of cuda must be an obj"),
    "options of the CPU": ([{"name": "cpu", "options": {"x": 1}}], "cpu has no options"),
    "one twice": (["cuda", {"name": "cuda"}], "names 'cuda' twice"),
    "the CPU before a GPU": (["cpu", "cuda"], "must be in the order cuda, cpu: each runs what"),
    "CUDA before TensorRT": (["cuda", "tensorrt"], "must be in the order tensorrt, cuda: each"),
    "a list as an option": (
        [{"name": "cuda", "options": {"use_tf32": [1]}}],
        r"option 'use_tf32' of cuda must be a text, a number or true or false, found \[1\]",
    ),
    "null as an option": ([{"name": "cuda", "options": {"use_tf32": None}}], "found None"),
    "a GPU in the options": (
        [{"name": "cuda", "options": {"device_id": 1}}],
        "option 'device_id' of cuda is the service's attribute 'device_id'",
    ),
    "a limit in the options": (
        [{"name": "cuda", "options": {"gpu_mem_limit": 1}}],
        "is the service's attribute 'gpu_mem_limit'",
    ),
    "an address": (
        [{"name": "cuda", "options": {"user_compute_stream": "140000"}}],
        "'user_compute_stream' of cuda is an address in memory",
    ),
}


@pytest.mark.parametrize(("providers", "words"), PROBLEMS.values(), ids=PROBLEMS)
def test_what_is_wrong_is_a_sentence(providers, words):
    (problem,) = provider_problems({"providers": providers})
    assert problem.startswith("attribute 'providers'")
    assert re.search(words, problem), problem


TENSORRT, CUDA, CPU = Provider("tensorrt"), Provider("cuda"), Provider("cpu")

CHOICES = {
    "all is there": ([CUDA], {}, False, Choice((CUDA, CPU))),
    "the CPU by choice": ([CPU], {}, False, Choice((CPU,))),
    "a listed CPU": ([CUDA, CPU], {}, False, Choice((CUDA, CPU))),
    "CUDA in TensorRT's place": (
        [TENSORRT, CUDA],
        {"tensorrt": NOT_BUILT},
        False,
        Choice(
            (CUDA, CPU),
            "runs on cuda, without tensorrt: onnxruntime 1.23.2 here is built without TensorRT",
        ),
    ),
    "the CPU where that is allowed": (
        [CUDA],
        {"cuda": NO_LIBRARY},
        True,
        Choice((CPU,), "runs on the CPU, not on a GPU: cuda: the library libcudnn.so.9 is missing"),
    ),
    "allowed and not needed": ([CUDA], {}, True, Choice((CUDA, CPU))),
}


@pytest.mark.parametrize(
    ("wanted", "lacking", "allowed", "expected"), CHOICES.values(), ids=CHOICES
)
def test_what_is_there_is_chosen(wanted, lacking, allowed, expected):
    assert choose(wanted, lacking, allow_cpu=allowed) == expected


def test_a_listed_cpu_is_no_leave_to_do_without_a_gpu():
    with pytest.raises(PluginError) as caught:
        choose([TENSORRT, CUDA, CPU], {"tensorrt": NOT_BUILT, "cuda": NO_LIBRARY})
    assert str(caught.value) == (
        "no GPU can be used: tensorrt: onnxruntime 1.23.2 here is built without TensorRT; "
        "cuda: the library libcudnn.so.9 is missing"
    )
    assert caught.value.hint == (
        'install cuDNN 9; or set "allow_cpu": true to have it run on the CPU meanwhile'
    )


@pytest.mark.parametrize(
    ("provider", "expected"),
    [
        (Provider("cuda", {"enable_cuda_graph": "1"}), True),
        (Provider("tensorrt", {"trt_cuda_graph_enable": "True"}), True),
        (Provider("cuda", {"enable_cuda_graph": "0"}), False),
        (Provider("cuda"), False),
    ],
)
def test_graphs_are_an_option(provider, expected):
    assert provider.has_graphs is expected
