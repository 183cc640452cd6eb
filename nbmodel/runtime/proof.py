"""What a loaded model has to show before it may serve.

Its tensors are those of its manifest; it gives the answers of its golden sample, more than
once; without a golden sample it answers inputs that are made up, in the shapes and datatypes
it promised and with numbers that are numbers.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from numpy.typing import NDArray

from nbmodel.backends import Session
from nbmodel.core.golden import Golden
from nbmodel.core.signature import FOREIGN_DATATYPES, Signature, Tensor, describe
from nbmodel.errors import InputError, NbModelError, ProbeError, UnavailableError
from nbmodel.golden import Difference, GoldenSample, compare, non_finite
from nbmodel.protocol.tensor import datatype_of
from nbmodel.sample import sample_inputs

#: Rows, and what other variable dimensions are made up as, in turn until the engine takes
#: one: images have sides that 32 divides, often 224; some models need two of a thing, or a
#: window of rows.
GUESSES = ((1, 1), (1, 32), (1, 224), (2, 2), (32, 32))
MAX_ELEMENTS = 16 * 1024 * 1024  # of a made-up input; a picture of 2048 x 2048 has 12 million
_MEMORY = "OutOfMemory"
_NO_ANSWER = "NoAnswer"
_MAYBE_THE_GUESS = ("RunFailed", "NotFinite")
_MOST_TIMES, _ENOUGH_S = 9, 0.05  # that it is run after the first time
_NO_MEMORY = re.compile(
    r"bad_alloc|bad allocation|fail(ed|ure) to allocate|out of memory|cannot allocate"
    r"|unable to allocate|MemoryError",
    re.IGNORECASE,
)
#: Inputs of these may hold anything in 0..1; others are indices, lengths, words.
_FREELY_MADE = frozenset({"FP16", "FP32", "FP64", "BF16", "UINT8", "INT8", "BOOL"})

Tensors = Mapping[str, NDArray[Any]]
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Proof:
    """How a model did.

    Attributes:
        latency_ms: Median milliseconds of a run after the first; None when there was none.
        golden: How it did, in a sentence.
        note: What a person should know; may be empty.
        inputs: What it is known to take, or None.
    """

    latency_ms: float | None
    golden: str
    note: str = ""
    inputs: Tensors | None = None


def is_out_of_memory(text: str) -> bool:
    """Whether an engine's words are those of an allocation that failed."""
    return _NO_MEMORY.search(text) is not None


def check_signature(engine: Signature, own: Signature) -> None:
    """Refuse a model whose tensors are not those that its manifest promises.

    Names, datatypes, ranks and the fixed dimensions of inputs are compared; what either side
    leaves open contradicts nothing, and an empty signature leaves all open.

    Args:
        engine: What the engine says of the file.
        own: What the manifest says.

    Raises:
        ProbeError: With every contradiction.
    """
    problems = [
        problem
        for side, found, promised in (
            ("input", engine.inputs, own.inputs),
            ("output", engine.outputs, own.outputs),
        )
        if promised
        for problem in _contradictions(side, found, promised)
    ]
    if problems:
        raise ProbeError(
            f"has other tensors than its manifest says: {'; '.join(problems)}",
            reason="WrongSignature",
            hint="the file is not the one that was described: log the model again",
        )


def prove_golden(session: Session, sample: GoldenSample, golden: Golden, *, tell: Tell) -> Proof:
    """Run the golden sample more than once, and compare each answer.

    Args:
        session: The loaded model.
        sample: Inputs, and the answers that they must get.
        golden: The tolerance.
        tell: Told what is being done, before it is.

    Raises:
        ProbeError: An answer is out of tolerance, or there is none.
    """
    outputs = list(sample.outputs)
    last: list[Difference] = []

    def run(number: int) -> None:
        tell(f"answering its golden sample{_nth(number)}")
        try:
            answers = session.infer(sample.inputs, outputs)
        except NbModelError as exc:
            raise _refused(f"cannot run the golden sample{_nth(number)}: {exc}", exc) from exc
        difference = compare(sample.outputs, answers, golden)
        if not difference.agrees:
            raise _wrong(difference, sample.outputs, answers, _nth(number))
        last[:] = [difference]

    run(1)
    latency = _timed_again(run)
    return Proof(latency, str(last[0]), inputs=sample.inputs)


def prove_made_up(session: Session, own: Signature, *, allow_non_finite: bool, tell: Tell) -> Proof:
    """Run inputs that fit the signature, and check what the answers look like.

    An engine that takes none of them proves nothing where something had to be guessed:
    that is a note. One that is gone then, or does not answer, is no engine to rely on.

    Args:
        session: The loaded model.
        own: What the manifest says of its tensors; what it leaves open the engine says.
        allow_non_finite: Whether NaN and infinity are answers like others.
        tell: Told what is being done, before it is.

    Raises:
        ProbeError: An answer contradicts the signature or is not finite, the engine
            refuses inputs in which nothing was guessed, or it gives no answer at all.
    """
    signature = _joined(session.signature, own)
    refusals: list[ProbeError] = []
    try:
        for inputs in _made_up(signature):
            run = _runner(session, signature, inputs, allow_non_finite, tell)
            try:
                run(1)
            except ProbeError as exc:
                # Beyond the first guess even a lack of memory may be the guess's fault.
                if exc.reason not in _MAYBE_THE_GUESS and not (exc.reason == _MEMORY and refusals):
                    raise
                refusals.append(exc)
                continue
            latency = _timed_again(run)  # what it took once is no guess any more
            return Proof(
                latency,
                f"no golden sample; answers made-up inputs {_shapes(inputs)}",
                inputs=inputs,
            )
        first: NbModelError = refusals[0]
    except InputError as exc:
        first = refusals[0] if refusals else exc
    # A variance of a single value is not a number, but nothing excuses all guesses.
    is_never_finite = bool(refusals) and all(one.reason == "NotFinite" for one in refusals)
    if refusals and (is_never_finite or not _has_guesses(signature)):
        raise refusals[0]
    return Proof(
        None,
        "no golden sample; it was loaded, and has answered nothing",
        note=f"it was not tried out: {first}; log it with a golden sample",
    )


def _made_up(signature: Signature) -> Iterator[Tensors]:
    """Inputs that fit, each guess once."""
    seen: list[str] = []
    for rows, dimension in GUESSES:
        inputs = sample_inputs(signature, rows=rows, dimension=dimension, most=MAX_ELEMENTS)
        if _shapes(inputs) not in seen:
            seen.append(_shapes(inputs))
            yield inputs


def _runner(
    session: Session, signature: Signature, inputs: Tensors, allow_non_finite: bool, tell: Tell
) -> Callable[[int], None]:
    """What runs made-up inputs and checks the answers; it is given the number of the run."""
    outputs = [one.name for one in signature.outputs if one.datatype not in FOREIGN_DATATYPES]

    def run(number: int) -> None:
        tell(f"answering made-up inputs{_nth(number)}")
        try:
            answers = session.infer(inputs, outputs)
        except NbModelError as exc:
            raise _refused(
                f"cannot run made-up inputs {_shapes(inputs)}{_nth(number)}: {exc}", exc
            ) from exc
        for tensor in signature.outputs:
            if tensor.name in answers:
                _check_answer(tensor, answers[tensor.name], inputs, allow_non_finite)

    return run


def _check_answer(
    tensor: Tensor, answer: NDArray[Any], inputs: Tensors, allow_non_finite: bool
) -> None:
    what = f"output {tensor.name!r}"
    datatype = datatype_of(answer, what=what)
    if datatype != tensor.datatype or not _open_fits(tensor, answer.shape):
        raise ProbeError(
            f"answers made-up inputs {_shapes(inputs)} with an {what} of "
            f"{datatype}{list(answer.shape)}, its signature says {describe(tensor)}",
            reason="WrongAnswer",
            hint="the signature promises other answers than the model gives: log it again",
        )
    where = None if allow_non_finite else non_finite(answer)
    if where is not None:
        raise ProbeError(
            f"answers made-up inputs {_shapes(inputs)} with {answer[where]} in {what}{_at(where)}",
            reason="NotFinite",
            hint='log it with a golden sample; or set "allow_non_finite" in its deployment',
        )


def _timed_again(run: Callable[[int], None]) -> float:
    """Run something that has run once again and again; the median of it, in milliseconds."""
    times: list[float] = []
    began = time.perf_counter()
    while not times or (len(times) < _MOST_TIMES and time.perf_counter() - began < _ENOUGH_S):
        start = time.perf_counter()
        run(len(times) + 2)
        times.append(time.perf_counter() - start)
    return median(times) * 1000


def _refused(message: str, cause: NbModelError) -> ProbeError:
    reason = _MEMORY if is_out_of_memory(str(cause)) else "RunFailed"
    if isinstance(cause, UnavailableError):
        reason = _NO_ANSWER
    # To ask again later is no advice for a version that was refused.
    hint = None if isinstance(cause, UnavailableError) else cause.hint
    return ProbeError(message, reason=reason, hint=hint)


def _wrong(difference: Difference, wanted: Tensors, answers: Tensors, nth: str) -> ProbeError:
    is_new = any(
        name in answers and non_finite(answers[name], wanted[name]) is not None for name in wanted
    )
    return ProbeError(
        f"answers its golden sample wrongly{nth}: {difference}",
        reason="NotFinite" if is_new else "WrongAnswer",
        hint="the version was made with another engine, or its file is not the one meant",
    )


def _contradictions(side: str, found: Sequence[Tensor], promised: Sequence[Tensor]) -> list[str]:
    theirs, ours = {one.name: one for one in found}, {one.name: one for one in promised}
    problems = [
        *(f"{side} {describe(ours[name])} is missing" for name in ours if name not in theirs),
        *(
            f"{side} {describe(theirs[name])} is not promised"
            for name in theirs
            if name not in ours
        ),
    ]
    problems += [
        f"{side} {describe(theirs[name])} was promised as {describe(mine)}"
        for name, mine in ours.items()
        if name in theirs and not _agree(theirs[name], mine, has_dimensions=side == "input")
    ]
    return problems


def _agree(found: Tensor, promised: Tensor, *, has_dimensions: bool) -> bool:
    if "UNKNOWN" not in (found.datatype, promised.datatype) and found.datatype != promised.datatype:
        return False
    # Engines say () of a scalar and of what they do not know alike.
    if not found.shape or not promised.shape:
        return True
    if len(found.shape) != len(promised.shape):
        return False
    return not has_dimensions or all(
        -1 in pair or pair[0] == pair[1] for pair in zip(found.shape, promised.shape, strict=True)
    )


def _joined(engine: Signature, own: Signature) -> Signature:
    """The engine's tensors, with the dimensions that the manifest fixes beyond it."""

    def join(found: Sequence[Tensor], promised: Sequence[Tensor]) -> tuple[Tensor, ...]:
        shapes = {one.name: one.shape for one in promised if one.shape}
        return tuple(
            Tensor(one.name, one.datatype, shapes[one.name]) if one.name in shapes else one
            for one in found
        )

    return Signature(join(engine.inputs, own.inputs), join(engine.outputs, own.outputs))


def _has_guesses(signature: Signature) -> bool:
    return any(
        one.shape is None or -1 in one.shape or one.datatype not in _FREELY_MADE
        for one in signature.inputs
    )


def _open_fits(tensor: Tensor, shape: Sequence[int]) -> bool:
    return not tensor.shape or tensor.fits(shape)


def _shapes(inputs: Tensors) -> str:
    return ", ".join(
        describe(Tensor(name, datatype_of(array, what=name), array.shape))
        for name, array in inputs.items()
    )


def _nth(number: int) -> str:
    return "" if number == 1 else f" (run {number})"


def _at(where: Sequence[int]) -> str:
    return f" at {list(where)}" if where else ""
