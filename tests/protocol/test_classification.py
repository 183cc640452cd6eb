from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from nbmodel.errors import InputError
from nbmodel.protocol.classification import MAX_ELEMENTS, classify

LABELS = ("pear", "apple", "", "plum")


@pytest.mark.parametrize(
    ("output", "count", "labels", "has_batch", "expected"),
    [
        # The examples of the extension's text, with six decimals as the server writes them.
        pytest.param(
            np.array([1, 5, 10, 4], np.int32), 2, (), False, [b"10:2", b"5:1"], id="integers"
        ),
        pytest.param(
            np.array([1.1, 3.3, 0.5, 2.4], np.float64),
            2,
            (),
            False,
            [b"3.300000:1", b"2.400000:3"],
            id="floats",
        ),
        pytest.param(
            np.array([[1, 9], [8, 2]], np.uint8),
            1,
            LABELS,
            True,
            [[b"9:1:apple"], [b"8:0:pear"]],
            id="a batch",
        ),
        pytest.param(
            np.array([[1, 9], [8, 2]], np.uint8),
            2,
            (),
            False,
            [b"9:1", b"8:2"],
            id="no batch axis: all elements are one row",
        ),
        pytest.param(
            np.array([[[1, 9], [8, 2]]], np.int64),
            2,
            (),
            True,
            [[b"9:1", b"8:2"]],
            id="a row of rank 2",
        ),
        pytest.param(
            np.array([3, 3, 3], np.uint16),
            9,
            LABELS,
            False,
            [b"3:0:pear", b"3:1:apple", b"3:2"],
            id="equal values, a label that is empty, fewer classes than asked for",
        ),
        pytest.param(
            np.array([np.nan, -np.inf, np.inf, -2], np.float32),
            4,
            (),
            False,
            [b"inf:2", b"-2.000000:3", b"-inf:1", b"nan:0"],
            id="what is no number",
        ),
        pytest.param(
            np.array([-128, 127], np.int8), 2, (), False, [b"127:1", b"-128:0"], id="the limits"
        ),
        pytest.param(
            np.array([0, 2**64 - 1], np.uint64),
            1,
            (),
            False,
            [b"18446744073709551615:1"],
            id="the largest integer",
        ),
        pytest.param(np.array(7, np.int64), 1, (), True, [b"7:0"], id="a scalar"),
        pytest.param(np.empty((0, 3), np.float32), 2, (), True, [], id="an empty batch"),
    ],
)
def test_the_best_classes_come_first(
    output: NDArray[Any], count: int, labels: tuple[str, ...], has_batch: bool, expected: Any
) -> None:
    classes = classify(output, count, labels=labels, has_batch=has_batch)
    assert classes.dtype == object
    assert classes.tolist() == expected


@pytest.mark.parametrize(
    ("output", "message"),
    [
        pytest.param(np.array([b"a"], object), "unsupported type 'BYTES'", id="text"),
        pytest.param(np.array([True]), "unsupported type 'BOOL'", id="bool"),
        pytest.param(np.array([1], np.float16), "unsupported type 'FP16'", id="short floats"),
        pytest.param(np.empty(MAX_ELEMENTS + 1, np.uint8), "tensor too large", id="too many"),
    ],
)
def test_what_has_no_classes_is_refused(output: NDArray[Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classify(output, 1, has_batch=False)
