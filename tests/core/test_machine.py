from __future__ import annotations

import copy
import hashlib
import json
from typing import Any

import pytest

from nbmodel.core.machine import MachineConfig, Package, RuntimeSettings, Service
from nbmodel.core.policy import DeploymentPolicy
from nbmodel.errors import ConfigError

CONFIG: dict[str, Any] = {
    "components": [{"name": "cam", "api": "rdk:component:camera", "model": "webcam"}],
    "packages": [
        {"name": "digits", "package": "local/digits", "version": "latest", "type": "ml_model"},
        {"name": "tool", "package": "acme/tool", "version": "1.0.0", "type": "module"},
    ],
    "services": [
        {
            "name": "digits",
            "api": "rdk:service:mlmodel",
            "model": "viam:mlmodel:onnx-cpu",
            "attributes": {"model_path": "${packages.ml_model.digits}/model.onnx"},
            "ui_folder": {"name": "x"},
        },
        {"name": "eye", "api": "rdk:service:vision", "model": "mlmodel", "attributes": {}},
    ],
    "agent": {"version": 3},
}


def test_reads_packages_and_services() -> None:
    config = MachineConfig.from_json(CONFIG)
    assert config.packages == (
        Package("digits", "local/digits", "latest", "ml_model"),
        Package("tool", "acme/tool", "1.0.0", "module"),
    )
    assert [(service.name, service.is_served) for service in config.services] == [
        ("digits", True),
        ("eye", False),
    ]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        pytest.param({"api": "rdk:service:vision", "model": "mlmodel"}, True, id="short"),
        pytest.param({"type": "vision", "model": "rdk:builtin:mlmodel"}, True, id="whole"),
        pytest.param({"type": "vision", "model": "viam:vision:mlmodel"}, True, id="as documented"),
        pytest.param({"type": "vision", "model": "color_detector"}, False, id="another kind"),
        pytest.param({"type": "mlmodel", "model": "mlmodel"}, False, id="a model service"),
    ],
)
def test_vision_services_over_models_are_told_from_others(
    entry: dict[str, Any], expected: bool
) -> None:
    config = MachineConfig.from_json({"services": [{"name": "eye", **entry}]})
    assert config.services[0].is_vision is expected


def test_a_document_comes_back_as_it_was() -> None:
    config = MachineConfig.from_json(CONFIG)
    assert config.to_json() == CONFIG
    assert list(config.to_json()) == list(CONFIG), "the order of the document is kept"


def test_changing_what_came_back_changes_nothing() -> None:
    given = copy.deepcopy(CONFIG)
    config = MachineConfig.from_json(given)
    given["services"].clear()
    config.to_json()["packages"].clear()
    assert config.to_json() == CONFIG


def test_the_etag_depends_on_the_values_alone() -> None:
    reordered = dict(reversed(CONFIG.items()))
    assert MachineConfig.from_json(reordered).etag == MachineConfig.from_json(CONFIG).etag
    assert MachineConfig.from_json({}).etag == "sha256:" + hashlib.sha256(b"{}").hexdigest()


@pytest.mark.parametrize(
    "service",
    [
        pytest.param({"api": "rdk:service:mlmodel"}, id="by api"),
        pytest.param({"type": "mlmodel", "namespace": "rdk"}, id="by namespace and type"),
        pytest.param({"type": "mlmodel"}, id="by type alone"),
        pytest.param({"type": "rdk:service:mlmodel"}, id="by a whole api as type"),
        pytest.param({"api": "rdk:service:mlmodel", "type": "mlmodel"}, id="by both, agreeing"),
    ],
)
def test_a_model_service_is_recognised(service: dict[str, Any]) -> None:
    config = MachineConfig.from_json(
        {"services": [{"name": "a", "model": "onnx_cpu", "depends_on": ["b"], **service}]}
    )
    assert config.services == (Service("a", "rdk:service:mlmodel", "onnx_cpu", {}, ("b",)),)


@pytest.mark.parametrize(
    ("entry", "package"),
    [
        pytest.param({}, Package("a", "local/b", "latest", "ml_model"), id="with nothing said"),
        pytest.param({"version": ""}, Package("a", "local/b"), id="with an empty version"),
        pytest.param({"version": 3}, Package("a", "local/b", "3"), id="with a bare number"),
    ],
)
def test_a_package_has_defaults(entry: dict[str, Any], package: Package) -> None:
    config = MachineConfig.from_json({"packages": [{"name": "a", "package": "local/b", **entry}]})
    assert config.packages == (package,)


@pytest.mark.parametrize(
    ("package", "repositories"),
    [
        pytest.param("local/digits", ("local/digits", "digits"), id="with a model id"),
        pytest.param("a1b2/team/fruit", ("a1b2/team/fruit", "team/fruit"), id="with both"),
        pytest.param("digits", ("digits",), id="with neither"),
    ],
)
def test_what_the_model_of_a_package_may_be_called(
    package: str, repositories: tuple[str, ...]
) -> None:
    assert Package("a", package).repositories == repositories


def _package(**fields: Any) -> dict[str, Any]:
    return {"packages": [{"name": "a", "package": "local/b", **fields}]}


def _service(**fields: Any) -> dict[str, Any]:
    return {"services": [{"name": "a", "api": "rdk:service:mlmodel", "model": "m", **fields}]}


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        pytest.param([], "expected a JSON object, found list", id="not an object"),
        pytest.param({"services": {}}, "services: expected a list, found dict", id="not a list"),
        pytest.param(
            {"packages": ["digits"]}, "packages.0: expected an object, found str", id="bare text"
        ),
        pytest.param(_package(name=""), "packages.0: empty package name", id="nameless package"),
        pytest.param(_package(package=""), "packages.0: empty package id", id="no package id"),
        pytest.param(
            _package(type="board"),
            'packages.0: unsupported package type "board". '
            "Must be one of: [ml_model module slam_map archive]",
            id="unknown type",
        ),
        pytest.param(
            _package(package="local/../../etc"),
            "packages.0: expected <model id>/<name> as package id, found 'local/../../etc'",
            id="a package id with a way out",
        ),
        pytest.param(
            _package(package="local/" + "n" * 201),
            "packages.0: package id of 207 characters, expected at most 206",
            id="a package id that no folder can be called",
        ),
        pytest.param(
            _package(name="-x"),
            'packages.0: not a package name: "-x"; expected at most 200 letters, digits, '
            "'-' and '_', the first a letter or digit",
            id="a dash in front",
        ),
        pytest.param(
            _package(version=True), "packages.0: expected text under version, found True", id="bool"
        ),
        pytest.param(
            _service(name="a/b"),
            'services.0: not a service name: "a/b"; expected at most 60 letters, digits, '
            "'-' and '_', the first a letter or digit",
            id="a slash in a service's name",
        ),
        pytest.param(_service(name=None), "services.0: empty service name", id="nameless service"),
        pytest.param(
            _service(model=None), "services.0: model service 'a' has no model", id="no model"
        ),
        pytest.param(
            _service(attributes=[]),
            "services.0: expected an object under attributes, found list",
            id="attributes in a list",
        ),
        pytest.param(
            _service(depends_on="b"),
            "services.0: expected a list of names under depends_on",
            id="depends_on as text",
        ),
        pytest.param(
            {"services": [{"name": "a", "model": "m"}]},
            "services.0: expected an api, for example 'rdk:service:mlmodel'",
            id="neither api nor type",
        ),
        pytest.param(
            _service(type="vision"),
            "services.0: api 'rdk:service:mlmodel' and type 'rdk:service:vision' contradict "
            "each other",
            id="api against type",
        ),
    ],
)
def test_refuses(data: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        MachineConfig.from_json(data)
    assert refused.value.problems == (problem,)


def test_the_runtimes_own_settings_are_kept_apart() -> None:
    config = MachineConfig.from_json(
        {
            "nbmodel": {
                "registry": "https://models.example:5000/team/",
                "poll_s": 5,
                "max_bytes_per_s": 1000,
                "min_free_bytes": 0,
                "deployment": {"confirm_s": 60},
            },
            "packages": [
                {"name": "a", "package": "local/a"},
                {"name": "b", "package": "local/b", "registry": "http://127.0.0.1:5001"},
                {"name": "pushed", "package": "local/pushed", "registry": ""},
                {"name": "c", "package": "acme/c", "type": "module"},
            ],
            "services": [
                {"name": "a", "api": "rdk:service:mlmodel", "model": "m"},
                {
                    "name": "b",
                    "api": "rdk:service:mlmodel",
                    "model": "m",
                    "deployment": {"min_requests": 3},
                },
            ],
        }
    )
    registry = "https://models.example:5000/team"
    usual = DeploymentPolicy(confirm_s=60.0)
    assert config.settings == RuntimeSettings(registry, 5, 1000, 0, usual)
    assert [one.registry for one in config.packages] == [
        registry,
        "http://127.0.0.1:5001",
        None,
        registry,
    ]
    assert [one.deployment for one in config.services] == [
        usual,
        DeploymentPolicy(confirm_s=60.0, min_requests=3),
    ]


def test_a_config_without_settings_has_the_usual_ones() -> None:
    config = MachineConfig.from_json({})
    assert config.settings == RuntimeSettings(None, 60.0, None, 67108864, DeploymentPolicy())


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        pytest.param([], "nbmodel: expected an object, found list", id="a list"),
        pytest.param(
            {"poll": 3}, "nbmodel.poll: unknown key; did you mean 'poll_s'?", id="a key near one"
        ),
        pytest.param({"poll_s": "3"}, "nbmodel.poll_s: expected a number, found '3'", id="text"),
        pytest.param({"poll_s": 0}, "nbmodel.poll_s: expected 1 to ", id="asked without a pause"),
        pytest.param(
            {"max_bytes_per_s": -1}, "nbmodel.max_bytes_per_s: expected 1 to ", id="less than none"
        ),
        pytest.param(
            {"min_free_bytes": True}, "nbmodel.min_free_bytes: expected a number", id="a flag"
        ),
        pytest.param(
            {"deployment": {"confirm_s": "x"}},
            "nbmodel.deployment.confirm_s: expected a number, found 'x'",
            id="a policy",
        ),
    ],
)
def test_refuses_settings(settings: Any, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        MachineConfig.from_json({"nbmodel": settings})
    assert [found[: len(problem)] for found in refused.value.problems] == [problem]


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("models.example:5000", id="no scheme"),
        pytest.param("ftp://models.example", id="another scheme"),
        pytest.param("http://", id="no host"),
        pytest.param("http://models.example:x", id="no port"),
        pytest.param("http://me:secret@models.example", id="a password"),
        pytest.param("http://models.example/?a=b", id="a query"),
        pytest.param("http://models.example/a b", id="a space"),
        pytest.param("http://models.example/" + "a" * 2000, id="too long"),
    ],
)
def test_refuses_what_is_no_registry(url: str) -> None:
    with pytest.raises(ConfigError, match="registry, found"):
        MachineConfig.from_json(_package(registry=url))


def test_refuses_what_is_no_policy() -> None:
    with pytest.raises(ConfigError) as refused:
        MachineConfig.from_json(_service(deployment={"confirm": 3}))
    assert refused.value.problems == (
        "services.0.deployment.confirm: unknown key; did you mean 'confirm_s'?",
    )


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(float("nan"), id="not a number"),
        pytest.param("\ud800", id="half a character"),
        pytest.param({1, 2}, id="a set"),
    ],
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    with pytest.raises(ConfigError, match="not a JSON document"):
        MachineConfig.from_json({"x": value})


def test_a_document_that_nests_without_end_is_refused() -> None:
    data: dict[str, Any] = {}
    for _ in range(600):
        data = {"x": data}
    with pytest.raises(ConfigError, match="nested deeper than 100 levels"):
        MachineConfig.from_json(data)


def test_every_problem_is_listed() -> None:
    with pytest.raises(ConfigError, match="4 problems") as refused:
        MachineConfig.from_json(
            {
                "packages": [
                    {"name": "a", "package": "local/b"},
                    {"name": "a", "package": "local/c"},
                    {"name": "", "package": ""},
                ],
                "services": [{"name": "s", "api": "rdk:service:mlmodel"}],
            }
        )
    assert refused.value.problems == (
        "packages.1: two packages are called 'a'",
        "packages.2: empty package name",
        "packages.2: empty package id",
        "services.0: model service 's' has no model",
    )


def test_services_of_different_apis_may_share_a_name() -> None:
    services = [
        {"name": "a", "api": "rdk:service:mlmodel", "model": "m"},
        {"name": "a", "api": "rdk:service:vision", "model": "m"},
    ]
    assert len(MachineConfig.from_json({"services": services}).services) == 2


def test_another_version_changes_nothing_else() -> None:
    changed = MachineConfig.from_json(CONFIG).with_version("digits", "2026-02-28T13-36-51")
    expected = json.loads(json.dumps(CONFIG))
    expected["packages"][0]["version"] = "2026-02-28T13-36-51"
    assert changed.to_json() == expected
    assert changed.packages[0].version == "2026-02-28T13-36-51"


def test_a_version_for_no_package_is_refused() -> None:
    with pytest.raises(ConfigError, match="no package called 'nope'"):
        MachineConfig.from_json(CONFIG).with_version("nope", "1")
