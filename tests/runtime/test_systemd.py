"""The unit that runs a runtime as a service of its machine."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from nbmodel.errors import InputError
from nbmodel.runtime.systemd import HEAD, Unit, quoted, state_folder

MACHINE = Unit(
    name="edge",
    command=[sys.executable, "-m", "nbmodel", "runtime", "start", "edge", "--foreground"],
    home=state_folder("edge"),
    is_user=False,
    ports=[8080],
    secrets=Path("/etc/nbmodel/edge.env"),
)
OF_USER = replace(MACHINE, is_user=True, home=Path("/home/ada/edge"))
OF_ADA = replace(MACHINE, run_as="ada", home=Path("/srv/my models"))


def read(unit: Unit) -> Mapping[str, Mapping[str, str]]:
    """Its sections, as one reads a file of that kind; a key twice would be an error."""
    parser = configparser.ConfigParser(interpolation=None, delimiters="=", comment_prefixes="#")
    parser.optionxform = str  # type: ignore[assignment, method-assign] # as its docs say
    parser.read_string(unit.text())
    return parser


@pytest.mark.parametrize("unit", [MACHINE, OF_USER, OF_ADA], ids=["machine", "user", "run as"])
def test_a_service_is_looked_after_by_systemd(unit: Unit) -> None:
    service = read(unit)["Service"]
    assert unit.text().startswith(HEAD)
    assert service["Type"] == "notify"
    assert float(service["WatchdogSec"]) >= 10
    assert service["Restart"] == "always"
    assert read(unit)["Unit"]["StartLimitIntervalSec"] == "0"  # it never gives up
    assert service["OOMPolicy"] == "continue"  # a trial run may be killed for its memory
    assert float(service["TimeoutStopSec"]) > unit.drain_s + 10
    assert service["NoNewPrivileges"] == "yes"
    assert service["EnvironmentFile"] == "-/etc/nbmodel/edge.env"


@pytest.mark.parametrize(
    ("unit", "expected"),
    [
        pytest.param(
            MACHINE,
            {
                "StateDirectory": "nbmodel/edge",
                "DynamicUser": "yes",
                "ProtectSystem": "strict",
                "CapabilityBoundingSet": "",
                "ReadWritePaths": None,
                "User": None,
            },
            id="a user of its own, whose folder systemd makes",
        ),
        pytest.param(
            OF_ADA,
            {
                "User": "ada",
                "DynamicUser": None,
                "StateDirectory": None,
                "ReadWritePaths": '"/srv/my models"',
            },
            id="a user and a folder that are there",
        ),
        pytest.param(
            replace(OF_ADA, home=Path("/srv/$x 5%")),
            {"ReadWritePaths": '"/srv/$x 5%%"'},
            id="a folder with signs that commands alone take for others",
        ),
        pytest.param(
            replace(MACHINE, ports=[80, 8081]),
            {
                "CapabilityBoundingSet": "CAP_NET_BIND_SERVICE",
                "AmbientCapabilities": "CAP_NET_BIND_SERVICE",
            },
            id="a port that needs a right",
        ),
        pytest.param(
            OF_USER,
            {"ProtectSystem": None, "DynamicUser": None, "User": None, "StateDirectory": None},
            id="a user's manager, which may not do these",
        ),
    ],
)
def test_a_service_may_do_what_it_must_and_no_more(
    unit: Unit, expected: dict[str, str | None]
) -> None:
    service = read(unit)["Service"]
    assert {key: service.get(key) for key in expected} == expected


@pytest.mark.parametrize(
    ("unit", "private"),
    [
        pytest.param(replace(OF_ADA, command=["/opt/python"]), "yes", id="elsewhere"),
        pytest.param(
            replace(OF_ADA, command=["/tmp/venv/bin/python"]), "no", id="a program in /tmp"
        ),
        pytest.param(
            replace(OF_ADA, command=["/opt/python", "--config", "/var/tmp/machine.json"]),
            "no",
            id="a file in /var/tmp",
        ),
        pytest.param(
            replace(OF_ADA, command=["/tmporary/python", "tmp", "/x/tmp/y"]), "yes", id="like it"
        ),
    ],
)
def test_a_unit_sees_what_it_runs(unit: Unit, private: str) -> None:
    assert read(unit)["Service"]["PrivateTmp"] == private


def test_a_service_starts_with_the_machine_or_with_its_user() -> None:
    assert read(MACHINE)["Install"]["WantedBy"] == "multi-user.target"
    assert read(OF_USER)["Install"]["WantedBy"] == "default.target"
    assert MACHINE.file_name == "nbmodel-edge.service"


# systemd.service(5), "Command lines", and systemd.syntax(7), "Quoting".
@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("--home", "--home"),
        ("/a b", '"/a b"'),
        ("50%", "50%%"),
        ("$HOME", '"$$HOME"'),
        ('say "x"', r'"say \"x\""'),
        ("C:\\x", r'"C:\\x"'),
        ("a;b", '"a;b"'),
        ("", '""'),
    ],
)
def test_words_reach_the_program_as_they_are(word: str, written: str) -> None:
    assert quoted(word) == written


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"command": ["/bin/x", "a\nExecStartPre=/bin/evil"]}, id="a line break"),
        pytest.param({"home": Path("/a\nb"), "run_as": "ada"}, id="one in a folder"),
        pytest.param({"run_as": "ada\nUser=root"}, id="one in a user"),
        pytest.param({"home": Path("/srv/x")}, id="a folder that nobody owns"),
    ],
)
def test_what_cannot_be_written_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(InputError):
        replace(MACHINE, **change)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "unit",
    [
        MACHINE,
        replace(MACHINE, ports=[80], command=[*MACHINE.command, "--server-name", '50% "$HOME" \\']),
        replace(OF_ADA, run_as="root"),
        OF_USER,
    ],
    ids=["machine", "odd words", "run as", "user"],
)
def test_systemd_finds_nothing_wrong_with_it(unit: Unit, tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    file = tmp_path / unit.file_name
    file.write_text(unit.text())
    scope = ["--user"] if unit.is_user else []
    done = subprocess.run(
        ["systemd-analyze", *scope, "verify", str(file)],
        env={**os.environ, "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    found = [line for line in done.stderr.splitlines() if unit.name in line]
    assert (done.returncode, found) == (0, []), done.stderr
