"""The machine that a version is made on."""

from __future__ import annotations

import os
import platform

import pytest

from nbmodel.provenance.machine import cpu_name, machine_here


def test_this_machine() -> None:
    here = machine_here()
    assert here.python.endswith(platform.python_version())
    assert platform.machine() in here.system
    assert 1 <= here.cores <= (os.cpu_count() or here.cores)
    assert here.memory > 64_000_000


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "processor\t: 0\nmodel\t\t: 85\nmodel name\t: Xeon(R) @ 2.5GHz\n\nprocessor\t: 1\n"
            "model name\t: another\n",
            "Xeon(R) @ 2.5GHz",
            id="x86-64",
        ),
        pytest.param(
            "processor\t: 0\nBogoMIPS\t: 108\n\nHardware\t: BCM2835\nModel\t: Raspberry Pi 4\n",
            "Raspberry Pi 4",
            id="a Raspberry Pi",
        ),
        pytest.param("processor\t: 0\nBogoMIPS\t: 50\n", "", id="an ARM server"),
        pytest.param("", "", id="nothing"),
    ],
)
def test_a_processor(text: str, expected: str) -> None:
    assert cpu_name(text) == expected
