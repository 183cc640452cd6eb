"""Functions and folders of code, from a notebook's cell to a runtime that allows them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest

from nbmodel.client import Client
from nbmodel.errors import ConfigError, NoCompatibleBackendError
from tests.tools.python_models import scaling_py

pytestmark = pytest.mark.unhurried

ROWS = np.array([[1, 2], [3, 4]], np.float32)


def double(x):
    return {"y": x * 2, "largest": x.max(axis=1)}


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    home = tmp_path_factory.mktemp("home")
    client = Client(home=home)
    client.runtimes.start("open", allow_code=True)
    client.runtimes.start("careful")
    yield client
    for name in ("open", "careful"):
        client.runtimes.stop(name)
    client.close()


def test_a_function_goes_from_a_cell_to_a_runtime_that_allows_code(client: Client) -> None:
    client.log("double", double, sample=ROWS, type="other")
    card = client.deploy("double", on="open", confirm_s=0)
    assert "python" in str(card)
    answer = client.infer("double@open", ROWS)
    assert answer.outputs["y"].tolist() == (ROWS * 2).tolist()
    assert answer.outputs["largest"].tolist() == [2, 4]


def test_a_runtime_that_does_not_allow_code_says_so_before_anything_is_sent(
    client: Client,
) -> None:
    client.log("double", double, sample=ROWS, type="other")
    with pytest.raises(
        ConfigError, match=r"is code, which this runtime does not run.*--allow-code"
    ):
        client.deploy("double", on="careful")
    status = client.status("careful")
    assert "double" not in str(status)


def test_nobody_deploys_code_without_a_token(client: Client) -> None:
    known = client.runtimes.get("open")
    for method, path in (("GET", "/nbmodel/config"), ("PUT", "/nbmodel/config"), ("GET", "/v2")):
        answer = httpx.request(method, f"{known.url}{path}", json={}, timeout=60)
        assert answer.status_code == 401, path


def test_a_folder_is_deployed_as_a_function_is(client: Client, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_bytes(scaling_py(5))
    client.upload(tmp_path, name="five", type="other")
    client.deploy("five", on="open", confirm_s=0)
    assert client.infer("five@open", ROWS).outputs["y"].tolist() == (ROWS * 5).tolist()


def test_code_is_not_run_right_here(client: Client, tmp_path: Path) -> None:
    (tmp_path / "model.py").write_bytes(scaling_py(5))
    client.upload(tmp_path, name="here", type="other")
    with pytest.raises(NoCompatibleBackendError, match="right here") as caught:
        client.infer("here", ROWS)
    assert "deploy it to a runtime" in str(caught.value.hint)
