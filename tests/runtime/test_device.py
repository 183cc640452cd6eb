"""Which machine this is: files and lines as machines of NVIDIA's have them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nbmodel.backends.nvml import GpuUse
from nbmodel.runtime.device import (
    Device,
    DeviceWatch,
    Jetson,
    jetpack_of,
    l4t_of,
    memory_of_meminfo,
    read_device,
    read_jetson,
    use_of_tegrastats,
)

MIB = 1024 * 1024
ORIN = (
    "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
    "DATE: Wed Jan  8 01:49:37 UTC 2025\n"
    "# KERNEL_VARIANT: oot\nTARGET_USERSPACE_LIB_DIR=nvidia\n"
)


#: As a report of a board has it: jetson_stats, issue 711.
THOR = (
    "# R38 (release), REVISION: 2.0, GCID: 41844464, BOARD: generic, EABI: aarch64, "
    "DATE: Fri Aug 22 00:55:42 UTC 2025"
)


@pytest.mark.parametrize(
    ("text", "l4t", "jetpack"),
    [
        pytest.param(ORIN, "36.4.3", "6.2", id="Orin with JetPack 6.2"),
        pytest.param(
            "# R35 (release), REVISION: 4.1, GCID: 33958178, BOARD: t186ref, EABI: aarch64",
            "35.4.1",
            "5.1.2",
            id="Xavier with JetPack 5",
        ),
        pytest.param(
            "# R32 (release), REVISION: 7.1, GCID: 29818004, BOARD: t210ref, EABI: aarch64",
            "32.7.1",
            "4.6.1",
            id="Nano with JetPack 4",
        ),
        pytest.param(THOR, "38.2.0", "7.0", id="Thor with JetPack 7"),
        pytest.param("# R39 (release), REVISION: 2.0, GCID: 1", "39.2.0", "7.2", id="JetPack 7.2"),
        pytest.param("# R39 (release), REVISION: 4.0, GCID: 1", "39.4.0", "7", id="a later 7"),
        pytest.param("# R36 (release), REVISION: 9.9, GCID: 1", "36.9.9", "6", id="a later one"),
        pytest.param("# R35 (release), REVISION: 1, GCID: 1", "35.1.0", "5.0.2", id="two parts"),
        pytest.param("# R99 (release), REVISION: 1.0", "99.1.0", "", id="of a time to come"),
        pytest.param("hello", "", "", id="something else"),
        pytest.param("", "", "", id="nothing"),
    ],
)
def test_a_release_names_its_jetpack(text, l4t, jetpack):
    assert l4t_of(text) == l4t
    assert jetpack_of(l4t) == jetpack


#: As the programs of five generations write them. Written by real ones: "Orin with JetPack 7"
#: (jetson_stats, pull request 894) and "TX1" (hordiales/jetson-tx1-dev, SCRIPTS.md). The others
#: are formats of "tegrastats Utility" in the Jetson Linux Developer Guide, filled in; that of a
#: Thor, and the sensor of a GPU that sleeps, as jetson_stats tells of them.
LINES = {
    "Orin with JetPack 7": (
        (
            "07-25-2026 09:08:28 RAM 20642/62817MB (lfb 1x2MB) CPU [23%@2201,10%@2201,4%@2201] "
            "EMC_FREQ 3%@3199 GR3D_FREQ 12%@[1300,1300] NVENC0 off NVDEC0 off VIC off OFA off "
            "PVA0_FREQ off APE 174 cpu@52.968C/52.968C soc2@48.406C/48.406C "
            "gpu@47.625C/47.625C VDD_GPU_SOC 5139mW/5139mW/5139mW"
        ),
        GpuUse("GPU", 20642 * MIB, 62817 * MIB, 0.12, 47.625),
    ),
    "Orin": (
        (
            "11-20-2025 10:11:12 RAM 3150/30697MB (lfb 2x4MB) SWAP 0/15348MB (cached 0MB) CPU "
            "[2%@729,0%@729,off,off] EMC_FREQ 1%@2133 GR3D_FREQ 42%@[305,305] NVENC off cpu@47.5C "
            "tboard@36C soc2@43.8C gpu@44.625C tj@47.5C VDD_GPU_SOC 3200mW/3200mW"
        ),
        GpuUse("GPU", 3150 * MIB, 30697 * MIB, 0.42, 44.625),
    ),
    "Orin whose GPU sleeps": (
        "RAM 3150/30697MB (lfb 2x4MB) GR3D_FREQ 0%@[0,0] gpu@-256C tj@47.5C",
        GpuUse("GPU", 3150 * MIB, 30697 * MIB, 0.0, None),
    ),
    "Thor, which tells no load": (
        (
            "08-08-2026 20:58:23 RAM 3429/125749MB (lfb 120x4MB) CPU [0%,5%,off]@2601 EMC_FREQ "
            "@4266 GR3D_FREQ @[1574,1574,1574] cpu@49.75C/49.75C tj@51.218C/51.218C "
            "gpu@51.218C/51.218C VDD_GPU 6330mW/6330mW/6330mW VIN 28906mW/14453mW/28906mW"
        ),
        GpuUse("GPU", 3429 * MIB, 125749 * MIB, None, 51.218),
    ),
    "Xavier": (
        (
            "RAM 2100/7763MB (lfb 1200x4MB) SWAP 0/3881MB CPU [5%@1190,off] EMC_FREQ 0% GR3D_FREQ "
            "99%@1109 VIC_FREQ 0%@115 AO@40C GPU@41.5C PMIC@50C AUX@40C CPU@42C"
        ),
        GpuUse("GPU", 2100 * MIB, 7763 * MIB, 0.99, 41.5),
    ),
    "Nano": (
        (
            "RAM 1766/3964MB (lfb 197x4MB) SWAP 0/2048MB (cached 0MB) CPU [24%@1224,15%@1224,"
            "13%@1224,10%@1224] EMC_FREQ 0% GR3D_FREQ 0% PLL@21C CPU@25C PMIC@100C GPU@23.5C "
            "AO@33.5C thermal@24.5C POM_5V_IN 2545/2547 POM_5V_GPU 0/0 POM_5V_CPU 549/529"
        ),
        GpuUse("GPU", 1766 * MIB, 3964 * MIB, 0.0, 23.5),
    ),
    "TX1": (
        (
            "RAM 3607/3983MB (lfb 47x4MB) SWAP 873/8192MB (cached 281MB) cpu [17%,11%,65%,0%]@1734 "
            "EMC 1%@1600 APE 25 GR3D 39%@76"
        ),
        GpuUse("GPU", 3607 * MIB, 3983 * MIB, 0.39, None),
    ),
    "more than all": ("GR3D_FREQ 250%", GpuUse("GPU", utilisation=1.0)),
    "nothing": ("", GpuUse("GPU")),
}


@pytest.mark.parametrize(("line", "expected"), LINES.values(), ids=LINES)
def test_tegrastats_tells_of_the_gpu(line, expected):
    assert use_of_tegrastats(line) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:   40 kB\n", (60 * 1024, 100 * 1024)),
        ("MemTotal: 100 kB\n", None),
        ("MemTotal: x kB\nMemAvailable: 1 kB", None),
        ("MemTotal:\nMemAvailable:\n", None),
        ("", None),
    ],
)
def test_memory_is_the_machines(text, expected):
    assert memory_of_meminfo(text) == expected


@pytest.fixture
def machine(tmp_path: Path) -> Callable[[dict[str, str]], Path]:
    def make(files: dict[str, str]) -> Path:
        for name, content in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        return tmp_path

    return make


JETSON_FILES = {
    "proc/device-tree/model": "NVIDIA Jetson AGX Orin Developer Kit\0",
    "etc/nv_tegra_release": ORIN,
    "proc/meminfo": "MemTotal: 32000000 kB\nMemAvailable: 24000000 kB\n",
    "sys/devices/platform/17000000.gpu/load": "137\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "50000\n",
    "sys/class/thermal/thermal_zone1/type": "gpu-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "44625\n",
}
BOARD = Jetson("NVIDIA Jetson AGX Orin Developer Kit", "36.4.3", "6.2")


def test_a_jetson_is_read_from_its_files(machine):
    device = read_device(machine(JETSON_FILES), tegrastats=None)
    gpu = GpuUse("GPU of the Jetson", 8_192_000_000, 32_768_000_000, 0.137, 44.625)
    assert device == Device(BOARD, (gpu,))
    assert device.to_json() == {
        "board": "NVIDIA Jetson AGX Orin Developer Kit",
        "l4t": "36.4.3",
        "jetpack": "6.2",
        "gpus": [
            {
                "name": "GPU of the Jetson",
                "memory_used": 8_192_000_000,
                "memory_total": 32_768_000_000,
                "utilisation": 0.137,
                "temperature": 44.625,
            }
        ],
    }


def test_what_the_files_do_not_say_tegrastats_does(machine, tmp_path):
    files = {name: text for name, text in JETSON_FILES.items() if name.startswith(("etc", "proc"))}
    program = tmp_path / "tegrastats"
    line = LINES["Orin"][0]
    program.write_text(f"#!/bin/sh\nwhile true; do echo '{line}'; sleep 1; done\n")
    program.chmod(0o755)
    (gpu,) = read_device(machine(files), tegrastats=str(program)).gpus
    assert (gpu.utilisation, gpu.temperature) == (0.42, 44.625)
    assert gpu.memory_total == 32_768_000_000


def test_what_neither_files_nor_tegrastats_say_nvml_does(machine):
    """A Thor: no file of the kernel has its GPU's load."""
    files = {
        "proc/device-tree/model": "NVIDIA Jetson AGX Thor Developer Kit\0",
        "etc/nv_tegra_release": THOR,
        "proc/meminfo": JETSON_FILES["proc/meminfo"],
        "sys/class/devfreq/gpu-gpc-0/cur_freq": "1574000000\n",
    }
    said = GpuUse("NVIDIA Thor", None, None, 0.97, 58.0)
    device = read_device(machine(files), tegrastats=None, nvml=lambda: (said,))
    gpu = GpuUse("GPU of the Jetson", 8_192_000_000, 32_768_000_000, 0.97, 58.0)
    assert device == Device(Jetson("NVIDIA Jetson AGX Thor Developer Kit", "38.2.0", "7.0"), (gpu,))


def test_what_the_files_say_nobody_else_is_asked_for(machine):
    asked: list[str] = []

    def nvml() -> tuple[GpuUse, ...]:
        asked.append("nvml")
        return ()

    read_device(machine(JETSON_FILES), tegrastats=None, nvml=nvml)
    assert asked == []


@pytest.mark.parametrize("script", ["#!/bin/sh\nexit 1\n", "not a program"], ids=["fails", "none"])
def test_a_tegrastats_that_fails_leaves_it_open(machine, tmp_path, script):
    program = tmp_path / "tegrastats"
    program.write_text(script)
    program.chmod(0o755)
    files = {"etc/nv_tegra_release": ORIN}
    (gpu,) = read_device(machine(files), tegrastats=str(program)).gpus
    assert gpu == GpuUse("GPU of the Jetson")


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({}, None, id="an empty machine"),
        pytest.param(
            {"proc/device-tree/model": "Raspberry Pi 5 Model B"}, None, id="another board"
        ),
        pytest.param(
            {"proc/device-tree/model": "NVIDIA Jetson Orin Nano"},
            Jetson("NVIDIA Jetson Orin Nano"),
            id="in a container that hides the release",
        ),
        pytest.param({"etc/nv_tegra_release": ORIN}, Jetson("", "36.4.3", "6.2"), id="no model"),
    ],
)
def test_a_jetson_is_known_by_its_model_or_its_release(machine, files, expected):
    assert read_jetson(machine(files)) == expected


def test_there_is_nothing_to_tell_of_a_plain_machine():
    assert Device().to_json() is None


def test_a_machine_is_not_looked_at_again_and_again():
    looks: list[Device] = []

    def read() -> Device:
        looks.append(Device(BOARD))
        return looks[-1]

    watch = DeviceWatch(read)
    assert [watch.look() for _ in range(3)] == [Device(BOARD)] * 3
    assert len(looks) == 1


@pytest.mark.gpu
def test_the_gpu_of_this_machine_is_told():
    gpus = read_device().gpus
    if not gpus:
        pytest.skip("no GPU of NVIDIA's here")
    assert gpus[0].name
