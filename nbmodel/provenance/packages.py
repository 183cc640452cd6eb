"""Versions of the packages that this process has imported."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import Distribution, PackageNotFoundError, distributions

MAX_PACKAGES = 300

# Module → distribution, where the names differ and a look into every package would be needed.
_CALLED: Mapping[str, str] = {
    "PIL": "pillow",
    "attr": "attrs",
    "bs4": "beautifulsoup4",
    "cv2": "opencv-python",
    "dateutil": "python-dateutil",
    "jwt": "PyJWT",
    "pkg_resources": "setuptools",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "tflite_runtime": "tflite-runtime",
    "yaml": "PyYAML",
    "zmq": "pyzmq",
}
_FIELD = re.compile(r"^(Name|Version):[ \t]*(\S+)", re.MULTILINE)


def imported_packages(modules: Iterable[str]) -> dict[str, str]:
    """Distribution → version, sorted, of those modules that come from one.

    Args:
        modules: Names as in ``sys.modules``; those of the standard library are passed over.
    """
    tops = {name.partition(".")[0] for name in modules} - sys.stdlib_module_names
    found = (_of_module(top) for top in sorted(tops) if not top.startswith("_"))
    return dict(sorted({one for one in found if one is not None})[:MAX_PACKAGES])


@cache
def _of_module(module: str) -> tuple[str, str] | None:
    """Name and version of the distribution that a top-level module is of."""
    if module in _CALLED:
        return _described(_CALLED[module])
    return _described(module) or _described(_listed().get(module, ""))


def _described(distribution: str) -> tuple[str, str] | None:
    """Name and version that a distribution's own metadata say.

    Read as text: parsing them as the message that they are takes ten times as long.
    """
    if not distribution:
        return None
    try:
        found = Distribution.from_name(distribution)
        text = found.read_text("METADATA") or found.read_text("PKG-INFO") or ""
    except (PackageNotFoundError, ValueError, OSError):
        return None
    fields = dict(_FIELD.findall(text.partition("\n\n")[0]))
    return (fields["Name"], fields["Version"]) if {"Name", "Version"} <= fields.keys() else None


@cache
def _listed() -> Mapping[str, str]:
    """Top-level module → distribution, of the installed ones that list their modules."""
    listed: dict[str, str] = {}
    for one in distributions():
        try:
            text = one.read_text("top_level.txt")
        except (OSError, ValueError):
            continue
        names = [name for name in (text or "").split() if name.isidentifier()]
        if any(name not in listed for name in names):
            metadata = one.read_text("METADATA") or one.read_text("PKG-INFO") or ""
            own = dict(_FIELD.findall(metadata.partition("\n\n")[0])).get("Name", "")
            for name in names:
                listed.setdefault(name, own)
    return listed
