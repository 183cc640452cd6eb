from __future__ import annotations

import pytest

from nbmodel.core.signature import Signature
from nbmodel.errors import TargetError
from nbmodel.runtime.lookup import find, find_ready
from nbmodel.runtime.services import ServiceView


class Two:
    """A runtime with a service that is ready and one that is not."""

    def service(self, name: str) -> ServiceView:
        if name not in ("up", "down"):
            raise TargetError("no such service")
        return ServiceView(name, name == "up", "3", Signature())


@pytest.mark.parametrize("version", ["", "3", "03"])
def test_a_service_is_found_in_its_version(version: str) -> None:
    assert find_ready(Two(), "up", version).name == "up"
    assert find(Two(), "down", version).name == "down"


# Texts: http_server.cc and model_repository_manager.cc of Triton.
@pytest.mark.parametrize(
    ("name", "version", "says"),
    [
        pytest.param("nope", "", "Request for unknown model: 'nope' is not found", id="a name"),
        pytest.param("up", "4", "unknown model: 'up' version 4 is not found", id="a version"),
        pytest.param("down", "", "unknown model: 'down' has no available versions", id="no model"),
    ],
)
def test_what_is_not_there_is_told(name: str, version: str, says: str) -> None:
    with pytest.raises(TargetError, match=says):
        find_ready(Two(), name, version)
