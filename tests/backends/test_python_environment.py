"""Environments of Python models: made once, shared, refused in words, and let go of."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from nbmodel.backends import Known, load_backend
from nbmodel.backends.python_environment import (
    key_of,
    prepare,
    requirements_of,
    sweep_environments,
)
from nbmodel.errors import InferenceError, UnavailableError
from tests.tools.python_models import scaling_py, write_wheel

X = np.array([[1, 2]], np.float32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model that requires a package, with the package's wheel."""
    return needing(tmp_path / "needing", 5)


def needing(folder: Path, value: int) -> Path:
    write_wheel(folder / "wheels", "toy_dependency", value)
    (folder / "requirements.txt").write_text("# what it needs\ntoy_dependency==1.0\n")
    code = scaling_py(head="import toy_dependency").replace(b"(2)", b"(toy_dependency.VALUE)")
    (folder / "model.py").write_bytes(code)
    return folder


class TestKeys:
    def test_equal_requirements_have_one_environment(self, folder: Path, tmp_path: Path) -> None:
        assert key_of(folder) == key_of(needing(tmp_path / "other", 5))

    def test_other_requirements_and_other_wheels_have_others(
        self, folder: Path, tmp_path: Path
    ) -> None:
        wheel = needing(tmp_path / "wheel", 6)
        line = needing(tmp_path / "line", 5)
        (line / "requirements.txt").write_text("toy_dependency>=1.0\n")
        assert len({key_of(folder), key_of(wheel), key_of(line)}) == 3

    @pytest.mark.parametrize("text", ["", "\n\n", "# nothing\n  # at all\n"])
    def test_requirements_that_name_nothing_are_none(self, tmp_path: Path, text: str) -> None:
        (tmp_path / "requirements.txt").write_text(text)
        assert requirements_of(tmp_path) is None

    def test_a_file_that_is_too_large_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "requirements.txt").write_text("x\n" * 40_000)
        with pytest.raises(InferenceError, match=r"80,000 bytes, expected at most 65,536"):
            requirements_of(tmp_path)


@pytest.mark.unhurried
class TestMaking:
    def test_a_model_finds_its_requirements_and_numpy_and_nothing_else_of_ours(
        self, folder: Path, tmp_path: Path
    ) -> None:
        told: list[str] = []
        known = Known(engines=tmp_path / "engines", tell=told.append)
        session = load_backend("python").load({"model_path": str(folder)}, known)
        assert session.infer({"x": X})["y"].tolist() == (X * 5).tolist()
        session.close()
        assert any("installing its requirements" in one for one in told)
        (environment,) = (tmp_path / "engines" / "python").iterdir()
        code = "import toy_dependency, importlib.util as u; print(u.find_spec('nbmodel'))"
        done = subprocess.run(
            [environment / "bin" / "python", "-I", "-c", code],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == "None"

    def test_it_is_installed_once(self, folder: Path, tmp_path: Path) -> None:
        told: list[str] = []
        first = prepare(folder, tmp_path / "root", told.append)
        assert told
        told.clear()
        assert prepare(folder, tmp_path / "root", told.append) == first
        assert told == []

    def test_what_the_wheels_lack_is_refused_with_the_installers_words(
        self, folder: Path, tmp_path: Path
    ) -> None:
        (folder / "requirements.txt").write_text("toy_dependency==2.0\n")
        with pytest.raises(InferenceError, match=r"cannot install.*toy.dependency==2.0") as caught:
            prepare(folder, tmp_path / "root", lambda _: None)
        assert not isinstance(caught.value, UnavailableError)
        assert list((tmp_path / "root").iterdir()) == []

    def test_an_index_that_cannot_be_reached_may_be_reached_later(
        self, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in [name for name in os.environ if name.lower().endswith("_proxy")]:
            monkeypatch.delenv(name)
        nobody = "http://127.0.0.1:1/simple"
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            monkeypatch.delenv(name)
        given = {"INDEX_URL": nobody, "RETRIES": "1", "CONFIG_FILE": os.devnull}
        for name, value in given.items():
            monkeypatch.setenv(f"PIP_{name}", value)
        monkeypatch.setenv("UV_DEFAULT_INDEX", nobody)
        (folder / "wheels" / "toy_dependency-1.0-py3-none-any.whl").unlink()
        with pytest.raises(UnavailableError, match="cannot install") as caught:
            prepare(folder, tmp_path / "root", lambda _: None)
        assert "wheels/" in str(caught.value.hint)

    def test_without_a_place_for_environments_the_interpreter_is_this_one(
        self, tmp_path: Path
    ) -> None:
        (tmp_path / "model.py").write_bytes(scaling_py())
        (tmp_path / "requirements.txt").write_text("no-such-package\n")
        session = load_backend("python").load({"model_path": str(tmp_path)})
        assert session.infer({"x": X})["y"].tolist() == (X * 2).tolist()
        session.close()


class TestSweeping:
    @staticmethod
    def environment(engines: Path, name: str, *users: Path) -> Path:
        home = engines / "python" / name
        (home / "bin").mkdir(parents=True)
        (home / "users.txt").write_text("".join(f"{user}\n" for user in users))
        return home

    def test_what_no_model_uses_any_more_goes(self, tmp_path: Path) -> None:
        here = tmp_path / "model"
        here.mkdir()
        used = self.environment(tmp_path, "used", tmp_path / "gone", here)
        unused = self.environment(tmp_path, "unused", tmp_path / "gone")
        assert sweep_environments(tmp_path) == 1
        assert used.exists()
        assert not unused.exists()

    def test_what_another_process_makes_just_now_stays(self, tmp_path: Path) -> None:
        made = self.environment(tmp_path, ".5f1e.another-machine")
        assert sweep_environments(tmp_path) == 0
        assert made.exists()

    def test_nothing_is_swept_where_there_is_nothing(self, tmp_path: Path) -> None:
        assert sweep_environments(tmp_path / "none") == 0
