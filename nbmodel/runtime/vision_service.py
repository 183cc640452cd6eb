"""A vision service: pictures in, what is in them out, over a model service of this runtime.

Source: viamrobotics/rdk ``services/vision/mlvision/ml_model.go`` and
``services/vision/vision_service_builder.go`` for what is probed, and for error texts.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from numpy.typing import NDArray
from PIL import Image

from nbmodel.core.signature import Signature, describe
from nbmodel.core.version import now
from nbmodel.core.vision_config import VisionConfig
from nbmodel.errors import (
    InferenceError,
    NbModelError,
    SignatureError,
    UnavailableError,
    UnsupportedError,
)
from nbmodel.protocol.inference import InferRequest, InferResponse
from nbmodel.vision.viam.classifications import Classification, classifications, top
from nbmodel.vision.viam.detections import BoxNotes, Detection, detections
from nbmodel.vision.viam.preprocess import PictureInput

# Of the gray picture that a model is tried on; the model's own size is taken where it has
# one. Viam's 5 pixels a side are too few for a network that takes any size.
PROBE_SIZE = (320, 320)
_TRIES = 3  # of a call while the model service switches versions

_T = TypeVar("_T")

#: Runs a request; the second is when to give up waiting, as ``time.monotonic()`` counts.
Infer = Callable[[InferRequest, "float | None"], InferResponse]
#: Gives the outputs of a request that nobody sent, which does not count as one.
TryOut = Callable[[InferRequest], Mapping[str, NDArray[Any]]]


@dataclass(frozen=True, slots=True)
class Served:
    """What a model service runs at one moment.

    Attributes:
        model: Tells one loaded version from another.
        signature: What it takes and gives.
        metadata: Of its version, or of its file.
    """

    model: object
    signature: Signature
    metadata: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class VisionProperties:
    """What a vision service can do.

    Attributes:
        classifications_supported: Whether its model is a classifier.
        detections_supported: Whether its model is a detector.
        default_camera: The camera of clients who name none, or None.
    """

    classifications_supported: bool
    detections_supported: bool
    default_camera: str | None


@dataclass(frozen=True, slots=True)
class _Fitted:
    """How the service uses one loaded version of its model.

    Attributes:
        served: That version.
        picture: The input that takes the picture.
        labels: Names of classes.
        notes: What the model says about its boxes.
        not_classifier: Why it is no classifier; None when it is one.
        not_detector: Why it is no detector; None when it is one.
        since: When it was tried, RFC 3339.
    """

    served: Served
    picture: PictureInput
    labels: tuple[str, ...]
    notes: BoxNotes
    not_classifier: NbModelError | None = None
    not_detector: NbModelError | None = None
    since: str = ""


class VisionService:
    """One vision service of the machine config. Its methods may be called by any thread.

    It follows the versions of its model service by itself: a version that it has not seen
    is tried on a gray picture before the first answer.

    Args:
        name: Of the service.
        config: Its attributes.
        labels: Of ``label_path``; empty: those of the model.
        infer: Runs a request on the model service, however long that waits.
        try_out: Runs a request of the service's own.
        served: What the model service runs now; raises why it runs nothing.
    """

    def __init__(
        self,
        name: str,
        config: VisionConfig,
        labels: tuple[str, ...],
        *,
        infer: Infer,
        try_out: TryOut,
        served: Callable[[], Served],
    ) -> None:
        self.name = name
        self.config = config
        self.labels = labels
        self._infer = infer
        self._try_out = try_out
        self._served = served
        self._lock = threading.Lock()
        self._fitted: _Fitted | None = None
        self._unfit: tuple[object, InferenceError] | None = None
        self._counting = threading.Lock()
        self._calls = 0

    @property
    def is_ready(self) -> bool:
        """Whether the version that the model service runs now was tried and fits."""
        fitted = self._fitted
        try:
            return fitted is not None and fitted.served.model == self._served().model
        except UnavailableError:
            return False

    @property
    def since(self) -> str | None:
        """Since when it uses the version that it uses, or None while it uses none."""
        fitted = self._fitted
        return None if fitted is None else fitted.since

    @property
    def calls(self) -> int:
        """How many pictures it looked at."""
        return self._calls

    @property
    def abilities(self) -> tuple[bool, bool]:
        """Whether it classifies, and whether it detects, with the version that it uses."""
        fitted = self._fitted
        if fitted is None:
            return False, False
        return fitted.not_classifier is None, fitted.not_detector is None

    def detections(
        self, image: Image.Image, *, deadline: float | None = None
    ) -> tuple[Detection, ...]:
        """The objects in a picture.

        Args:
            image: Of any mode and size; an orientation mark is not followed.
            deadline: When to give up waiting, as ``time.monotonic()`` counts; None: never.

        Raises:
            UnsupportedError: The model is no detector.
            UnavailableError: The model service runs nothing, or is too busy.
            InputError: The picture is too large.
            InferenceError: The model cannot be used for vision, or fails.
        """

        def look(fitted: _Fitted) -> tuple[Detection, ...]:
            if fitted.not_detector is not None:
                raise UnsupportedError(
                    f'vision model "{self.name}" does not implement a Detector',
                    hint=str(fitted.not_detector),
                )
            return self._boxes(fitted, self._outputs(fitted, image, deadline), image)

        return self._with_model(look, deadline)

    def classifications(
        self, image: Image.Image, count: int, *, deadline: float | None = None
    ) -> tuple[Classification, ...]:
        """The best classes of a picture, best first.

        Args:
            image: As in ``detections``.
            count: How many; 0 or less: all, in the model's order.
            deadline: As in ``detections``.

        Raises:
            UnsupportedError: The model is no classifier.
            UnavailableError, InputError, InferenceError: As ``detections``.
        """

        def look(fitted: _Fitted) -> tuple[Classification, ...]:
            if fitted.not_classifier is not None:
                raise UnsupportedError(
                    f'vision model "{self.name}" does not implement a Classifier',
                    hint=str(fitted.not_classifier),
                )
            return self._classes(fitted, self._outputs(fitted, image, deadline))

        return top(self._with_model(look, deadline), count)

    def properties(self) -> VisionProperties:
        """What it can do with the version that its model service runs now.

        Raises:
            UnavailableError: The model service runs nothing.
            InferenceError: The model cannot be used for vision.
        """
        fitted = self.fit()
        return VisionProperties(
            classifications_supported=fitted.not_classifier is None,
            detections_supported=fitted.not_detector is None,
            default_camera=self.config.camera or None,
        )

    def fit(self, *, retry: bool = False, deadline: float | None = None) -> _Fitted:
        """Try the version that the model service runs now, unless that was done.

        Args:
            retry: Whether to try again a version that did not fit.
            deadline: When to give up waiting for another thread that tries it, as
                ``time.monotonic()`` counts; None: never.

        Raises:
            UnavailableError: The model service runs nothing, or is too busy.
            InferenceError: It cannot be used for vision; the message says why, and has the
                model's tensors.
        """
        fitted = self._fitted
        if fitted is not None and fitted.served.model == self._served().model:
            return fitted
        with self._alone(deadline):
            served, fitted, unfit = self._served(), self._fitted, self._unfit
            if fitted is not None and fitted.served.model == served.model:
                return fitted
            if unfit is not None and unfit[0] == served.model and not retry:
                raise InferenceError(str(unfit[1]), hint=unfit[1].hint)
            self._fitted = self._unfit = None
            try:
                self._fitted = fitted = self._probe(served)
            except UnavailableError:
                raise
            except InferenceError as exc:
                self._unfit = (served.model, exc)
                raise
            return fitted

    @contextmanager
    def _alone(self, deadline: float | None) -> Iterator[None]:
        """One thread at a time tries a version."""
        left = threading.TIMEOUT_MAX if deadline is None else deadline - time.monotonic()
        if not self._lock.acquire(timeout=min(max(left, 0.0), threading.TIMEOUT_MAX)):
            raise UnavailableError(f"model {self.config.model!r} is still being tried out")
        try:
            yield
        finally:
            self._lock.release()

    def _probe(self, served: Served) -> _Fitted:
        try:
            picture = PictureInput.of(served.signature, self.config)
        except SignatureError as exc:
            raise self._misfit(served, str(exc), exc.hint) from exc
        fitted = _Fitted(
            served=served,
            picture=picture,
            labels=self.labels or served.signature.labels,
            notes=BoxNotes.of(served.metadata),
        )
        gray = Image.new("L", PROBE_SIZE)
        try:
            outputs = self._try_out(self._request(fitted, gray))
        except UnavailableError:
            raise  # says nothing about the model
        except NbModelError as exc:
            raise self._misfit(
                served, f"it cannot be run on a gray image: {exc}", exc.hint
            ) from exc
        not_classifier = _refusal(lambda: self._classes(fitted, outputs))
        not_detector = _refusal(lambda: self._boxes(fitted, outputs, gray))
        if not_classifier is not None and not_detector is not None:
            raise self._misfit(
                served,
                f"cannot use model as a classifier: {not_classifier}; "
                f"cannot use model as a detector: {not_detector}",
                not_classifier.hint or not_detector.hint,
            )
        return replace(
            fitted, not_classifier=not_classifier, not_detector=not_detector, since=now()
        )

    def _misfit(self, served: Served, why: str, hint: str | None) -> InferenceError:
        signature = served.signature
        takes = ", ".join(describe(tensor) for tensor in signature.inputs) or "nothing"
        gives = ", ".join(describe(tensor) for tensor in signature.outputs) or "nothing"
        return InferenceError(
            f'model "{self.config.model}" does not fulfill any method of the vision service: '
            f"{why}; the model takes {takes} and gives {gives}",
            hint=hint,
        )

    def _with_model(self, look: Callable[[_Fitted], _T], deadline: float | None) -> _T:
        """What ``look`` finds, done again when the model was switched under it."""
        with self._counting:
            self._calls += 1
        for tries_left in reversed(range(_TRIES)):
            fitted = self.fit(deadline=deadline)
            try:
                found = look(fitted)
            except SignatureError:
                if tries_left and self._served().model != fitted.served.model:
                    continue
                raise
            if not tries_left or self._served().model == fitted.served.model:
                return found
        raise UnavailableError(f"model service {self.config.model!r} switches versions too often")

    def _boxes(
        self, fitted: _Fitted, outputs: Mapping[str, NDArray[Any]], image: Image.Image
    ) -> tuple[Detection, ...]:
        return detections(
            outputs,
            fitted.served.signature,
            self.config,
            fitted.labels,
            notes=fitted.notes,
            image_size=image.size,
            input_size=fitted.picture.size(image.size),
        )

    def _classes(
        self, fitted: _Fitted, outputs: Mapping[str, NDArray[Any]]
    ) -> tuple[Classification, ...]:
        return classifications(outputs, fitted.served.signature, self.config, fitted.labels)

    def _outputs(
        self, fitted: _Fitted, image: Image.Image, deadline: float | None
    ) -> Mapping[str, NDArray[Any]]:
        return self._infer(self._request(fitted, image), deadline).outputs

    def _request(self, fitted: _Fitted, image: Image.Image) -> InferRequest:
        return InferRequest(
            model=self.config.model,
            inputs={fitted.picture.name: fitted.picture.tensor(image)},
        )


def _refusal(look: Callable[[], object]) -> NbModelError | None:
    try:
        look()
    except NbModelError as exc:
        return exc
    return None
