"""What a model answers to inputs that a person has at hand, here or on a runtime."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

from nbmodel.display import InferenceResult
from nbmodel.errors import InputError
from nbmodel.inputs import draw_rows, inputs_for
from nbmodel.protocol.coerce import coerce

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nbmodel.core.signature import Signature
    from nbmodel.core.version import Version
    from nbmodel.fleet.kinds import Runtime

#: Runs a model: arrays by input name → arrays by output name.
Run: TypeAlias = "Callable[[Mapping[str, NDArray[Any]]], Mapping[str, NDArray[Any]]]"


def ask_there(
    remote: Runtime,
    service: str,
    inputs: Sequence[object],
    *,
    threshold: float | None = None,
    image: tuple[int, int] | None = None,
) -> InferenceResult:
    """What a service of a runtime answers; the rest is as for ``Client.infer``.

    Raises:
        TargetError: It has no such service.
        InputError: A vision service is shown anything but one picture.
        SignatureError: The inputs are not what the model takes.
        InferenceError: The runtime refused.
    """
    sees = remote.sees(service)
    if sees is not None:
        return _seen(remote, service, sees, inputs, threshold)
    served = remote.served(service)
    return _ask(
        partial(remote.infer, service),
        served.signature,
        inputs,
        target=f"{service}@{remote.name}",
        model_type=served.model_type,
        number=f"version {served.version}",
        threshold=threshold,
        image=image,
    )


def ask_here(
    version: Version,
    run: Run,
    inputs: Sequence[object],
    *,
    threshold: float | None = None,
    image: tuple[int, int] | None = None,
) -> InferenceResult:
    """What a version answers that is loaded here; the rest is as for ``Client.infer``.

    Raises:
        SignatureError: The inputs are not what the model takes.
        InferenceError: The engine refused.
    """
    result = _ask(
        run,
        version.signature,
        inputs,
        target=version.reference,
        model_type=version.model_type,
        number="",
        threshold=threshold,
        image=image,
    )
    return result.with_notes([f"deprecated: {version.deprecated}"] if version.deprecated else [])


def _ask(
    run: Run,
    signature: Signature,
    inputs: Sequence[object],
    *,
    target: str,
    model_type: str | None,
    number: str,
    threshold: float | None,
    image: tuple[int, int] | None,
) -> InferenceResult:
    request = inputs_for(signature, inputs)
    if image is not None:
        request = draw_rows(request, image)
    tensors = coerce(signature, request.tensors)
    began = time.perf_counter()
    outputs = run(tensors)
    latency_ms = (time.perf_counter() - began) * 1000
    return InferenceResult(
        outputs=dict(outputs),
        signature=signature,
        target=target,
        model_type=model_type,
        version=number,
        latency_ms=latency_ms,
        images=request.images,
        threshold=threshold,
    )


def _seen(
    remote: Runtime,
    service: str,
    sees: str,
    inputs: Sequence[object],
    threshold: float | None,
) -> InferenceResult:
    """What a vision service finds in a picture."""
    from nbmodel.display.seen import SeenResult
    from nbmodel.vision.draw import encode_png
    from nbmodel.vision.image import load_image

    if len(inputs) != 1:
        raise InputError(
            f"vision service {service!r} looks at one picture at a time, found {len(inputs)} inputs"
        )
    picture = load_image(inputs[0])  # type: ignore[arg-type] # refused there
    began = time.perf_counter()
    found = remote.look(service, encode_png(picture), sees)
    return SeenResult.of(
        found,
        sees,
        picture,
        target=f"{service}@{remote.name}",
        latency_ms=(time.perf_counter() - began) * 1000,
        threshold=0.0 if threshold is None else threshold,
    )
