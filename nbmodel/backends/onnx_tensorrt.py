"""What TensorRT needs before it takes a model: sizes, a place for engines, and patience."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nbmodel.backends.base import Known
from nbmodel.backends.cuda import read_tensorrt
from nbmodel.backends.engine_cache import (
    cache_options,
    engine_key,
    engines_in,
    files_digest,
    is_whole,
    prepare,
    seal,
    sweep,
)
from nbmodel.backends.onnx_lacks import Here
from nbmodel.backends.onnx_profile import ROWS, Profile, has_shapes, profile_of
from nbmodel.backends.onnx_providers import Provider
from nbmodel.errors import FormatError, InferenceError
from nbmodel.formats import read_model
from nbmodel.golden import read_sample

logger = logging.getLogger(__name__)

TELL_S = 5.0  # between two words about how far building is


@dataclass(frozen=True, slots=True)
class Prepared:
    """The TensorRT provider for one model.

    Attributes:
        provider: With sizes and places among its options.
        profile: The sizes that the engine takes.
        folder: Where its engines lie; None: nobody keeps them, or the service says where.
    """

    provider: Provider
    profile: Profile
    folder: Path | None = None


def prepare_tensorrt(
    provider: Provider,
    attributes: Mapping[str, Any],
    known: Known,
    here: Here,
    device_id: int,
    *,
    version: Callable[[], str | None] = read_tensorrt,
) -> Prepared:
    """The TensorRT provider for one model; the folder of its engines is made.

    Args:
        provider: As the service asks for it.
        attributes: Of the service.
        known: What is known of the model.
        here: What there is on this machine; its driver has the GPU.
        device_id: Number of the GPU.
        version: Says which TensorRT there is, or None.

    Raises:
        InferenceError: The file is damaged, or the sizes to build for cannot be known.
        OSError: The disk does not take the folder.
    """
    path = Path(attributes["model_path"])
    try:
        facts, profile = read_model(path), Profile()
    except FormatError as exc:
        raise InferenceError(f"onnx_gpu cannot load {path.name}: {exc}", hint=exc.hint) from exc
    if not has_shapes(provider.options):
        rows = attributes.get("max_batch_size") or ROWS
        profile = profile_of(facts.signature, sample_shapes(known), rows=rows)
        provider = provider.with_defaults(profile.options())
    tensorrt = version()
    is_placed = any(name.startswith("trt_engine_cache") for name in provider.options)
    if known.engines is None or here.driver is None or tensorrt is None or is_placed:
        return Prepared(provider, profile)
    files = [("", path), *((name, path.parent / name) for name in facts.external)]
    key = engine_key(
        here.driver.gpus[device_id],
        tensorrt=tensorrt,
        onnxruntime=here.version,
        model=files_digest(files),
        options=provider.options,
    )
    folder = prepare(known.engines, key)
    sweep(known.engines)
    return Prepared(provider.with_defaults(cache_options(folder)), profile, folder)


def sample_shapes(known: Known) -> Mapping[str, Sequence[int]]:
    """Shapes that a model is known to take, as far as its version tells."""
    if known.sample is not None:
        return {name: one.shape for name, one in read_sample(known.sample).inputs.items()}
    tensors = () if known.signature is None else known.signature.inputs
    return {one.name: one.shape for one in tensors if one.shape and -1 not in one.shape[1:]}


@contextmanager
def told(
    folder: Path | None, tell: Callable[[str], None], *, every_s: float = TELL_S
) -> Iterator[None]:
    """Tell from time to time how far building engines is; ONNX Runtime itself does not.

    Args:
        folder: Where they lie; None: nobody keeps them.
        tell: Called with a few words, now and from a thread.
        every_s: Seconds between two words.
    """
    words, over = _Words(folder), threading.Event()

    def go_on() -> None:
        while not over.wait(every_s):
            tell(words.now())

    tell(words.now())
    thread = threading.Thread(target=go_on, name="nbmodel-engines")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def keep(folder: Path | None) -> None:
    """Have the engines of a model that was loaded found again; a full disk may prevent that."""
    if folder is None or is_whole(folder):
        return
    try:
        seal(folder)
    except OSError as exc:
        logger.warning("TensorRT's engines in %s are built again next time: %s", folder, exc)


class _Words:
    """How far building engines is: how many are there, and since when it goes on."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._were_there = self._count() > 0

    def now(self) -> str:
        if self._were_there:
            return "loading TensorRT's engines"
        seconds, done = time.monotonic() - self._began, self._count()
        ready = f", {done} done" if done else ""
        return f"building TensorRT's engines, once on this device{ready}, {seconds:.0f} s so far"

    def _count(self) -> int:
        return 0 if self._folder is None else engines_in(self._folder)
