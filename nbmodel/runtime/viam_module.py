"""A Viam module: our backends as model services of a viam-server.

viam-server starts the module with the path of a unix socket, asks it what it can make, and
then tells it which services the machine's config has. Each of our backends is a model
there, ``nbmodel:mlmodel:onnx_cpu``; what viam-server asks for becomes the config of a
runtime inside the module, so instances, batching and limits are those of any runtime. A
service that is reconfigured runs its old model until the new one is loaded.

The SDK's own server speaks to viam-server. Only inference is taken out of its hands: its
messages make a Python float of every number in a tensor.

Source: viamrobotics/api ``module/v1/module.proto``; ``viam.module.Module`` of the Python SDK.
"""

from __future__ import annotations

import asyncio
import logging
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from google.protobuf import json_format

from nbmodel.backends.table import BACKENDS, OWN_MODELS, load_backend
from nbmodel.core.digest import digest_of
from nbmodel.core.labels import format_labels
from nbmodel.core.machine import MLMODEL_API
from nbmodel.errors import ConfigError, InferenceError, NbModelError
from nbmodel.plugins import require
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.protocol.viam import decode_infer_request, encode_infer_response
from nbmodel.runtime.edge import EdgeRuntime
from nbmodel.runtime.viam_calls import from_struct
from nbmodel.runtime.viam_mlmodel import describe_model, describe_status, prepare
from nbmodel.storage.atomic import write_atomically

LOAD_TIMEOUT_S = 110.0  # viam-server gives a resource two minutes to come up


class ModuleModels:
    """The model services of a module, run by a runtime of its own.

    Args:
        home: An empty folder for the runtime.
    """

    def __init__(self, home: Path) -> None:
        self.runtime = EdgeRuntime(home / "runtime", name="viam-module", environment={})
        self._labels = home / "labels"
        self._entries: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def put(self, name: str, model: str, attributes: Mapping[str, Any]) -> None:
        """Serve a model under a name, instead of what is served there.

        Args:
            name: Of the service.
            model: The backend, as the machine's config has it.
            attributes: Of the service, without placeholders: viam-server replaces them.

        Raises:
            ConfigError: The attributes are wrong; all problems are listed.
            InferenceError: The model cannot be loaded. Nothing is served under a name
                that is taken for the first time; else the former model is.
        """
        entry = {"name": name, "api": MLMODEL_API, "model": model, "attributes": dict(attributes)}
        with self._lock:
            former = self._entries.get(name)
            self._follow({**self._entries, name: entry})
            why = self._why_not(name)
            if why is not None:
                kept = {other: one for other, one in self._entries.items() if other != name}
                self._follow(kept if former is None else {**kept, name: former})
                raise InferenceError(f"service {name!r} cannot be served: {why}")

    def remove(self, name: str) -> None:
        """Serve nothing under a name any more; calls under way finish."""
        with self._lock:
            self._follow({other: one for other, one in self._entries.items() if other != name})

    async def infer(self, request: InferRequest, timeout: float | None) -> InferResponse:
        """Run a model without holding up the event loop.

        Args:
            request: What to run.
            timeout: Seconds; None: for ever.

        Raises:
            NbModelError: As ``EdgeRuntime.infer``.
        """
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[InferResponse | NbModelError] = loop.create_future()

        def settle(answer: InferResponse | NbModelError) -> None:
            if not answered.done():
                answered.set_result(answer)

        def done(answer: InferResponse | NbModelError) -> None:
            loop.call_soon_threadsafe(settle, answer)

        pending = self.runtime.submit(
            request,
            done,
            deadline=None if timeout is None else time.monotonic() + timeout,
        )
        try:
            answer = await answered
        except asyncio.CancelledError:
            pending.cancel()
            raise
        if isinstance(answer, InferResponse):
            return answer
        raise answer

    def label_file(self, labels: Sequence[str]) -> str:
        """The path of a file with these labels; empty when they cannot be lines of one.

        The vision service of the viam-server on this machine reads labels from files only,
        and a model may carry them within itself.
        """
        try:
            content = format_labels(labels)
        except NbModelError:
            return ""
        path = self._labels / digest_of(content).rpartition(":")[2] / "labels.txt"
        if not path.exists():
            write_atomically(path, content)
        return str(path)

    def close(self) -> None:
        """Stop; calls under way finish."""
        self.runtime.close()

    def _follow(self, entries: dict[str, dict[str, Any]]) -> None:
        self.runtime.set_config({"services": list(entries.values())}, if_match=None)
        self._entries = entries
        self.runtime.wait_settled(LOAD_TIMEOUT_S)

    def _why_not(self, name: str) -> str | None:
        """Why a service does not run what its config says, or None when it does."""
        for told in self.runtime.status()["services"]:
            if told["name"] == name and (told["state"] != "ready" or told["error"]):
                return str(told["error"] or "it takes too long to load")
        return None


def check(model: str, attributes: Mapping[str, Any]) -> None:
    """Refuse the attributes of a service before anything is loaded.

    Raises:
        ConfigError: They are wrong; all problems are listed.
        PluginError: There is no such backend.
    """
    problems = load_backend(model).check(attributes)
    if problems:
        raise ConfigError("; ".join(problems), problems=problems)


def serve_module(address: str, *, log_level: int = logging.INFO, tcp: bool = False) -> None:
    """Run a module until viam-server ends it.

    Args:
        address: Path of the unix socket to listen on; with ``tcp``, ``host:port``.
        log_level: Of ``logging``.
        tcp: Whether to listen on TCP, as where there are no unix sockets.

    Raises:
        PluginError: Viam's SDK is not installed.
    """
    require("a Viam module", "viam", extra="viam")
    with tempfile.TemporaryDirectory(prefix="nbmodel-module-") as home:
        models = ModuleModels(Path(home))
        try:
            asyncio.run(_serve(models, address, log_level, tcp=tcp))
        finally:
            models.close()


async def _serve(models: ModuleModels, address: str, log_level: int, *, tcp: bool) -> None:
    await _module(models, address, log_level, tcp=tcp).start()


def _module(models: ModuleModels, address: str, log_level: int, *, tcp: bool) -> Any:
    """The SDK's module, over our models. Everything that names the SDK is in here."""
    from grpclib.const import Cardinality, Handler, Status
    from grpclib.exceptions import GRPCError
    from viam.module import Module
    from viam.proto.service.mlmodel import Metadata
    from viam.resource.registry import Registry, ResourceCreatorRegistration
    from viam.resource.types import Model
    from viam.services.mlmodel import MLModel
    from viam.services.mlmodel.service import MLModelRPCService

    from nbmodel.runtime.grpc_status import details_of, status_of

    def refused(error: NbModelError) -> GRPCError:
        number, _word = status_of(error).value
        return GRPCError(Status(number), details_of(error))

    class Served(MLModel):
        """One service, as the SDK wants it."""

        async def infer(
            self,
            input_tensors: Mapping[str, Any],
            *,
            timeout: float | None = None,
            **_others: Any,
        ) -> dict[str, Any]:
            request = prepare(models.runtime, self.name, input_tensors)
            answer = await models.infer(request, timeout)
            return dict(answer.outputs)

        async def metadata(self, **_others: Any) -> Metadata:
            answer = Metadata()
            try:
                told = describe_model(models.runtime, self.name, labels=models.label_file)
                json_format.ParseDict(told, answer)
            except NbModelError as exc:
                raise refused(exc) from exc
            return answer

        async def get_status(self, **_others: Any) -> Mapping[str, Any]:
            try:
                return describe_status(models.runtime, self.name)
            except NbModelError as exc:
                raise refused(exc) from exc

        async def close(self) -> None:
            await asyncio.to_thread(models.remove, self.name)

    class Fast(MLModelRPCService):
        """The SDK's service, but for the messages with tensors in them."""

        def __mapping__(self) -> dict[str, Handler]:
            mapping = super().__mapping__()
            for path in [path for path in mapping if path.endswith("/Infer")]:
                mapping[path] = Handler(self.Infer, Cardinality.UNARY_UNARY, Uncoded, Uncoded)
            return mapping

        async def Infer(self, stream: Any) -> None:  # noqa: N802 # the SDK's name
            data = (await stream.recv_message()).data
            timeout = stream.deadline.time_remaining() if stream.deadline else None
            try:
                request = decode_infer_request(data)
                served = self.get_resource(request.name)
                answer = encode_infer_response(await served.infer(request.inputs, timeout=timeout))
            except NbModelError as exc:
                raise refused(exc) from exc
            await stream.send_message(Uncoded(answer))

    class OurModule(Module):
        """The SDK's module, which loads models beside its event loop."""

        async def add_resource(self, request: Any, *, deadline: Any = None) -> None:
            if MLModel.get_resource_name(request.config.name) not in self.server.resources:
                await self._put(request.config)
            await super().add_resource(request, deadline=deadline)

        async def reconfigure_resource(self, request: Any) -> None:
            await self._put(request.config)

        async def _put(self, config: Any) -> None:
            attributes = from_struct(config.attributes)
            try:
                await asyncio.to_thread(models.put, config.name, config.model, attributes)
            except NbModelError as exc:
                raise refused(exc) from exc

    def validate(config: Any) -> tuple[Sequence[str], Sequence[str]]:
        check(config.model, from_struct(config.attributes))
        return [], []

    Registry.lookup_api(MLModel.API).rpc_service = Fast
    for name in BACKENDS.names():
        Registry.register_resource_creator(
            MLModel.API,
            Model.from_string(f"{OWN_MODELS}{name}"),
            ResourceCreatorRegistration(lambda config, _: Served(config.name), validate),
        )
    return OurModule(address, log_level=log_level, tcp_mode=tcp)


class Uncoded:
    """A message as bytes, where the SDK expects one of protobuf's."""

    def __init__(self, data: bytes) -> None:
        self.data = data

    @classmethod
    def FromString(cls, data: bytes) -> Uncoded:  # noqa: N802 # protobuf's name
        """The message of these bytes."""
        return cls(data)

    def SerializeToString(self) -> bytes:  # noqa: N802 # protobuf's name
        """Its bytes."""
        return self.data
