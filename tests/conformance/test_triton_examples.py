"""The client examples of triton-inference-server/client, as they are, against a runtime.

They are not copied here. ``NBMODEL_TRITON_CLIENT`` names a checkout of the repository::

    git clone https://github.com/triton-inference-server/client
    NBMODEL_TRITON_CLIENT=client python -m pytest tests/conformance/test_triton_examples.py
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.conformance.conftest import Served, serving

NO_SEQUENCES = "needs a sequence batcher: control inputs that the server gives"
NO_CUDA = "needs CUDA shared memory"
OTHER_MODELS = "needs models besides the small ones: "

#: Each script that speaks to a server, and why it cannot pass, or None.
SCRIPTS = {
    "ensemble_image_client.py": f"{OTHER_MODELS}an ensemble",
    "grpc_client.py": f"{OTHER_MODELS}densenet_onnx",
    "grpc_explicit_byte_content_client.py": None,
    "grpc_explicit_int8_content_client.py": None,
    "grpc_explicit_int_content_client.py": None,
    "grpc_image_client.py": f"{OTHER_MODELS}an image classifier",
    "image_client.py": f"{OTHER_MODELS}an image classifier",
    "memory_growth_test.py": f"{OTHER_MODELS}custom_identity_int32",
    "reuse_infer_objects_client.py": None,
    "simple_grpc_aio_infer_client.py": None,
    "simple_grpc_aio_sequence_stream_infer_client.py": NO_SEQUENCES,
    "simple_grpc_async_infer_client.py": None,
    "simple_grpc_cudashm_client.py": NO_CUDA,
    "simple_grpc_custom_args_client.py": None,
    "simple_grpc_custom_repeat.py": f"{OTHER_MODELS}repeat_int32, which answers several times",
    "simple_grpc_health_metadata.py": None,
    "simple_grpc_infer_client.py": None,
    "simple_grpc_keepalive_client.py": None,
    "simple_grpc_model_control.py": None,
    "simple_grpc_sequence_stream_infer_client.py": NO_SEQUENCES,
    "simple_grpc_sequence_sync_infer_client.py": NO_SEQUENCES,
    "simple_grpc_shm_client.py": None,
    "simple_grpc_shm_string_client.py": None,
    "simple_grpc_string_infer_client.py": None,
    "simple_http_aio_infer_client.py": None,
    "simple_http_async_infer_client.py": None,
    "simple_http_cudashm_client.py": NO_CUDA,
    "simple_http_health_metadata.py": None,
    "simple_http_infer_client.py": None,
    "simple_http_model_control.py": None,
    "simple_http_sequence_sync_infer_client.py": NO_SEQUENCES,
    "simple_http_shm_client.py": None,
    "simple_http_shm_string_client.py": None,
    "simple_http_string_infer_client.py": None,
}
#: The model control scripts count the models of the repository, and unload one at the end.
OTHERS = 9
MODELS = {"simple_http_model_control.py": 7, "simple_grpc_model_control.py": 8}


@pytest.fixture(scope="module")
def examples() -> Path:
    given = os.environ.get("NBMODEL_TRITON_CLIENT")
    if not given:
        pytest.skip("set NBMODEL_TRITON_CLIENT to a checkout of triton-inference-server/client")
    folder = Path(given) / "src" / "python" / "examples"
    assert folder.is_dir(), f"no examples in {folder}"
    return folder


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[int], Served]]:
    """A runtime with a number of models, those of the examples among them."""
    pytest.importorskip("onnx", reason="toy models are made with onnx")
    pytest.importorskip("tritonclient.grpc", reason="pip install 'nbmodel[triton]'")
    from tests.tools.example_models import ALL

    running: dict[int, Served] = {}
    with contextlib.ExitStack() as stack:

        def serve(count: int) -> Served:
            if count not in running:
                folder = tmp_path_factory.mktemp(f"examples{count}")
                running[count] = stack.enter_context(
                    serving(folder, ALL[:count], server_name="triton")
                )
            return running[count]

        yield serve


@pytest.mark.slow
def test_every_example_is_in_the_table(examples: Path) -> None:
    assert {path.name for path in examples.glob("*.py")} == set(SCRIPTS)


@pytest.mark.slow
@pytest.mark.parametrize("script", SCRIPTS)
def test_an_official_example_passes(
    script: str, examples: Path, served: Callable[[int], Served], tmp_path: Path
) -> None:
    if (why := SCRIPTS[script]) is not None:
        pytest.skip(why)
    runtime = served(MODELS.get(script, OTHERS))
    address = runtime.grpc if "grpc" in script else runtime.http
    done = subprocess.run(
        [sys.executable, str(examples / script), "-u", address],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
