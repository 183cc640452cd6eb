"""Run versions of the registry on this machine, without a runtime."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from nbmodel.backends import Session, open_session
from nbmodel.convert import Converted
from nbmodel.core.signature import Signature
from nbmodel.core.version import Version
from nbmodel.errors import FormatError
from nbmodel.formats import model_file
from nbmodel.golden import GoldenSample
from nbmodel.inputs import inputs_for
from nbmodel.protocol.coerce import coerce
from nbmodel.registry import Registry
from nbmodel.source import Source, read_source

if TYPE_CHECKING:
    from numpy.typing import NDArray

SESSIONS_KEPT = 4  # loaded models; the one used longest ago goes first


def answered(source: Source, inputs: Sequence[object]) -> GoldenSample:
    """The golden sample of a model file that is about to be uploaded: its own answers.

    Args:
        source: What is uploaded.
        inputs: As ``inputs_for`` takes them.

    Raises:
        PluginError: The backend's extra is not installed.
        InferenceError, SignatureError: The engine refused the model or the inputs.
    """
    path = source.files[source.model_path]
    if not isinstance(path, Path):
        raise FormatError(f"{source.model_path} is not a file")
    request = inputs_for(source.signature, inputs)
    session = open_session(path, source.facts.framework)
    try:
        tensors = coerce(source.signature, request.tensors)
        return GoldenSample(tensors, session.infer(tensors))
    finally:
        session.close()


def signature_of(converted: Converted) -> Signature:
    """What the files of a conversion say about their tensors."""
    with TemporaryDirectory(prefix="nbmodel-") as folder:
        for name, content in converted.files.items():
            Path(folder, name).write_bytes(content)
        return read_source([folder]).signature


class LocalModels:
    """Loaded versions, the last few used.

    Args:
        registry: Where the versions are.
    """

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._lock = threading.Lock()
        self._loaded: OrderedDict[str, tuple[Session, TemporaryDirectory[str]]] = OrderedDict()

    def of(
        self, version: Version
    ) -> Callable[[Mapping[str, NDArray[Any]]], dict[str, NDArray[Any]]]:
        """The function that runs a version on named arrays.

        Raises:
            PluginError: The backend's extra is not installed.
            InferenceError: The engine refused the model.
        """
        return self._session(version).infer

    def close(self) -> None:
        """Free every loaded model."""
        with self._lock:
            while self._loaded:
                self._drop_oldest()

    def _session(self, version: Version) -> Session:
        with self._lock:
            if version.digest in self._loaded:
                self._loaded.move_to_end(version.digest)
                return self._loaded[version.digest][0]
            # A folder of its own: engines look for further files beside the model.
            folder = TemporaryDirectory(prefix="nbmodel-")
            self._registry.extract(version.reference, Path(folder.name))
            session = open_session(Path(folder.name) / model_file(version.manifest), version.framework)
            self._loaded[version.digest] = (session, folder)
            if len(self._loaded) > SESSIONS_KEPT:
                self._drop_oldest()
            return session

    def _drop_oldest(self) -> None:
        _, (session, folder) = self._loaded.popitem(last=False)
        session.close()
        folder.cleanup()
