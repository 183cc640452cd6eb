"""The verbs over a real registry and a real runtime process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from nbmodel.client import Client
from nbmodel.errors import (
    DeployError,
    InputError,
    NbModelError,
    NoCompatibleBackendError,
    TargetError,
)

pytestmark = pytest.mark.unhurried

ROWS = [[1.0, 1.0]]


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client with one runtime, ``edge``, in a process of its own."""
    client = Client(tmp_path_factory.mktemp("home"))
    client.runtimes.start("edge")
    yield client
    client.runtimes.remove("edge")
    client.close()


@pytest.fixture
def model(request: pytest.FixtureRequest) -> str:
    """A model name that only this test uses."""
    name = request.node.name.split("[")[0].removeprefix("test_").replace("_", "-")[:60]
    return str(name).strip("-")


def _scaled(path: Path, folder: Path, factor: float) -> Path:
    """The toy model with its weights and bias times ``factor``."""
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(
            numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), tensor.name)
        )
    scaled = folder / f"scaled-{factor}.onnx"
    onnx.save(model, scaled)
    return scaled


def _upload(client: Client, path: Path, model: str) -> Any:
    return client.upload(path, name=model, type="regression", sample=ROWS)


def _answer(client: Client, target: str) -> list[float]:
    return [float(value) for value in client.infer(target, ROWS)["y"].ravel()]


def _live(client: Client, service: str) -> dict[str, Any]:
    services = {entry["name"]: entry for entry in client.status("edge")["services"]}
    return services[service]


ONE, TWO = [15.0, 27.0, 39.0], [30.0, 54.0, 78.0]  # x @ W + b of the toy model, and doubled


def test_a_deployment_answers_as_the_model_does_here(
    client: Client, linear_onnx: Path, model: str
) -> None:
    _upload(client, linear_onnx, model)
    deployed = client.deploy(model, on="edge")
    assert deployed.sent > 0
    assert _answer(client, f"{model}@edge") == _answer(client, model) == ONE
    again = client.deploy(model, on="edge")
    assert again.sent == 0


def test_a_runtime_follows_the_newest_version(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    card = _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    (note,) = card.notes
    assert re.fullmatch(rf"{model}@edge runs {model}:2 \([\d.]+ s, [\d.]+ k?B sent\)", note)
    assert _answer(client, f"{model}@edge") == TWO
    assert _live(client, model)["number"] == 2


def test_what_changes_elsewhere_leaves_a_runtime_alone(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    client.runtimes.start("away")
    client.deploy(model, on="away")
    client.deploy(f"{model}:1", on="edge")
    client.runtimes.stop("away")
    (note,) = _upload(client, _scaled(linear_onnx, tmp_path, 2), model).notes
    assert note.startswith(f"{model}@away could not be brought to {model}:2")  # edge is at 1
    pinned = client.pin(f"{model}:2", on="edge")
    assert [f"{model}@edge runs {model}:2" in note for note in pinned.notes] == [True]
    unpinned = client.unpin(model, on="edge")
    assert [f"{model}@edge runs {model}:1" in note for note in unpinned.notes] == [True]
    client.runtimes.remove("away")


def test_a_registry_pin_holds_and_lets_go(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    client.pin(f"{model}:1", why="a test")
    _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    assert _answer(client, f"{model}@edge") == ONE
    assert client.show(f"{model}:1").pinned
    client.unpin(model)
    assert _answer(client, f"{model}@edge") == TWO


def test_a_pin_on_one_runtime_wins_over_the_registry(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    client.deploy(model, on="edge")
    client.pin(f"{model}:1", on="edge")
    client.pin(f"{model}:2")
    assert _answer(client, f"{model}@edge") == ONE
    client.unpin(model, on="edge")
    assert _answer(client, f"{model}@edge") == TWO
    client.unpin(model)


def test_a_deployed_alias_is_followed(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    client.alias(f"{model}:1", "champion")
    client.deploy(f"{model}:champion", on="edge")
    assert _answer(client, f"{model}@edge") == ONE
    client.alias(f"{model}:2", "champion", expect=1)
    assert _answer(client, f"{model}@edge") == TWO


def test_an_explicit_version_stays(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(f"{model}:1", on="edge")
    _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    assert _answer(client, f"{model}@edge") == ONE


def test_rollback_goes_back_and_stays_until_it_is_unpinned(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    double = _scaled(linear_onnx, tmp_path, 2)
    _upload(client, double, model)
    client.rollback(f"{model}@edge")
    assert _answer(client, f"{model}@edge") == ONE
    _upload(client, double, model)
    assert _live(client, model)["number"] == 1
    held = f"{model} is held at 1 on edge since "
    for service in (None, f"{model}-too"):
        with pytest.raises(DeployError, match=held) as caught:
            client.deploy(f"{model}:2", on="edge", service=service)
        assert caught.value.hint == f"`unpin {model} --on edge`"
    for card in (client.status("edge"), client.show(model), client.deploy(model, on="edge")):
        assert any(held in note and "unpin" in note for note in card.notes)
    assert client.deploy(f"{model}:1", on="edge", dry_run=True).version.number == 1
    client.unpin(model, on="edge")
    assert _live(client, model)["number"] == 3


def test_archiving_the_newest_brings_the_one_before(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    client.deploy(model, on="edge")
    client.archive(f"{model}:2")
    assert _answer(client, f"{model}@edge") == ONE


def test_equal_bytes_are_a_new_version_and_no_reload(
    client: Client, linear_onnx: Path, model: str
) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    since = _live(client, model)["since"]
    _upload(client, linear_onnx, model)
    live = _live(client, model)
    assert (live["number"], live["since"]) == (2, since)


def test_a_version_that_fails_its_golden_sample_does_not_go_live(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    from nbmodel.core.golden import Golden
    from nbmodel.golden import GoldenSample

    first = _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    wrong = GoldenSample({"x": np.float32(ROWS)}, {"y": np.float32([ONE])}).to_bytes()
    client.registry.add(
        model,
        {"model.onnx": _scaled(linear_onnx, tmp_path, 2), "golden.npz": wrong},
        framework="onnx",
        model_type="regression",
        signature=first.signature,
        golden=Golden(),
    )
    with pytest.raises(DeployError, match=rf"refused {model}:2.*output 'y'"):
        client.deploy(model, on="edge")
    assert _answer(client, f"{model}@edge") == ONE
    assert _live(client, model)["number"] == 1


def test_a_dry_run_says_what_would_change_and_changes_nothing(
    client: Client, linear_onnx: Path, model: str
) -> None:
    _upload(client, linear_onnx, model)
    before = client.runtimes.config("edge")
    card = client.deploy(model, on="edge", threads=2, dry_run=True)
    assert any("num_threads=2" in step for step in card.steps)
    assert client.runtimes.config("edge") == before


def test_undeploy_takes_the_service_away(client: Client, linear_onnx: Path, model: str) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    client.undeploy(f"{model}@edge")
    with pytest.raises(NbModelError, match=model):
        client.infer(f"{model}@edge", ROWS)
    with pytest.raises(TargetError, match="no service"):
        client.undeploy(f"{model}@edge")


def test_the_status_of_a_runtime_tells_where_it_is_reached(tmp_path: Path) -> None:
    client = Client(tmp_path / "home")
    client.runtimes.start("spoken", grpc="127.0.0.1:0")
    (row,) = client.status()
    shown = client.status("spoken").text()
    assert row["grpc"].startswith("127.0.0.1:")
    assert row["grpc"] in shown
    assert row["url"] in shown
    client.runtimes.remove("spoken")
    client.close()


def test_a_runtime_that_is_away_does_not_stop_an_upload(
    linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    client = Client(tmp_path / "home")
    client.runtimes.start("gone")
    _upload(client, linear_onnx, model)
    client.deploy(model, on="gone")
    client.runtimes.stop("gone")
    card = _upload(client, _scaled(linear_onnx, tmp_path, 2), model)
    assert card.number == 2
    assert any("could not be brought to" in note for note in card.notes)
    back = client.runtimes.start("gone")  # with the services it had, and what it missed
    assert any(f"{model}@gone runs {model}:2" in note for note in back.notes)
    assert _answer(client, f"{model}@gone") == TWO
    client.runtimes.remove("gone")
    client.close()


def test_every_result_has_text_html_and_json(client: Client, linear_onnx: Path, model: str) -> None:
    _upload(client, linear_onnx, model)
    _upload(client, linear_onnx, model)
    one, two = f"{model}:1", f"{model}:2"
    results = [
        client.list(),
        client.list(model),
        client.show(model),
        client.show(one),
        client.diff(one, two),
        client.lineage(one),
        client.alias(one, "best"),
        client.alias_history(model),
        client.remove_alias(model, "best"),
        client.pin(one),
        client.unpin(model),
        client.tag(one, {"a": "b"}),
        client.describe(one, "a <b>bold</b> claim"),
        client.package(model),
        client.deploy(model, on="edge"),
        client.status(),
        client.status("edge"),
        client.infer(f"{model}@edge", ROWS),
        client.runtimes.config("edge"),
        client.runtimes.logs("edge"),
        client.undeploy(f"{model}@edge"),
        client.deprecate(one, "old"),
        client.archive(one),
        client.restore(one),
        client.publish(two),
        client.verify(model),
        client.gc(dry_run=True),
        client.rename(model, f"{model}-renamed"),
        client.delete(f"{model}-renamed", force=True),
    ]
    import json

    for result in results:
        bundle = result._repr_mimebundle_()
        assert bundle["text/plain"].strip(), type(result)
        assert bundle["text/html"].startswith("<"), type(result)
        assert "<b>bold</b>" not in bundle["text/html"]
        json.dumps(result.to_json())


@pytest.mark.parametrize(
    ("target", "values", "message"),
    [
        pytest.param("{model}", [[[1.0]]], r"'x' has shape \[-1, 2\], found \[1, 1\]", id="shape"),
        pytest.param("{model}", [[["a", "b"]]], "'x' is FP32, found BYTES", id="datatype"),
        pytest.param("{model}", [{"z": [[1, 1]]}], "unexpected input 'z'", id="name"),
        pytest.param("absent", [ROWS], "absent", id="no such model"),
        pytest.param("absent@edge", [ROWS], "absent", id="no such service"),
        pytest.param("{model}@nowhere", [ROWS], "nowhere", id="no such runtime"),
        pytest.param("@edge", [ROWS], "no service in target", id="no service in the target"),
    ],
)
def test_a_wrong_request_names_what_is_wrong(
    client: Client, linear_onnx: Path, target: str, values: list[Any], message: str
) -> None:
    model = "wrong-requests"
    _upload(client, linear_onnx, model)
    with pytest.raises(NbModelError, match=message):
        client.infer(target.format(model=model), *values)


@pytest.mark.parametrize("where", ["", "@edge"])
def test_wrong_tensors_are_told_the_same_here_and_there(
    client: Client, linear_onnx: Path, where: str
) -> None:
    model = "same-words"
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    with pytest.raises(NbModelError, match=r"input 'x' has shape \[-1, 2\], found \[1, 3\]"):
        client.infer(f"{model}{where}", [[1.0, 2.0, 3.0]])


def test_a_framework_without_a_backend_is_refused_before_anything_is_sent(
    client: Client, linear_onnx: Path, model: str
) -> None:
    _upload(client, linear_onnx, model)
    with pytest.raises(
        NoCompatibleBackendError, match=r"tflite_cpu cannot run .*, whose format is onnx"
    ) as caught:
        client.deploy(model, on="edge", backend="tflite_cpu")
    assert caught.value.hint == "onnx_cpu, onnx_gpu, triton can"
    assert not (client.home / "runtimes" / "edge" / "tags" / model).exists()


def test_the_model_type_is_asked_for_once(client: Client, tmp_path: Path, model: str) -> None:
    tensor = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["y"])],
        "same",
        [tensor("x", onnx.TensorProto.FLOAT, ["n", 2])],
        [tensor("y", onnx.TensorProto.FLOAT, ["n", 2])],
    )
    path = tmp_path / "same.onnx"
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path
    )
    with pytest.raises(InputError, match="cannot tell what model") as caught:
        client.upload(path, name=model)
    assert "--type" in (caught.value.hint or "")
    client.upload(path, name=model, type="embedding")
    assert client.upload(path, name=model).model_type == "embedding"


def test_a_target_that_is_nothing_says_what_a_target_is(client: Client) -> None:
    with pytest.raises(TargetError, match="nothing to run") as caught:
        client.infer("nothing-here", ROWS)
    assert caught.value.hint


def test_an_answer_of_a_deprecated_version_says_so(
    client: Client, linear_onnx: Path, model: str
) -> None:
    _upload(client, linear_onnx, model)
    client.deprecate(f"{model}:1", "wrong labels")
    assert client.infer(model, ROWS).notes == ("deprecated: wrong labels",)


def test_a_renamed_model_is_followed_on(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge", service="renamed")
    card = client.rename(model, f"{model}-2")
    assert any(f"renamed@edge runs {model}-2:1" in note for note in card.notes)
    _upload(client, _scaled(linear_onnx, tmp_path, 2), f"{model}-2")
    assert _answer(client, "renamed@edge") == TWO


def test_a_first_deployment_that_is_refused_leaves_nothing(
    client: Client, linear_onnx: Path, model: str
) -> None:
    from nbmodel.core.golden import Golden
    from nbmodel.golden import GoldenSample

    first = _upload(client, linear_onnx, f"{model}-good")
    wrong = GoldenSample({"x": np.float32(ROWS)}, {"y": np.float32([TWO])}).to_bytes()
    client.registry.add(
        model,
        {"model.onnx": linear_onnx, "golden.npz": wrong},
        framework="onnx",
        model_type="regression",
        signature=first.signature,
        golden=Golden(),
    )
    before = client.runtimes.config("edge")
    with pytest.raises(DeployError, match=f"refused {model}:1"):
        client.deploy(model, on="edge")
    assert client.runtimes.config("edge") == before
    assert client.registry.deployments(model=model) == []


def test_two_who_deploy_at_once_both_succeed(client: Client, linear_onnx: Path, model: str) -> None:
    _upload(client, linear_onnx, model)
    services = [f"twin-{index}" for index in range(4)]

    def deploy(service: str) -> str:
        own = Client(client.home)
        try:
            return str(own.deploy(model, on="edge", service=service).target)
        finally:
            own.close()

    with ThreadPoolExecutor(len(services)) as pool:
        assert list(pool.map(deploy, services)) == [f"{name}@edge" for name in services]
    live = {entry["name"] for entry in client.status("edge")["services"]}
    assert live >= set(services)


def test_status_names_what_is_behind(
    client: Client, linear_onnx: Path, model: str, tmp_path: Path
) -> None:
    first = _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    double = _scaled(linear_onnx, tmp_path, 2)
    client.registry.add(  # by another program, which knows of no runtimes
        model,
        {"model.onnx": double},
        framework="onnx",
        model_type="regression",
        signature=first.signature,
    )
    notes = client.status("edge").notes
    assert any(f"{model} should run {model}:2" in note for note in notes)


def test_deleting_by_force_says_what_runs_on(client: Client, linear_onnx: Path, model: str) -> None:
    _upload(client, linear_onnx, model)
    client.deploy(model, on="edge")
    notes = client.delete(model, force=True).notes
    assert any(f"undeploy {model}@edge" in note for note in notes)
    assert _answer(client, f"{model}@edge") == ONE
