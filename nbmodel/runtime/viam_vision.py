"""Viam's vision service: detections and classifications of pictures that clients send.

A runtime has no cameras, so whatever takes its picture from one is refused with a
sentence, as is everything in three dimensions.

Source: viamrobotics/api ``service/vision/v1/vision.proto``; ``viam/media/video.py`` of the
Python SDK for raw RGBA pictures.
"""

from __future__ import annotations

import struct
from dataclasses import asdict
from typing import TYPE_CHECKING

from nbmodel.errors import InputError, TargetError, UnsupportedError
from nbmodel.protocol.messages import message, parse
from nbmodel.runtime.grpc_calls import Call, Method, Service
from nbmodel.runtime.viam_calls import do_command, encode, encode_result

if TYPE_CHECKING:
    from PIL import Image

    from nbmodel.runtime.edge import EdgeRuntime

NAME = "viam.service.vision.v1.VisionService"
RAW_RGBA = "image/vnd.viam.rgba"
DEPTH = "image/vnd.viam.dep"
_RAW_HEADER = struct.Struct(">4sII")  # "RGBA", width, height


def service(runtime: EdgeRuntime) -> Service:
    """The vision service of a runtime."""
    calls = _Calls(runtime)
    camera = {
        "GetDetectionsFromCamera": "GetDetections",
        "GetClassificationsFromCamera": "GetClassifications",
        "CaptureAllFromCamera": "GetDetections or GetClassifications",
    }
    return Service(
        NAME,
        {
            "GetDetections": calls.detections,
            "GetClassifications": calls.classifications,
            "GetProperties": calls.properties,
            "GetStatus": calls.status,
            "DoCommand": calls.do,
            **{name: _without_camera(name, instead) for name, instead in camera.items()},
            **{name: _flat(name) for name in ("GetObjectPointClouds", "GetDetections3D")},
        },
    )


class _Calls:
    def __init__(self, runtime: EdgeRuntime) -> None:
        self._runtime = runtime

    def detections(self, data: bytes, call: Call) -> bytes:
        """The objects in a picture."""
        request = parse("viam.GetDetectionsRequest", data)
        service = self._runtime.vision(request.name)
        image = read_image(request.image, request.mime_type)
        found = service.detections(image, deadline=call.deadline)
        kind = message("viam.Detection")
        return encode(
            "viam.GetDetectionsResponse",
            detections=[kind(**asdict(detection)) for detection in found],
        )

    def classifications(self, data: bytes, call: Call) -> bytes:
        """The best classes of a picture."""
        request = parse("viam.GetClassificationsRequest", data)
        service = self._runtime.vision(request.name)
        image = read_image(request.image, request.mime_type)
        found = service.classifications(image, request.n, deadline=call.deadline)
        kind = message("viam.Classification")
        return encode(
            "viam.GetClassificationsResponse",
            classifications=[kind(**asdict(one)) for one in found],
        )

    def properties(self, data: bytes, _call: Call) -> bytes:
        """What a vision service can do."""
        request = parse("viam.GetPropertiesRequest", data)
        properties = self._runtime.vision(request.name).properties()
        return encode(
            "viam.GetPropertiesResponse",
            classifications_supported=properties.classifications_supported,
            detections_supported=properties.detections_supported,
            default_camera=properties.default_camera,
        )

    def status(self, data: bytes, _call: Call) -> bytes:
        """How a service is, as the runtime's status tells it."""
        name = parse("viam.GetStatusRequest", data).name
        visions = self._runtime.status()["vision"]
        for told in visions:
            if told["name"] == name:
                # The SDK makes 0 of a null.
                given = {key: value for key, value in told.items() if value is not None}
                return encode_result("viam.GetStatusResponse", given)
        names = ", ".join(told["name"] for told in visions)
        raise TargetError(
            f"no vision service {name!r} on runtime {self._runtime.name!r}",
            hint=f"vision services: {names}" if names else "it has none",
        )

    def do(self, data: bytes, _call: Call) -> bytes:
        """A free-form command to the model service that a vision service uses."""
        request = parse("viam.DoCommandRequest", data)
        vision = self._runtime.vision(request.name)
        return do_command(self._runtime, vision.name, request.command)


def read_image(data: bytes, mime_type: str) -> Image.Image:
    """The picture that a client sent.

    What the bytes are is told by the bytes: SDKs say ``image/jpeg`` of anything.

    Args:
        data: A picture file, or raw RGBA behind its header.
        mime_type: As the client says.

    Raises:
        InputError: It is no picture, is damaged, or is too large.
        UnsupportedError: It is a depth map.
    """
    from nbmodel.vision.viam.picture import read_picture

    kind = mime_type.partition("+")[0]  # "image/jpeg+lazy"
    if kind == DEPTH:
        raise UnsupportedError("a depth map has nothing for a model of pictures to look at")
    if kind == RAW_RGBA or data[:4] == b"RGBA":
        return _read_raw(data)
    return read_picture(data)


def _read_raw(data: bytes) -> Image.Image:
    from PIL import Image

    if len(data) < _RAW_HEADER.size or data[:4] != b"RGBA":
        raise InputError(f"a picture of type {RAW_RGBA} begins with RGBA, its width and height")
    _, width, height = _RAW_HEADER.unpack_from(data)
    pixels = len(data) - _RAW_HEADER.size
    if pixels != 4 * width * height or not pixels:
        raise InputError(
            f"a raw picture of {width} × {height} has {4 * width * height:,} bytes of pixels, "
            f"found {pixels:,}"
        )
    return Image.frombytes("RGBA", (width, height), data[_RAW_HEADER.size :])


def _without_camera(name: str, instead: str) -> Method:
    def refuse(_data: bytes, _call: Call) -> bytes:
        raise UnsupportedError(
            f"{name} takes its picture from a camera of the machine, and this runtime has none",
            hint=f"take the picture yourself and send it with {instead}",
        )

    return refuse


def _flat(name: str) -> Method:
    def refuse(_data: bytes, _call: Call) -> bytes:
        raise UnsupportedError(f"{name} is about three dimensions; models here look at pictures")

    return refuse
