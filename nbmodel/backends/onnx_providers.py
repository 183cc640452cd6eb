"""Which execution providers of ONNX Runtime a service asks for, with which options. Rules only.

Source: ONNX Runtime, "CUDA Execution Provider" and "TensorRT Execution Provider"
(https://onnxruntime.ai/docs/execution-providers/).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from nbmodel.errors import PluginError

TENSORRT, CUDA, CPU = "tensorrt", "cuda", "cpu"
#: Our word → ONNX Runtime's, the best one first.
ENGINE_NAMES: Mapping[str, str] = {
    TENSORRT: "TensorrtExecutionProvider",
    CUDA: "CUDAExecutionProvider",
    CPU: "CPUExecutionProvider",
}
#: What a service has that does not say: engines of TensorRT take minutes to build.
DEFAULT = (CUDA,)
_FLAGS: Mapping[str, tuple[str, str]] = {TENSORRT: ("False", "True"), CUDA: ("0", "1")}
#: Attributes of the service, which stand for all its providers.
_OWN = {"device_id": "device_id", "gpu_mem_limit": "gpu_mem_limit"}
#: Addresses in the memory of a process, which no config can know.
_ADDRESSES = frozenset(
    {
        "default_memory_arena_cfg",
        "gpu_external_alloc",
        "gpu_external_empty_cache",
        "gpu_external_free",
        "has_user_compute_stream",
        "trt_onnx_bytestream",
        "user_compute_stream",
    }
)
_GRAPH_FLAGS = ("enable_cuda_graph", "trt_cuda_graph_enable")


@dataclass(frozen=True, slots=True)
class Provider:
    """One execution provider.

    Attributes:
        name: ``tensorrt``, ``cuda`` or ``cpu``.
        options: As ONNX Runtime takes them: texts.
    """

    name: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def for_engine(self) -> tuple[str, Mapping[str, str]]:
        """In ONNX Runtime's words."""
        return ENGINE_NAMES[self.name], self.options

    @property
    def has_graphs(self) -> bool:
        """Whether it records what the GPU does and plays it again: CUDA graphs."""
        return any(self.options.get(flag) in ("1", "True", "true") for flag in _GRAPH_FLAGS)

    def with_defaults(self, defaults: Mapping[str, str]) -> Provider:
        """With options that hold where none are given."""
        return replace(self, options={**defaults, **self.options})


@dataclass(frozen=True, slots=True)
class Lack:
    """Why a provider cannot be used.

    Attributes:
        reason: As the end of a sentence: ``the library libcudnn.so.9 is missing``.
        hint: What to do about it.
    """

    reason: str
    hint: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What a model is loaded with.

    Attributes:
        providers: Best first; the last one is the CPU.
        note: What a person should know about it, as a sentence; empty: it is as configured.
    """

    providers: tuple[Provider, ...]
    note: str = ""

    @property
    def best(self) -> Provider:
        """The one that gets all it can run."""
        return self.providers[0]


def provider_problems(attributes: Mapping[str, Any]) -> list[str]:
    """What is wrong with ``providers`` of a service, a sentence each.

    Args:
        attributes: Of the service; ``providers`` is a list where it is given.
    """
    given = attributes.get("providers", [])
    if "providers" in attributes and not given:
        return [f"attribute 'providers' must name at least one of {', '.join(ENGINE_NAMES)}"]
    problems = [problem for entry in given for problem in _entry_problems(entry)]
    names = [_name_of(entry) for entry in given]
    problems += [
        f"attribute 'providers' names {name!r} twice"
        for name in dict.fromkeys(names)
        if name in ENGINE_NAMES and names.count(name) > 1
    ]
    order = [name for name in ENGINE_NAMES if name in names]
    if not problems and names != order:
        problems.append(
            f"attribute 'providers' must be in the order {', '.join(order)}: each runs what the "
            "ones before it leave over"
        )
    return problems


def providers_of(attributes: Mapping[str, Any]) -> tuple[Provider, ...]:
    """The providers that a service asks for, best first.

    What TensorRT leaves over runs on CUDA, and what that leaves over on the CPU, so CUDA
    comes with TensorRT.

    Args:
        attributes: Without problems.
    """
    found: dict[str, Provider] = {}
    for entry in attributes.get("providers") or DEFAULT:
        name, options = _name_of(entry), {} if isinstance(entry, str) else entry.get("options", {})
        found[name] = Provider(name, {key: _text(name, one) for key, one in options.items()})
    if TENSORRT in found and CUDA not in found:
        found = {TENSORRT: found.pop(TENSORRT), CUDA: Provider(CUDA), **found}
    device, limit = attributes.get("device_id", 0), attributes.get("gpu_mem_limit")
    return tuple(one.with_defaults(_defaults(one.name, device, limit)) for one in found.values())


def choose(
    wanted: Sequence[Provider], lacking: Mapping[str, Lack], *, allow_cpu: bool = False
) -> Choice:
    """What to load a model with.

    Args:
        wanted: What the service asks for, best first.
        lacking: Name → why it cannot be used, of those that cannot.
        allow_cpu: Whether the CPU will do where no GPU can be used.

    Raises:
        PluginError: No GPU can be used; the message says why, for each provider.
    """
    cpu = Provider(CPU)
    on_gpu = [one for one in wanted if one.name != CPU]
    if not on_gpu:
        return Choice((cpu,))
    reasons = "; ".join(f"{one.name}: {lacking[one.name].reason}" for one in on_gpu
                        if one.name in lacking)  # fmt: skip
    usable = [one for one in on_gpu if one.name not in lacking]
    if usable:
        note = f"runs on {usable[0].name}, without {reasons}" if reasons else ""
        return Choice((*usable, cpu), note)
    if allow_cpu:
        return Choice((cpu,), f"runs on the CPU, not on a GPU: {reasons}")
    first = lacking[on_gpu[-1].name]
    raise PluginError(
        f"no GPU can be used: {reasons}",
        hint=f'{first.hint}; or set "allow_cpu": true to have it run on the CPU meanwhile',
    )


def _entry_problems(entry: object) -> list[str]:
    name = _name_of(entry)
    if name not in ENGINE_NAMES:
        known = f'{", ".join(ENGINE_NAMES)} or {{"name": …, "options": {{…}}}}'
        return [f"attribute 'providers' must be a list of {known}, found {entry!r} in it"]
    if isinstance(entry, str):
        return []
    assert isinstance(entry, Mapping)
    problems = [
        f"attribute 'providers': {name} has {key!r}; known are 'name' and 'options'"
        for key in entry
        if key not in ("name", "options")
    ]
    options = entry.get("options", {})
    if not isinstance(options, Mapping):
        return [*problems, f"attribute 'providers': options of {name} must be an object"]
    if name == CPU and options:
        return [*problems, "attribute 'providers': cpu has no options"]
    return problems + [
        problem
        for key, value in options.items()
        if (problem := _option_problem(name, key, value)) is not None
    ]


def _option_problem(name: str, key: str, value: object) -> str | None:
    what = f"attribute 'providers': option {key!r} of {name}"
    if key in _OWN:
        return f"{what} is the service's attribute {_OWN[key]!r}, for all providers"
    if key in _ADDRESSES:
        return f"{what} is an address in memory, which a config cannot know"
    if isinstance(value, (str, bool, int, float)):
        return None
    return f"{what} must be a text, a number or true or false, found {value!r}"


def _name_of(entry: object) -> str:
    name = entry.get("name") if isinstance(entry, Mapping) else entry
    return name if isinstance(name, str) else ""


def _text(name: str, value: str | float) -> str:
    if isinstance(value, bool):
        return _FLAGS.get(name, ("0", "1"))[value]
    return str(value)


def _defaults(name: str, device: int, limit: int | None) -> dict[str, str]:
    if name == CPU:
        return {}
    options = {"device_id": str(device)}
    if name == TENSORRT:
        return options if limit is None else {**options, "trt_max_workspace_size": str(limit)}
    # Trying all algorithms out takes long at the first request of each number of rows.
    options["cudnn_conv_algo_search"] = "HEURISTIC"
    if limit is not None:
        options["gpu_mem_limit"] = str(limit)
        # Doubling would ask for more than the limit when half of it is in use.
        options["arena_extend_strategy"] = "kSameAsRequested"
    return options
