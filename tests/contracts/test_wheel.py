"""The wheel works in an environment that holds nothing else: no extras, no node, no git."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


@dataclass(frozen=True, slots=True)
class Environment:
    """A virtual environment that holds the wheel and its base dependencies."""

    bin: Path
    home: Path

    def run(self, *command: str | Path) -> subprocess.CompletedProcess[str]:
        """Run one of its programs with nothing on PATH but the environment itself."""
        env = {"PATH": str(self.bin), "HOME": str(self.home), "NBMODEL_HOME": str(self.home / "n")}
        return subprocess.run(
            [self.bin / command[0], *command[1:]],
            cwd=self.home,
            env=env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )


@pytest.fixture(scope="module")
def wheel(project_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel, built as an installer builds it."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--wheel-dir", folder, project_root],
        check=True,
        env=os.environ | {"PIP_ROOT_USER_ACTION": "ignore"},
    )
    (path,) = folder.glob("nbmodel-*.whl")
    return path


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder = tmp_path_factory.mktemp("environment")
    home = tmp_path_factory.mktemp("home")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = folder / "bin" / "python"
    subprocess.run(
        [python, "-m", "pip", "-q", "--disable-pip-version-check", "install", wheel], check=True
    )
    return Environment(folder / "bin", home)


def test_wheel_holds_the_package_and_nothing_else(wheel: Path, project_root: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "nbmodel",
        f"nbmodel-{wheel.name.split('-')[1]}.dist-info",
    }
    tracked = {
        path.relative_to(project_root).as_posix()
        for path in (project_root / "nbmodel").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert {name for name in names if name.startswith("nbmodel/")} == tracked
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_package_imports(environment: Environment) -> None:
    done = environment.run("python", "-c", "import nbmodel; print(nbmodel.__version__)")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_empty_registry_lists(environment: Environment) -> None:
    done = environment.run("nbmodel", "list")
    assert (done.returncode, done.stderr) == (0, "")


def test_an_onnx_file_uploads_with_its_signature(
    environment: Environment, linear_onnx: Path
) -> None:
    done = environment.run("nbmodel", "upload", linear_onnx, "--name", "linear", "--type", "other")
    assert done.returncode == 0, done.stderr
    assert "linear" in environment.run("nbmodel", "list").stdout
    shown = environment.run("nbmodel", "show", "linear:1")
    assert "FP32" in shown.stdout, shown.stderr


def test_a_missing_extra_is_one_line(environment: Environment, tmp_path: Path) -> None:
    config = tmp_path / "machine.json"
    config.write_text("{}", encoding="utf-8")
    command = ("runtime", "start", "--config", config, "--http", "127.0.0.1:0", "--home", tmp_path)
    done = environment.run("nbmodel", *command)
    assert done.returncode != 0
    assert "pip install 'nbmodel[runtime]'" in done.stderr
    assert len(done.stderr.strip().splitlines()) <= 2, done.stderr
