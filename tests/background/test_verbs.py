"""push, upload and transfers, in the background of a program and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

import nbmodel
from nbmodel import cli, provenance
from nbmodel.background.queue import JobQueue
from nbmodel.client import Client
from nbmodel.core.lineage import Lineage
from nbmodel.errors import FormatError, InputError
from tests.tools.docker_registry import PROGRAM, docker_registry

pytestmark = pytest.mark.unhurried
WAIT_S = 60


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NBMODEL_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def client(home: Path, linear_onnx: Path) -> Iterator[Client]:
    client = Client(home)
    client.upload(linear_onnx, name="lines", type="regression")
    yield client
    client.close()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    if PROGRAM is None:
        pytest.skip("docker-registry is not installed")
    with docker_registry(tmp_path_factory.mktemp("registry")) as url:
        yield url


def left_by_another_process(client: Client, remote: str) -> str:
    queue = JobQueue(client.home / "transfers")
    given = {"reference": "lines", "remote": remote}
    return queue.add(queue.make("push", given, str(client.home / "registry"))).id


def test_a_push_of_a_program(
    client: Client, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    handle = client.push("lines", f"{registry}/a", background=True)
    card = handle.result(WAIT_S)
    assert card.sent > 0
    assert handle.line.startswith("push lines: done, ")
    assert capsys.readouterr() == ("", "")
    (job,) = client.transfers()
    assert (job.state, job.line) == ("done", handle.line)
    assert handle.line in client.transfers().text()


def test_an_upload_of_a_program(
    client: Client, linear_onnx: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = tmp_path / "labels.txt"
    labels.write_text("a\nb\nc\n")
    monkeypatch.chdir(tmp_path)
    handle = client.upload(
        linear_onnx, name="lines", labels="labels.txt", tags={"stage": "trial"}, background=True
    )
    monkeypatch.chdir("/")  # paths mean what they meant
    version = handle.result(WAIT_S)
    assert (version.reference, version.tags) == ("lines:2", {"stage": "trial"})


def test_an_upload_takes_what_can_be_written_down(client: Client, linear_onnx: Path) -> None:
    with pytest.raises(InputError, match="upload in the background takes what can be written"):
        client.upload(linear_onnx, name="lines", sample=[object()], background=True)
    assert client.transfers() == []


def test_the_lineage_of_an_upload_is_of_the_code_that_began_it(
    client: Client, linear_onnx: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cells = iter(range(1, 100))

    class Look:
        def __init__(self, name: str, **_: object) -> None:
            self.cell = next(cells)

        def lineage(self, parents: tuple[str, ...]) -> Lineage:
            return Lineage(parents=parents, cell=self.cell)

    monkeypatch.setattr(provenance, "Look", Look)
    handle = client.upload(linear_onnx, name="lines", parents=["lines:1"], background=True)
    (job,) = client.transfers()
    begun_in = Lineage.from_json(job.given["lineage"])
    assert begun_in.cell == 1
    made = client.registry.resolve(handle.result(WAIT_S).reference)
    assert made.manifest.lineage == begun_in
    assert made.manifest.lineage.parents == (client.registry.resolve("lines:1").digest,)


def test_an_upload_that_another_cell_began_is_gone_on_with(
    client: Client, linear_onnx: Path
) -> None:
    queue = JobQueue(client.home / "transfers")
    client.upload(linear_onnx, name="lines", background=True).result(WAIT_S)
    (done,) = queue.jobs()
    given = {**done.given, "lineage": {"cell": 7}}
    left = queue.add(queue.make("upload", given, str(client.home / "registry")))
    handle = client.upload(linear_onnx, name="lines", background=True)
    assert handle.id == left.id
    assert handle.result(WAIT_S).reference == "lines:3"


def test_what_fails_is_told_by_its_handle(client: Client, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    handle = client.upload(tmp_path / "broken.onnx", name="lines", background=True)
    with pytest.raises(FormatError):
        handle.result(WAIT_S)
    assert "failed" in client.transfers().text()


def test_the_command_line_finishes_what_was_left(
    client: Client, registry: str, capsys: pytest.CaptureFixture[str]
) -> None:
    id_ = left_by_another_process(client, f"{registry}/b")
    assert cli.main(["transfers"]) == 0
    shown = capsys.readouterr().out
    assert id_ in shown
    assert "interrupted" in shown
    assert cli.main(["--json", "transfers", "--resume", id_]) == 0
    (job,) = json.loads(capsys.readouterr().out)
    assert (job["id"], job["state"]) == (id_, "done")


def test_the_command_line_cancels(client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    id_ = left_by_another_process(client, "localhost:1")
    assert cli.main(["transfers", "--cancel", id_]) == 0
    assert "cancelled" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["transfers", "--cancel"], id="cancel what"),
        pytest.param(["transfers", "0123abcd"], id="an id alone"),
        pytest.param(["transfers", "--cancel", "--resume", "0123abcd"], id="both"),
        pytest.param(["transfers", "--resume", "0123abcd"], id="no such transfer"),
        pytest.param(["push", "lines", "localhost:1", "--background"], id="nothing stays there"),
    ],
)
def test_words_that_mean_nothing(
    home: Path, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(words) != 0
    assert "error: " in capsys.readouterr().err


def test_no_package_hides_a_verb() -> None:
    files = {path.stem for path in Path(nbmodel.__file__).parent.iterdir()}
    assert files & set(nbmodel.__all__) == set(), "its import would put it in the verb's place"
