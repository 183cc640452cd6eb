from collections.abc import Iterator

import pytest

from nbmodel.errors import NbModelError, ShapeError

grpc = pytest.importorskip("grpc", reason="pip install 'nbmodel[runtime]'")
from nbmodel.runtime.grpc_status import (  # noqa: E402
    GRPC_STATUS,
    MAX_DETAILS,
    details_of,
    status_of,
)


def _classes(base: type[NbModelError]) -> Iterator[type[NbModelError]]:
    yield base
    for child in base.__subclasses__():
        yield from _classes(child)


def test_every_error_class_has_a_status() -> None:
    ours = {kind for kind in _classes(NbModelError) if kind.__module__ == "nbmodel.errors"}
    assert set(GRPC_STATUS) == ours
    assert grpc.StatusCode.OK not in GRPC_STATUS.values()


def test_an_error_of_a_plugin_has_its_bases_status() -> None:
    class OddShapeError(ShapeError):
        pass

    assert status_of(OddShapeError("x")) == status_of(ShapeError("x"))


def test_details_hold_the_hint() -> None:
    assert details_of(ShapeError("too long", hint="cut it")) == "too long (cut it)"


def test_details_fit_into_metadata() -> None:
    assert len(details_of(ShapeError("ä" * 100_000))) == MAX_DETAILS
