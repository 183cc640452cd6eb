from __future__ import annotations

import pytest

from nbmodel.core.signature import Signature
from nbmodel.errors import TargetError, UnavailableError
from nbmodel.runtime.lookup import find, find_ready
from nbmodel.runtime.services import ServiceView


class Three:
    """A runtime with a service that is ready, one that runs nothing, and one whose engine died."""

    def service(self, name: str) -> ServiceView:
        if name not in ("up", "down", "ill"):
            raise TargetError("no such service")
        if name == "ill":
            return ServiceView(name, False, "3", Signature(), reason="it died", backend="triton")
        return ServiceView(name, name == "up", "3", Signature())


@pytest.mark.parametrize("version", ["", "3", "03"])
def test_a_service_is_found_in_its_version(version: str) -> None:
    assert find_ready(Three(), "up", version).name == "up"
    assert find(Three(), "down", version).name == "down"


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
        find_ready(Three(), name, version)


def test_a_service_whose_engine_is_brought_back_asks_to_be_tried_again() -> None:
    with pytest.raises(UnavailableError, match="'ill' cannot answer just now: it died") as caught:
        find_ready(Three(), "ill", "")
    assert caught.value.hint == "it is being started again: try again in a moment"
