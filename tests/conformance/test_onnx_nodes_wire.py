"""The ONNX standard's own node tests through a runtime: over HTTP and over gRPC, as binary."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from numpy.typing import NDArray

from nbmodel.errors import NbModelError
from nbmodel.fleet.local import OUTPUT_FILE, start_local, stop_local
from nbmodel.inference import InferenceClient
from nbmodel.protocol.datatypes import to_numpy
from nbmodel.protocol.tensor import datatype_of, to_tensor
from nbmodel.runtime.server import GRPC
from tests.tools.onnx_nodes import KNOWN, array, collect, disagreements, floor, refused

#: The cases are dealt out to as many items, so that several processes can run them.
SHARDS = 2


@dataclass(frozen=True, slots=True)
class Clients:
    """Clients of one runtime.

    Attributes:
        http: Ours.
        grpc: The official one.
    """

    http: InferenceClient
    grpc: Any


@pytest.fixture(scope="session")
def cases() -> list[Any]:
    pytest.importorskip("onnx.backend.test.case.node", reason="pip install onnx")
    return collect()


@pytest.fixture(scope="session")
def clients(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    pytest.importorskip("onnxruntime", reason="pip install 'nbmodel[runtime]'")
    triton = pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
    home = tmp_path_factory.mktemp("nodes")
    runtime = start_local("nodes", home, grpc="127.0.0.1:0")
    try:
        said = (home / OUTPUT_FILE).read_text().splitlines()
        (address,) = (line.removeprefix(GRPC) for line in said if line.startswith(GRPC))
        with (
            InferenceClient(runtime.url) as ours,
            triton.InferenceServerClient(address) as official,
        ):
            yield Clients(ours, official)
    finally:
        stop_local(runtime)


@pytest.mark.slow
@pytest.mark.parametrize("shard", range(SHARDS))
def test_no_node_test_is_answered_wrongly_over_the_wire(
    cases: list[Any], clients: Clients, shard: int
) -> None:
    verdicts: Counter[str] = Counter()
    failures = []
    for case in cases[shard::SHARDS]:
        verdict = judge(case, clients)
        verdicts[verdict] += 1
        if verdict.startswith(("wrong", "unexplained")) and case.name not in KNOWN:
            failures.append(f"{case.name}: {verdict}")
    assert not failures, "\n".join(failures)
    assert verdicts["right"] >= floor(1380, 1000) // SHARDS - 20, verdicts


def judge(case: Any, clients: Clients) -> str:
    """What came of a case: ``right``, why it is refused, or what is wrong with it."""
    name = case.name[-60:].lstrip("_")  # no service has a longer one
    try:
        clients.http.load_model(
            name,
            config={"backend": "onnxruntime"},
            files={"1/model.onnx": case.model.SerializeToString()},
        )
    except NbModelError as exc:
        return refused(f"{exc}") or f"unexplained: {str(exc)[:500]}"
    try:
        signature = clients.http.model_metadata(name).signature
        names = [tensor.name for tensor in signature.outputs]
        for inputs, outputs in case.data_sets:
            given = zip((tensor.name for tensor in signature.inputs), inputs, strict=False)
            feed = {key: array(value) for key, value in given}
            for answers in (
                clients.http.infer(name, feed).outputs,
                over_grpc(clients.grpc, name, feed),
            ):
                wrong = next(disagreements(case, names, answers, outputs), None)
                if wrong is not None:
                    return f"wrong: {wrong}"
    except Exception as exc:
        return refused(str(exc)) or f"unexplained: {type(exc).__name__} {str(exc)[:500]}"
    finally:
        clients.http.unload_model(name)
    return "right"


def over_grpc(client: Any, model: str, feed: dict[str, Any]) -> dict[str, NDArray[Any]]:
    from tritonclient.grpc import InferInput

    inputs = []
    for name, value in feed.items():
        tensor = to_tensor(value, what=name)
        datatype = datatype_of(tensor, what=name)
        given = InferInput(name, list(tensor.shape), datatype)
        if datatype == "BF16":  # what array it takes for them, and gives, changed with its versions
            given._raw_content = tensor.tobytes()
        else:
            given.set_data_from_numpy(tensor)
        inputs.append(given)
    answer = client.infer(model, inputs)
    outputs = answer.get_response().outputs
    return {one.name: _as_said(answer.as_numpy(one.name), one.datatype) for one in outputs}


def _as_said(found: NDArray[Any], datatype: str) -> NDArray[Any]:
    return found.astype(to_numpy("BF16")) if datatype == "BF16" else found
