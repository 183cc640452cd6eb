"""Where a session's model runs: a tritonserver of our own, or one that others started.

Every loaded model has a name of its own in Triton, so that nothing that serves is ever loaded
anew. Seen with Triton 2.51 in explicit mode, of a model whose version 1 is asked without pause
while version 2 comes: with ``version_policy`` specific 1 and 2 and a second load, no request
fails, but version 1 is loaded again too, beside itself; with 2 alone after that, so is version
2, and who asks for version 1 by number is refused at once. Each switch thus costs four loads
and, meanwhile, twice the memory of both. With two names it costs one load, and the old model
goes when its last request is answered.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from nbmodel.backends.owner import is_left, owner
from nbmodel.backends.triton_client import Client, Endpoint, GoneError, connect
from nbmodel.backends.triton_config import ENGINES, SINCE
from nbmodel.backends.triton_model import CONFIG, Content, TritonModel, to_json, to_pbtxt
from nbmodel.backends.triton_refusals import ROOM_HINT, meaning
from nbmodel.backends.triton_room import arrived, ballast, weight
from nbmodel.backends.triton_server import START_S, Program, TritonServer, acquire, release
from nbmodel.errors import (
    InferenceError,
    NbModelError,
    NoCompatibleBackendError,
    StorageUnavailableError,
    UnavailableError,
)

_VERSION = 1  # each model of ours has one, under a name of its own
_NO_BACKEND = "unable to find backend library"
_VERSION_WORDS = re.compile(r"(\d{1,5})\.(\d{1,5})")
_count = itertools.count(1)

logger = logging.getLogger(__name__)


class Host(ABC):
    """A Triton that takes models from us."""

    #: Whether it surely sees the shared memory of this process.
    is_here: bool

    @property
    @abstractmethod
    def trouble(self) -> str | None:
        """Why it cannot be asked just now, as far as that is known; None: it can."""

    @property
    def last_end(self) -> str:
        """How it ended last, as far as that is known; empty when it did not."""
        return ""

    @abstractmethod
    def client(self, timeout_s: float = 0.0) -> Client:
        """A client of it.

        Args:
            timeout_s: How long to wait for it where it is being started, in seconds.

        Raises:
            UnavailableError: It is not up.
            PluginError: It can never be.
        """

    @abstractmethod
    def check_backend(self, backend: str) -> None:
        """See to it that it can run what needs a backend; nothing is moved for that.

        Raises:
            NoCompatibleBackendError: It cannot; those that it has are named.
            UnavailableError: It cannot be asked.
        """

    def check_platform(self, platform: str) -> None:
        """See to it that it is new enough for a platform; nothing is moved for that.

        Raises:
            NoCompatibleBackendError: It is not.
            UnavailableError: It cannot be asked.
        """
        needed = SINCE.get(platform)
        if needed is None:
            return
        said = str(self.client(START_S).server().get("version", ""))
        found = _VERSION_WORDS.match(said)
        if found is not None and (int(found[1]), int(found[2])) < needed:
            raise NoCompatibleBackendError(
                f"platform {platform!r} came with Triton {needed[0]}.{needed[1]}, this one is of "
                f"version {said}",
                hint="use a newer Triton, or export the model to ONNX",
            )

    @abstractmethod
    def new_name(self, model: str) -> str:
        """A name in it that nothing has yet."""

    @abstractmethod
    def bring(self, name: str, model: TritonModel) -> None:
        """Have it load a model under a name.

        Raises:
            InferenceError: It refuses the model, or ended while it loaded it.
            UnavailableError: It was not reached: nothing says anything about the model.
            StorageUnavailableError: The disk does not take the model, or give it.
        """

    def take_away(self, name: str) -> None:
        """Have it let a model go; nothing where it is gone already."""
        try:
            self.client().unload(name)
        except NbModelError as exc:
            logger.info("%s is not unloaded: %s", name, exc)

    @abstractmethod
    def close(self) -> None:
        """Use it no more."""


class OwnHost(Host):
    """A tritonserver that this process starts and watches over; models come to it by links.

    Args:
        program: What is started.
    """

    is_here = True

    def __init__(self, program: Program) -> None:
        self._server: TritonServer = acquire(program)

    @property
    def trouble(self) -> str | None:
        """As ``Host.trouble``."""
        return self._server.trouble

    @property
    def last_end(self) -> str:
        """As ``Host.last_end``."""
        return self._server.last_end

    def client(self, timeout_s: float = 0.0) -> Client:
        """As ``Host.client``."""
        return self._server.client(timeout_s)

    def check_backend(self, backend: str) -> None:
        """As ``Host.check_backend``."""
        found = self._server.backends()
        if found is not None and backend and backend not in found:
            raise _lacking(backend, found, "the tritonserver of this machine")

    def new_name(self, model: str) -> str:
        """As ``Host.new_name``."""
        return f"{model}.{next(_count)}"

    def bring(self, name: str, model: TritonModel) -> None:
        """As ``Host.bring``."""
        folder = self._server.repository / name
        try:
            if not folder.is_dir():
                _lay_out(folder, model, to_pbtxt(model.configured(name, _VERSION)))
        except OSError as exc:
            shutil.rmtree(folder, ignore_errors=True)
            raise StorageUnavailableError(
                f"cannot write the model repository {folder}: {exc.strerror or exc}",
                hint="check free space and permissions of the folder",
            ) from exc
        client = self.client(START_S)
        with self._server.loading():
            _load(client, name)

    def take_away(self, name: str) -> None:
        """As ``Host.take_away``."""
        super().take_away(name)
        shutil.rmtree(self._server.repository / name, ignore_errors=True)

    def close(self) -> None:
        """As ``Host.close``."""
        release(self._server)


class OtherHost(Host):
    """A Triton that runs already, with explicit model control; models are sent to it.

    Args:
        endpoint: Where it listens.
    """

    def __init__(self, endpoint: Endpoint) -> None:
        self._client = connect(endpoint)
        self.is_here = endpoint.is_here

    @property
    def trouble(self) -> str | None:
        """As ``Host.trouble``."""
        return None

    def client(self, timeout_s: float = 0.0) -> Client:  # noqa: ARG002 # it is up or it is not
        """As ``Host.client``."""
        return self._client

    def check_backend(self, backend: str) -> None:
        """As ``Host.check_backend``."""
        if not backend or self._has(backend):
            return
        others = sorted({engine.backend for engine in ENGINES.values()} - {backend})
        found = frozenset(other for other in others if self._has(other))
        raise _lacking(backend, found, f"Triton at {self._client.endpoint}")

    def new_name(self, model: str) -> str:
        """As ``Host.new_name``."""
        return f"{model}.{owner()}.{next(_count)}"

    def bring(self, name: str, model: TritonModel) -> None:
        """As ``Host.bring``."""
        self.tidy()
        files = {f"{_VERSION}/{path}": content for path, content in model.files.items()}
        try:
            sent = {path: _bytes(content) for path, content in {**files, **model.beside}.items()}
        except OSError as exc:
            raise StorageUnavailableError(
                f"cannot read the files of {name}: {exc.strerror or exc}"
            ) from exc
        self.send(name, to_json(model.configured(name, _VERSION)), sent)

    def send(self, name: str, config: str, files: Mapping[str, bytes]) -> None:
        """Have it load what is sent to it.

        Args:
            name: Of the model.
            config: Its configuration, as JSON.
            files: Path in the model's folder, ``1/model.onnx``, → content.

        Raises:
            InferenceError, UnavailableError, StorageUnavailableError: As ``Host.bring``.
        """
        try:
            _load(self._client, name, config, files)
        except InferenceError as exc:
            if isinstance(exc, UnavailableError):
                raise
            size = sum(map(len, files.values()))
            sent = ballast(size)
            come = self._arrived(sent)
            if come is None:
                raise
            raise StorageUnavailableError(
                f"Triton at {self._client.endpoint} has no room for a model of {size:,} bytes: of "
                f"{sent:,} that were sent to find out, {come:,} have arrived",
                hint=ROOM_HINT,
            ) from exc

    def take_away(self, name: str) -> None:
        """As ``Host.take_away``."""
        super().take_away(name)
        self.tidy()

    def tidy(self) -> None:
        """Have it let go of what processes of this machine that are gone have left there."""
        with contextlib.suppress(NbModelError):
            for name in self._client.models():
                if is_left(name):
                    self._client.unload(name)

    def close(self) -> None:
        """As ``Host.close``."""
        self._client.close()

    def _arrived(self, sent: int) -> int | None:
        """How many of that many bytes arrive on its disk, where not all do; else None."""
        name = self.new_name("nbmodel-asks-for-room")
        config, files = weight(sent)
        config["name"] = name
        named = {f"{_VERSION}/{path}": content for path, content in files.items()}
        try:
            self._client.load(name, to_json(config), named)
        except UnavailableError:
            return None
        except InferenceError as exc:
            return arrived(str(exc), sent)
        finally:
            super().take_away(name)
        return None

    def _has(self, backend: str) -> bool:
        """Whether it has a backend: what it says to a model of that which is none."""
        engine = next((one for one in ENGINES.values() if one.backend == backend), None)
        file = engine.file if engine is not None else "model"
        name = self.new_name(f"nbmodel-asks-for-{backend}")
        tensor = {"data_type": "TYPE_FP32", "dims": [1]}
        config = {
            "name": name,
            "backend": backend,
            "input": [{"name": "x", **tensor}],
            "output": [{"name": "y", **tensor}],
        }
        if engine is not None and engine.platform:
            config["platform"] = engine.platform
        inner = f"{file}/saved_model.pb" if file.endswith(".savedmodel") else file
        files = {f"{_VERSION}/{inner}": b"raise ValueError('this is no model')\n"}
        try:
            self._client.load(name, to_json(config), files)
        except UnavailableError:
            raise
        except InferenceError as exc:
            return _NO_BACKEND not in str(exc)
        finally:
            super().take_away(name)
        return True


def _load(
    client: Client, name: str, config: str = "", files: Mapping[str, bytes] | None = None
) -> None:
    """Have a Triton load a model; raises as ``Host.bring``."""
    try:
        client.load(name, config, files)
    except GoneError:
        raise
    except UnavailableError as exc:
        raise InferenceError(
            f"Triton ended, or did not answer, while it loaded it: {exc}",
            hint="its log may say more; a model can take its server down",
        ) from exc
    except InferenceError as exc:
        raise meaning(exc) from exc


def _lacking(backend: str, found: frozenset[str], which: str) -> NoCompatibleBackendError:
    return NoCompatibleBackendError(
        f"{which} has no backend {backend!r}, it has {', '.join(sorted(found)) or 'none'}",
        hint="install that backend, or give another Triton",
    )


def _lay_out(folder: Path, model: TritonModel, config: str) -> None:
    """Make the folder of a model, complete or not at all; files are linked."""
    temporary = folder.with_name(f".{folder.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    inside: Mapping[str, Content] = {
        **model.beside,
        **{f"{_VERSION}/{path}": content for path, content in model.files.items()},
        CONFIG: config.encode(),
    }
    for path, content in inside.items():
        target = temporary / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            target.write_bytes(content)
        else:
            target.symlink_to(content.resolve(strict=True))
    temporary.rename(folder)


def _bytes(content: Content) -> bytes:
    return content if isinstance(content, bytes) else content.read_bytes()
