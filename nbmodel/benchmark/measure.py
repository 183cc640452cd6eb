"""A whole benchmark: one level after the other, and how far it is."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from nbmodel.benchmark.load import run_level
from nbmodel.benchmark.subject import Subject
from nbmodel.core.benchmark import CONCURRENCIES, SECONDS, Benchmark, Level
from nbmodel.core.signature import Tensor, describe
from nbmodel.display.progress import Progress
from nbmodel.errors import InputError
from nbmodel.inputs import inputs_for
from nbmodel.protocol.coerce import coerce
from nbmodel.protocol.tensor import datatype_of
from nbmodel.sample import sample_inputs

MAX_CONCURRENCY = 1024  # threads


def measure(
    subject: Subject,
    inputs: Sequence[object] = (),
    *,
    seconds: float = SECONDS,
    count: int | None = None,
    concurrency: Sequence[int] = CONCURRENCIES,
) -> Benchmark:
    """Measure a model at several numbers of requests at once.

    A KeyboardInterrupt ends it; what was measured by then is given, and raised on when that
    is nothing.

    Args:
        subject: The model.
        inputs: As ``inputs_for`` takes them; none: made up from the signature.
        seconds: How long each level takes, > 0.
        count: Requests of a level, ≥ 1, instead of its seconds; at least as many as are
            under way at once.
        concurrency: How many requests at once, each ≥ 1.

    Raises:
        InputError: An option is out of range, or the inputs cannot be used.
        SignatureError: The inputs are not what the model takes.
        NbModelError: The model does not answer the first request.
    """
    _check(seconds, count, concurrency)
    signature = subject.signature
    given = inputs_for(signature, inputs).tensors if inputs else sample_inputs(signature)
    tensors = coerce(signature, given)
    prepared = subject.prepare(tensors)
    problems: Counter[str] = Counter()
    levels: list[Level] = []
    # Fewer requests than are to be under way at once would measure a smaller number.
    counts = [None if count is None else max(count, number) for number in concurrency]
    total = sum(one or 0 for one in counts) or math.ceil(seconds * len(concurrency))
    unit = "s" if count is None else "requests"
    before: float = 0
    is_whole = True
    with Progress(f"bench {subject.label}", total=total, unit=unit) as progress:
        for number, of_level in zip(concurrency, counts, strict=True):

            def tick(
                passed_s: float, answered: int, number: int = number, before: float = before
            ) -> None:
                done = before + (passed_s if count is None else answered)
                progress.note(_note(number, passed_s, answered))
                progress.advance(min(int(done), total) - progress.done)

            try:
                level = run_level(
                    prepared.open_job,
                    concurrency=number,
                    seconds=seconds,
                    count=of_level,
                    on_tick=tick,
                    problems=problems,
                )
            except KeyboardInterrupt:
                if not levels:
                    raise
                is_whole = False
                break
            levels.append(level)
            before += seconds if of_level is None else of_level
        if is_whole:
            progress.advance(total - progress.done)
    return Benchmark(
        target=subject.label,
        version=prepared.version,
        inputs=tuple(
            describe(Tensor(name, datatype_of(array, what=name), array.shape))
            for name, array in tensors.items()
        ),
        are_generated=not inputs,
        request_bytes=prepared.request_bytes,
        answer_bytes=prepared.answer_bytes,
        levels=tuple(levels),
        problems=dict(problems.most_common()),
        is_whole=is_whole,
    )


def _note(concurrency: int, passed_s: float, answered: int) -> str:
    rate = f", {answered / passed_s:,.0f}/s" if passed_s > 0 else ""
    return f"{concurrency} at once{rate}"


def _check(seconds: float, count: int | None, concurrency: Sequence[int]) -> None:
    if not 0 < seconds <= 3600:
        raise InputError(
            f"seconds of a level: expected more than 0 and at most 3600, found {seconds}"
        )
    if count is not None and count < 1:
        raise InputError(f"requests of a level: expected 1 or more, found {count}")
    if not concurrency:
        raise InputError("no concurrency to measure at", hint="such as 1,4,16")
    for number in concurrency:
        if not 1 <= number <= MAX_CONCURRENCY:
            raise InputError(f"requests at once: expected 1..{MAX_CONCURRENCY}, found {number}")
