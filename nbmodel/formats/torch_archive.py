"""What PyTorch's archives have in common: ZIP files with everything in one folder.

Weights come before everything else in them, so they are told by their directories. Pickles in
them are never loaded: that would run what they say.

Source: caffe2/serialize/inline_container.h and torch/csrc/jit/serialization
(https://github.com/pytorch/pytorch).
"""

from __future__ import annotations

import re

from nbmodel.errors import FormatError
from nbmodel.formats.archive import MAX_DIRECTORY, Archive, open_archive
from nbmodel.formats.base import ZIP, starts_with
from nbmodel.formats.bytesource import ByteSource

_MAX_CLASS = 2048  # bytes from the start of a pickle that say of what it is
#: How the pickle in ``data.pkl`` starts, with what it is of.
_GLOBAL = re.compile(rb"\x80[\x02-\x05](?:\x95.{8})?c([\w.]{1,1000})\n([\w.]{1,1000})\n", re.DOTALL)
EXPORT_HINT = (
    "in PyTorch, torch.jit.script(model).save('model.pt') or "
    "torch.export.save(torch.export.export(model, (example,)), 'model.pt2') makes one of it"
)
#: How files start that torch.save wrote before it made archives.
_LEGACY = (b"\x80\x02\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19", b"\x80\x02ccollections\n")


def torch_archive(source: ByteSource, what: str) -> Archive:
    """The archive that a file is.

    Args:
        source: The file.
        what: What it should be, with its article, for messages.

    Raises:
        FormatError: It is none, or a damaged one.
    """
    if source.read(0, min(source.size, 4)) != ZIP:
        head = source.read(0, min(source.size, 16))
        if head.startswith(_LEGACY):
            raise FormatError(
                f"not {what} but a pickle of torch.save, {starts_with(source)}", hint=EXPORT_HINT
            )
        raise FormatError(f"not {what}, {starts_with(source)}")
    archive = open_archive(source, "the archive", max_directory=MAX_DIRECTORY)
    if archive is None:
        raise FormatError(f"not {what}, {starts_with(source)} (cut short: no directory at its end)")
    return archive


def pickled_class(archive: Archive) -> tuple[str, str]:
    """Module and name of the class whose object is pickled in ``data.pkl``.

    Raises:
        FormatError: There is no such file, or it starts in another way.
    """
    content = archive.start("data.pkl", _MAX_CLASS)
    match = _GLOBAL.match(content or b"")
    if match is None:
        raise FormatError(f"data.pkl: expected a pickled object, found {(content or b'')[:16]!r}")
    return match[1].decode("ascii", "replace"), match[2].decode("ascii", "replace")
