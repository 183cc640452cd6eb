"""Versions of what is imported, as the packages themselves say."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from nbmodel.provenance import packages
from nbmodel.provenance.packages import imported_packages


def test_modules_and_what_they_are_of() -> None:
    found = imported_packages(["numpy", "numpy.linalg", "PIL.Image", "json", "os", "_pytest"])
    assert {name.lower(): one for name, one in found.items()} == {
        "numpy": version("numpy"),
        "pillow": version("pillow"),
    }


def test_what_this_process_has_imported() -> None:
    assert imported_packages(sys.modules)["pytest"] == version("pytest")


def test_what_is_no_package_is_left_out() -> None:
    assert imported_packages(["__main__", "no_such_module", "nbmodel_tests_own"]) == {}
    assert imported_packages([]) == {}


def test_a_module_of_another_name_than_its_distribution(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "curious_name-1.2.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: Curious.Name\nVersion: 1.2.3\n\nVersion: 9 in its text\n"
    )
    (info / "top_level.txt").write_text("curiosity\nother-name\n")
    monkeypatch.syspath_prepend(tmp_path)
    caches = (packages._of_module, packages._listed)
    for cached in caches:
        cached.cache_clear()
    try:
        assert imported_packages(["curiosity.below"]) == {"Curious.Name": "1.2.3"}
    finally:
        for cached in caches:
            cached.cache_clear()
