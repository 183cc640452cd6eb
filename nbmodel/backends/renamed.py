"""A model under other names of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from numpy.typing import NDArray

from nbmodel.backends.base import Session
from nbmodel.core.signature import Signature, Tensor
from nbmodel.errors import TensorNameError


@dataclass(frozen=True, slots=True)
class Renaming:
    """Names of tensors as the model has them → as they are to be called.

    Attributes:
        inputs: Of inputs; those left out keep their names.
        outputs: Of outputs.
    """

    inputs: Mapping[str, str] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.inputs or self.outputs)

    def of(self, signature: Signature) -> Signature:
        """A signature with the other names.

        Raises:
            TensorNameError: The model has no such tensor, or two would be called the same.
        """
        return Signature(
            _renamed("input", signature.inputs, self.inputs),
            _renamed("output", signature.outputs, self.outputs),
        )


class RenamedSession(Session):
    """A loaded model whose tensors are called otherwise.

    Args:
        session: The model; closed with this one.
        renaming: What its tensors are called.
        name: Of the model, for messages.

    Raises:
        TensorNameError: The model has no such tensor, or two would be called the same.
    """

    runs_together = True

    def __init__(self, session: Session, renaming: Renaming, *, name: str) -> None:
        super().__init__(renaming.of(session.signature), name=name)
        self._session = session
        self._inputs = {new: old for old, new in renaming.inputs.items()}
        self._outputs = {new: old for old, new in renaming.outputs.items()}

    @property
    def plain(self) -> Session:
        """As ``Session.plain``."""
        return self._session

    @property
    def trouble(self) -> str | None:
        """As ``Session.trouble``."""
        return self._session.trouble

    def report_to(self, note: Callable[[str], None]) -> None:
        """As ``Session.report_to``."""
        self._session.report_to(note)

    def _run(
        self, inputs: Mapping[str, NDArray[Any]], outputs: Sequence[str]
    ) -> Mapping[str, NDArray[Any]]:
        given = {self._inputs.get(name, name): array for name, array in inputs.items()}
        wanted = {name: self._outputs.get(name, name) for name in outputs}
        answers = self._session.run(given, tuple(wanted.values()))
        return {name: answers[old] for name, old in wanted.items()}

    def _close(self) -> None:
        self._session.close()


def _renamed(side: str, tensors: Sequence[Tensor], names: Mapping[str, str]) -> tuple[Tensor, ...]:
    known = [tensor.name for tensor in tensors]
    for name in names:
        if name not in known:
            raise TensorNameError(
                f"tensor_name_remappings names {side} {name!r}, which the model has not",
                hint=f"its {side}s are {', '.join(known)}",
            )
    found = tuple(replace(one, name=names.get(one.name, one.name)) for one in tensors)
    if len({one.name for one in found}) < len(found):
        raise TensorNameError(f"tensor_name_remappings calls two {side}s the same")
    return found
