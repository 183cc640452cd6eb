from __future__ import annotations

from typing import Any

import pytest

from nbmodel.core.machine import MachineConfig
from nbmodel.runtime.desired import changed_services


def config(
    versions: str = "latest", threads: int = 1, confirm_s: float = 1, **extra: Any
) -> MachineConfig:
    def service(name: str, **fields: Any) -> dict[str, Any]:
        attributes = {"model_path": f"${{packages.{name}}}/m.onnx", "num_threads": threads}
        return {
            "name": name,
            "api": "rdk:service:mlmodel",
            "model": "onnx_cpu",
            "attributes": attributes if name == "a" else {"model_path": "/b.onnx"},
            **fields,
        }

    return MachineConfig.from_json(
        {
            "packages": [{"name": "a", "package": "local/a", "version": versions}],
            "services": [service("a", deployment={"confirm_s": confirm_s}), service("b")],
            **extra,
        }
    )


@pytest.mark.parametrize(
    ("after", "expected"),
    [
        pytest.param(config(), set(), id="nothing"),
        pytest.param(config(components=[]), set(), id="what is none of ours"),
        pytest.param(config("2"), {"a"}, id="a package that it uses"),
        pytest.param(config(threads=2), {"a"}, id="an attribute"),
        pytest.param(config(confirm_s=2), {"a"}, id="its policy"),
        pytest.param(config(nbmodel={"registry": "http://r"}), {"a"}, id="where it is fetched"),
        pytest.param(
            config(nbmodel={"deployment": {"min_requests": 5}}), {"a", "b"}, id="everybody's policy"
        ),
        pytest.param(MachineConfig.from_json({}), set(), id="it is gone"),
    ],
)
def test_of_which_services_another_config_asks_something_else(
    after: MachineConfig, expected: set[str]
) -> None:
    assert changed_services(config(), after) == expected


def test_a_new_service_is_asked_for_something() -> None:
    assert changed_services(MachineConfig.from_json({}), config()) == {"a", "b"}
