from collections.abc import Iterator

from nbmodel.errors import NbModelError, ShapeError
from nbmodel.runtime.http_status import HTTP_STATUS, status_of


def _classes(base: type[NbModelError]) -> Iterator[type[NbModelError]]:
    yield base
    for child in base.__subclasses__():
        yield from _classes(child)


def test_every_error_class_has_a_status() -> None:
    ours = {kind for kind in _classes(NbModelError) if kind.__module__ == "nbmodel.errors"}
    assert set(HTTP_STATUS) == ours
    assert all(400 <= status < 600 for status in HTTP_STATUS.values())


def test_an_error_of_a_plugin_has_its_bases_status() -> None:
    class OddShapeError(ShapeError):
        pass

    assert status_of(OddShapeError("x")) == status_of(ShapeError("x"))
