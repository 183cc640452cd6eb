"""The same folders on Triton's own Python backend and on ours: signatures, answers, errors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tritonclient.http", reason="pip install 'nbmodel[triton]'")

from nbmodel.backends import Session, load_backend
from nbmodel.convert import convert
from nbmodel.errors import InferenceError
from tests.tools.python_models import EVERYTHING
from tests.tools.triton import NoTritonError, packages, triton

pytestmark = [pytest.mark.slow, pytest.mark.unhurried]

ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


def classify(rows: np.ndarray, names: Any) -> dict[str, Any]:
    """A function as a notebook has it: several arrays in, texts and numbers out."""
    import math

    scores = rows.sum(axis=1) / math.pi
    return {
        "score": scores,
        "name": np.where(scores > 1, names, b"none"),
        "large": scores > 1,
    }


NAMES = np.array([b"a", "é".encode(), b"\0c"], object)
INPUTS = {
    "function": {"rows": ROWS, "names": NAMES},
    "everything": {"x": ROWS, "text": NAMES},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Model repositories of Triton have such folders: ``<model>/1/model.py`` and nothing else."""
    repository = tmp_path_factory.mktemp("repository")
    made = convert(classify, {"rows": ROWS, "names": NAMES})
    contents = {"function": made.files, "everything": {"model.py": EVERYTHING}}
    for name, files in contents.items():
        (repository / name / "1").mkdir(parents=True)
        for path, content in files.items():
            (repository / name / "1" / path).write_bytes(_with_old_numpy(content))
    return {name: repository / name / "1" for name in contents}


def _with_old_numpy(code: bytes) -> bytes:
    """The code, which finds a numpy that the wheel's server was built for, if none is loaded."""
    path = f"import sys; sys.path[:0] = {packages()}\n"
    return code.replace(b"import numpy", path.encode() + b"import numpy", 1)


@pytest.fixture(scope="module")
def server(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    scratch = tmp_path_factory.mktemp("triton")
    repository = folders["function"].parents[1]
    try:
        with triton(repository, scratch, models=list(folders)) as running:
            yield f"http://{running.http}"
    except NoTritonError as exc:
        pytest.skip(str(exc))


@pytest.fixture
def sessions(
    folders: dict[str, Path], server: str, request: pytest.FixtureRequest
) -> Iterator[list[Session]]:
    """One folder: on ours, as Triton completes it by itself, and as nbmodel brings it there."""
    name = request.param
    loaded = [
        load_backend("python").load({"model_path": str(folders[name])}),
        load_backend("triton").load(
            {
                "address": server,
                "model_repository_path": str(folders[name].parents[1]),
                "model_name": name,
            }
        ),
        load_backend("triton").load(
            {"address": server, "model_path": str(folders[name]), "model_name": f"{name}-sent"}
        ),
    ]
    yield loaded
    for session in loaded:
        session.close()


@pytest.mark.parametrize("sessions", list(INPUTS), indirect=True)
def test_signatures_and_answers_are_the_same(
    sessions: list[Session], request: pytest.FixtureRequest
) -> None:
    ours, *theirs = sessions
    name = request.node.callspec.params["sessions"]
    expected = ours.infer(INPUTS[name])
    for session in theirs:
        assert session.signature.inputs == ours.signature.inputs
        assert session.signature.outputs == ours.signature.outputs
        answer = session.infer(INPUTS[name])
        for output, array in expected.items():
            assert answer[output].dtype == array.dtype
            assert answer[output].tolist() == array.tolist()


@pytest.mark.parametrize("sessions", ["everything"], indirect=True)
def test_errors_are_the_same(sessions: list[Session]) -> None:
    for session in sessions:
        with pytest.raises(InferenceError, match="no row may be negative"):
            session.infer({"x": -ROWS, "text": NAMES})
        assert session.infer(INPUTS["everything"])["y"].tolist() == (ROWS * 2).tolist()
