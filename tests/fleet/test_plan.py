"""What a deployment changes in a machine config, and what it leaves alone."""

from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.core.manifest import Manifest
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import ConfigError, DeployError, TargetError
from nbmodel.fleet import plan

FOREIGN: dict[str, Any] = {
    "components": [{"name": "cam", "api": "rdk:component:camera", "model": "webcam"}],
    "services": [{"name": "eyes", "api": "rdk:service:vision", "model": "mlmodel"}],
    "packages": [{"name": "map", "package": "org/map", "version": "1", "type": "slam_map"}],
}


def _version(model: str = "digits") -> Version:
    manifest = Manifest(model, "2026-02-28T13:36:51Z", (), "onnx", "other", Signature())
    return Version(model, 3, "2026-02-28T13-36-51", "sha256:" + "0" * 64, manifest)


def _placement(service: str = "digits", **options: Any) -> plan.Placement:
    return plan.place_version(
        _version(),
        service=service,
        backend="onnx_cpu",
        follows="latest",
        **options,
    )


def test_a_placement_is_a_package_and_a_service_that_points_into_it() -> None:
    config = plan.with_placement({}, _placement(threads=2))
    assert config == {
        "packages": [
            {"name": "digits", "package": "local/digits", "version": "latest", "type": "ml_model"}
        ],
        "services": [
            {
                "name": "digits",
                "api": "rdk:service:mlmodel",
                "model": "nbmodel:mlmodel:onnx_cpu",
                "attributes": {
                    "model_path": "${packages.ml_model.digits}",
                    "num_threads": 2,
                },
            }
        ],
    }
    MachineConfig.from_json(config)  # the runtime's own rules accept it


def test_what_others_wrote_is_left_alone() -> None:
    config = plan.with_placement(FOREIGN, _placement())
    assert config["components"] == FOREIGN["components"]
    assert config["services"][0] == FOREIGN["services"][0]
    assert config["packages"][0] == FOREIGN["packages"][0]
    assert plan.without_service(config, "digits") == FOREIGN


def test_deploying_again_replaces_in_place() -> None:
    once = plan.with_placement(plan.with_placement({}, _placement()), _placement("other"))
    again = plan.with_placement(once, _placement(threads=4))
    assert [service["name"] for service in again["services"]] == ["digits", "other"]
    assert again["services"][0]["attributes"]["num_threads"] == 4
    assert plan.with_placement(again, _placement(threads=4)) == again


def test_attributes_of_the_backend_are_added_to_those_that_were_given_before() -> None:
    once = plan.with_placement({}, _placement(threads=2, attributes={"device": "gpu"}))
    again = plan.with_placement(once, _placement(attributes={"instances": 3, "model_path": "/m"}))
    assert again["services"][0]["attributes"] == {
        "model_path": "${packages.ml_model.digits}",  # which is the deployment's own to say
        "num_threads": 2,
        "device": "gpu",
        "instances": 3,
    }


def test_a_service_of_another_kind_is_not_replaced() -> None:
    with pytest.raises(DeployError, match="'eyes' exists and is not an ML model service"):
        plan.with_placement(FOREIGN, _placement("eyes"))


def test_removing_what_is_not_there_names_what_is() -> None:
    with pytest.raises(TargetError, match="no service 'digits'") as caught:
        plan.without_service(FOREIGN, "digits")
    assert caught.value.hint == "services there: eyes"


def test_a_package_stays_while_another_service_uses_it() -> None:
    config = plan.with_placement({}, _placement())
    second = {
        "name": "second",
        "model": "onnx_cpu",
        "attributes": {"model_path": "${packages.ml_model.digits}/model.onnx"},
    }
    left = plan.without_service({**config, "services": [*config["services"], second]}, "digits")
    assert left["packages"] == config["packages"]
    assert left["services"] == [second]


@pytest.mark.parametrize(
    ("model", "package", "name"),
    [
        pytest.param("digits", "local/digits", "digits", id="no namespace means local"),
        pytest.param("team/fruit", "team/fruit", "team-fruit", id="the namespace is the model id"),
        pytest.param("fruit.v2", "local/fruit.v2", "fruit_v2", id="no dot in a local name"),
    ],
)
def test_package_names(model: str, package: str, name: str) -> None:
    entry = plan.package_json(model, "latest")
    assert (entry["package"], entry["name"]) == (package, name)
    MachineConfig.from_json({"packages": [entry]})


def test_changes_are_told_in_words() -> None:
    before = plan.with_placement({}, _placement())
    after = plan.with_package_version(
        before, "digits", package="local/digits", version="2026-02-28T13-36-51"
    )
    assert plan.changes({}, before) == (
        "add package digits (local/digits at latest)",
        "add service digits (onnx_cpu, model_path=${packages.ml_model.digits})",
    )
    assert plan.changes(before, after) == (
        (
            "change package digits (local/digits at latest) to "
            "digits (local/digits at 2026-02-28T13-36-51)"
        ),
    )
    assert plan.changes(after, after) == ()


def test_what_a_service_says_beyond_its_model_stays() -> None:
    by_hand = {
        "name": "digits",
        "type": "mlmodel",
        "model": "onnx_cpu",
        "attributes": {"model_path": "/m.onnx", "label_path": "/l.txt", "num_threads": 2},
        "log_configuration": {"level": "debug"},
    }
    (service,) = plan.with_placement({"services": [by_hand]}, _placement())["services"]
    assert service["attributes"] == {
        "model_path": "${packages.ml_model.digits}",
        "num_threads": 2,
    }
    assert service["log_configuration"] == {"level": "debug"}
    (other,) = plan.with_placement(
        {"services": [{**by_hand, "model": "tflite_cpu"}]}, _placement()
    )["services"]
    assert "num_threads" not in other["attributes"]


def test_a_package_follows_its_model_to_another_name() -> None:
    config = plan.with_package_version(
        plan.with_placement({}, _placement()), "digits", package="team/numbers", version="best"
    )
    (package,) = config["packages"]
    assert (package["name"], package["package"], package["version"]) == (
        "digits",
        "team/numbers",
        "best",
    )


def test_how_versions_are_taken_up_is_added_to_what_is_said_already() -> None:
    config = plan.with_placement(
        {}, _placement(deployment={"confirm_s": 2, "windows": ["02:00-04:00"]})
    )
    config = plan.with_placement(config, _placement(deployment={"windows": []}))
    config = plan.with_placement(config, _placement())
    assert plan.service_entry(config, "digits")["deployment"] == {"confirm_s": 2, "windows": []}
    assert "deployment" not in plan.service_entry(plan.with_placement({}, _placement()), "digits")


@pytest.mark.parametrize(
    ("reset", "left"),
    [
        pytest.param(["max-latency-ms"], {"confirm_s": 2}, id="as an option is written"),
        pytest.param(["max_latency_ms"], {"confirm_s": 2}, id="as the config has it"),
        pytest.param(["--confirm-s", "windows"], {"max_latency_ms": 5}, id="several"),
        pytest.param(["all"], None, id="all"),
    ],
)
def test_what_stays_can_be_taken_back(reset: list[str], left: dict[str, Any] | None) -> None:
    policy = {"confirm_s": 2, "max_latency_ms": 5}
    config = plan.with_placement({}, _placement(deployment=policy))
    after = plan.with_placement(config, _placement(reset=reset))
    assert plan.service_entry(after, "digits").get("deployment") == left
    assert plan.policy_of(after, "digits") == (left or {})


def test_an_option_that_there_is_not_cannot_be_taken_back() -> None:
    with pytest.raises(ConfigError, match="no option 'threads'") as told:
        _placement(reset=["threads"])
    assert "max_latency_ms" in str(told.value.hint)


@pytest.mark.parametrize(
    ("given", "after", "used"),
    [
        pytest.param([], None, None, id="pushed"),
        pytest.param(["http://r:5000"], "http://r:5000", "http://r:5000", id="one given"),
        pytest.param(["http://r:5000", None], "http://r:5000", "http://r:5000", id="kept"),
        pytest.param(["http://r:5000", "http://s"], "http://s", "http://s", id="another"),
        pytest.param(["http://r:5000", plan.OFF], None, None, id="none any more"),
    ],
)
def test_a_package_comes_from_the_registry_given_last(
    given: list[str | None], after: str | None, used: str | None
) -> None:
    config: dict[str, Any] = plan.with_placement({}, _placement())
    for registry in given:
        config = plan.with_placement(config, _placement(registry=registry))
    (entry,) = config["packages"]
    assert entry.get("registry") == after
    assert plan.registry_of(config, "digits") == used
    MachineConfig.from_json(config)
    moved = plan.with_package_version(config, "digits", package="local/digits", version="x")
    assert plan.registry_of(moved, "digits") == used


def test_a_package_may_say_no_to_the_registry_of_the_whole_machine() -> None:
    usual = {"nbmodel": {"registry": "http://usual"}}
    config = plan.with_placement(usual, _placement(registry=plan.OFF))
    for again in (config, plan.with_placement(config, _placement())):
        assert plan.registry_of(again, "digits") is None
        assert MachineConfig.from_json(again).packages[0].registry is None


def test_a_registry_of_the_whole_machine_counts_where_a_package_names_none() -> None:
    usual = {"nbmodel": {"registry": "http://usual"}}
    config = plan.with_placement(usual, _placement())
    assert plan.registry_of(config, "digits") == "http://usual"
    read = MachineConfig.from_json(config).package("digits")
    assert read is not None
    assert read.registry == "http://usual"
    config = plan.with_placement(config, _placement(registry="http://own"))
    assert plan.registry_of(config, "digits") == "http://own"


def test_changes_tell_of_registries_and_of_how_versions_are_taken_up() -> None:
    before = plan.with_placement({}, _placement())
    after = plan.with_placement(
        before, _placement(registry="http://r", deployment={"confirm_s": 2})
    )
    package, service = plan.changes(before, after)
    assert package.endswith("to digits (local/digits at latest from http://r)")
    assert "confirm_s=2" in service
