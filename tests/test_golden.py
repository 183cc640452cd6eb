"""Golden samples: their file, and the comparison of answers."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nbmodel.core.golden import Golden
from nbmodel.errors import DatatypeError, FormatError, GoldenSampleError, InputError
from nbmodel.golden import GoldenSample, check_answers, compare, non_finite, read_sample

EXACT = Golden(rtol=0, atol=0)
NAN, INF = float("nan"), float("inf")

numeric = st.sampled_from(["?", "u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
arrays = numeric.flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, min_side=0, max_dims=3))
)
texts = hnp.arrays(
    object,
    hnp.array_shapes(min_dims=0, min_side=0, max_dims=2),
    elements=st.binary(max_size=6),
    fill=st.nothing(),
)
tensors = st.dictionaries(st.text(min_size=1, max_size=8), st.one_of(arrays, texts), max_size=3)


def same(left: np.ndarray, right: np.ndarray) -> bool:
    if left.dtype == object:
        return right.dtype == object and left.shape == right.shape and bool(np.all(left == right))
    return (
        left.dtype == right.dtype
        and left.shape == right.shape
        and left.tobytes() == right.tobytes()  # bit for bit, NaN included
    )


class TestFile:
    @settings(max_examples=60, deadline=None)
    @given(inputs=tensors, outputs=tensors)
    def test_a_sample_survives_its_file(self, inputs, outputs):
        sample = GoldenSample(inputs, outputs)
        read = GoldenSample.from_bytes(sample.to_bytes())
        assert list(read.inputs) == list(inputs)
        assert all(same(sample.inputs[name], read.inputs[name]) for name in inputs)
        assert list(read.outputs) == list(outputs)
        assert all(same(sample.outputs[name], read.outputs[name]) for name in outputs)

    def test_equal_samples_are_equal_bytes(self):
        def make():
            return GoldenSample({"x": np.arange(3.0)}, {"y": np.array(["a", "b"])}).to_bytes()

        assert make() == make()

    def test_bfloat16_survives(self):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="pip install ml_dtypes")
        values = np.array([[1.5, -2.0]], ml_dtypes.bfloat16)
        read = GoldenSample.from_bytes(GoldenSample({"x": values}, {}).to_bytes())
        assert read.inputs["x"].dtype == ml_dtypes.bfloat16
        assert read.inputs["x"].astype(float).tolist() == [[1.5, -2.0]]

    def test_text_becomes_bytes(self):
        sample = GoldenSample({"x": np.array(["é", "b"])}, {})
        assert sample.inputs["x"].tolist() == ["é".encode(), b"b"]

    def test_numpy_alone_reads_it(self):
        data = GoldenSample({"a/b:0": np.arange(4, dtype=np.float32)}, {}).to_bytes()
        with np.load(io.BytesIO(data)) as archive:
            assert archive["inputs/FP32/a%2Fb%3A0"].tolist() == [0, 1, 2, 3]

    def test_big_endian_arrays_are_stored_in_native_order(self):
        read = GoldenSample.from_bytes(GoldenSample({"x": np.array([1, 2], ">i4")}, {}).to_bytes())
        assert read.inputs["x"].dtype == np.dtype("i4")
        assert read.inputs["x"].tolist() == [1, 2]

    def test_what_the_protocol_cannot_carry_is_refused(self):
        with pytest.raises(DatatypeError, match=r"'x' of the golden sample's inputs.*complex64"):
            GoldenSample({"x": np.zeros(1, np.complex64)}, {})

    def test_a_sample_above_the_limit_is_not_written(self):
        with pytest.raises(InputError, match="more than 1,000"):
            GoldenSample({"x": np.zeros(1000)}, {}).to_bytes(limit=1000)

    def test_a_file_above_the_limit_is_not_read(self):
        data = GoldenSample({"x": np.zeros(1000)}, {}).to_bytes()
        with pytest.raises(FormatError, match="more than 1,000"):
            GoldenSample.from_bytes(data, limit=1000)

    @pytest.mark.parametrize(
        ("shape", "rows"), [((5, 2), 5), ((), 1), ((0, 3), 0)], ids=["matrix", "scalar", "empty"]
    )
    def test_rows_are_counted_along_the_first_axis(self, shape, rows):
        assert GoldenSample({"x": np.zeros(shape)}, {}).rows == rows


def archive(**members: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in members.items():
            file.writestr(name.replace("__", "/") + ".npy", content)
    return buffer.getvalue()


def npy(array: np.ndarray, *, pickled: bool = False) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=pickled)
    return buffer.getvalue()


def claiming(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        buffer, {"descr": "<f4", "fortran_order": False, "shape": shape}
    )
    return buffer.getvalue()


HOSTILE = {
    "an empty file": b"",
    "a text": b"hello",
    "a truncated archive": GoldenSample({"x": np.zeros(9)}, {}).to_bytes()[:-30],
    "an object array, which is a pickle": archive(
        inputs__FP32__x=npy(np.array([{}], object), pickled=True)
    ),
    "a header that claims more than there is": archive(inputs__FP32__x=claiming((10**12,))),
    "a member of another folder": archive(elsewhere__FP32__x=npy(np.zeros(1, "f4"))),
    "a member too deep": archive(inputs__FP32__x__y=npy(np.zeros(1, "f4"))),
    "an unknown datatype": archive(inputs__FP31__x=npy(np.zeros(1, "f4"))),
    "another datatype than it says": archive(inputs__FP32__x=npy(np.zeros(1, "f8"))),
    "text without lengths": archive(inputs__BYTES__x=npy(np.zeros(3, "u1"))),
    "lengths that do not add up": archive(
        lengths__inputs__x=npy(np.array([1, 1])), inputs__BYTES__x=npy(np.zeros(3, "u1"))
    ),
    "a negative length": archive(
        lengths__inputs__x=npy(np.array([5, -2])), inputs__BYTES__x=npy(np.zeros(3, "u1"))
    ),
    "lengths with fractions": archive(
        lengths__inputs__x=npy(np.array([1.5, 1.5])), inputs__BYTES__x=npy(np.zeros(3, "u1"))
    ),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_damaged_and_hostile_files_are_refused(data):
    with pytest.raises(FormatError, match="golden sample"):
        GoldenSample.from_bytes(data)


def test_compressed_members_are_refused():
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{"inputs/FP64/x": np.zeros(10**6)})
    with pytest.raises(FormatError, match="unexpected member"):
        GoldenSample.from_bytes(buffer.getvalue())


# Tolerance of the rows below: |a - g| <= 0.01 + 0.1 * |g|, so 10 allows 1.01 either way.
LOOSE = Golden(rtol=0.1, atol=0.01)
ROWS = {
    "equal": ([1.0, 2.0], [1.0, 2.0], EXACT, True),
    "at the tolerance": ([10.0], [11.0], LOOSE, True),
    "beyond the tolerance": ([10.0], [11.1], LOOSE, False),
    "atol alone near zero": ([0.0], [0.009], LOOSE, True),
    "NaN where there was NaN": ([NAN], [NAN], EXACT, True),
    "NaN where there was none": ([1.0], [NAN], LOOSE, False),
    "no NaN where there was one": ([NAN], [1.0], LOOSE, False),
    "equal infinities": ([INF, -INF], [INF, -INF], EXACT, True),
    "an infinity of the other sign": ([INF], [-INF], LOOSE, False),
    "an infinity for a number": ([1.0], [INF], LOOSE, False),
    "a number for an infinity": ([INF], [1e30], LOOSE, False),
    "signed zeros": ([0.0], [-0.0], EXACT, True),
    "equal integers": ([3, 4], [3, 4], LOOSE, True),
    "integers one off under a tolerance below one": ([100], [101], Golden(atol=0.9), False),
    "integers one off under a tolerance of one": ([100], [101], Golden(atol=1), True),
    "integers two off under a tolerance of one": ([100], [102], Golden(atol=1), False),
    "integers, where rtol means nothing": ([1000], [1001], Golden(rtol=1, atol=0), False),
    "the ends of int64, whose difference overflows": ([-(2**63)], [2**63 - 1], LOOSE, False),
    "equal booleans": ([True, False], [True, False], EXACT, True),
    "other booleans under a wide tolerance": ([True], [False], Golden(atol=5), False),
    "equal texts": (["a", "b"], ["a", "b"], EXACT, True),
    "other texts under a wide tolerance": (["a"], ["b"], Golden(atol=5), False),
    "text against bytes of the same letters": (["é"], ["é".encode()], EXACT, True),
    "nothing at all": ([], [], EXACT, True),
}


@pytest.mark.parametrize(("golden", "answer", "tolerance", "agrees"), ROWS.values(), ids=ROWS)
def test_answers_agree(golden, answer, tolerance, agrees):
    difference = compare({"y": np.array(golden)}, {"y": np.array(answer)}, tolerance)
    assert difference.agrees is agrees


class TestDifference:
    def test_the_worst_tensor_and_index_are_named(self):
        expected = {"a": np.zeros((2, 2)), "b": np.array([[1.0, 2.0], [3.0, 4.0]])}
        actual = {"a": np.full((2, 2), 0.001), "b": np.array([[1.0, 2.0], [3.5, 4.0]])}
        difference = compare(expected, actual, LOOSE)
        assert str(difference) == (
            "output 'b' differs at [1, 0]: expected 3, found 3.5 (1 of 4 elements out of tolerance)"
        )
        assert difference.max_abs == 0.5
        assert difference.max_rel == pytest.approx(0.5 / 3)

    def test_an_element_out_of_tolerance_is_worse_than_a_larger_one_within(self):
        # 1000 may be 100 off, 1 may not be 0.5 off.
        difference = compare({"y": np.array([1000.0, 1.0])}, {"y": np.array([1050.0, 1.5])}, LOOSE)
        assert difference.worst is not None
        assert difference.worst.index == (1,)
        assert difference.worst.differing == 1

    def test_agreement_says_how_close(self):
        difference = compare({"y": np.array([1.0, 2.0])}, {"y": np.array([1.0, 2.005])}, LOOSE)
        assert str(difference) == (
            "all outputs agree; the largest difference is 0.005, in output 'y' at [1]"
        )

    @pytest.mark.parametrize(
        ("actual", "message"),
        [
            ({"z": np.zeros(2)}, "output 'y' is missing; there is 'z'"),
            ({"y": np.zeros(3)}, "output 'y' should have shape [2], found [3]"),
            ({"y": np.zeros(2, np.float32)}, "output 'y' should be FP64, found FP32"),
        ],
        ids=["missing", "shape", "datatype"],
    )
    def test_outputs_that_cannot_be_compared_disagree(self, actual, message):
        difference = compare({"y": np.zeros(2)}, actual, LOOSE)
        assert not difference.agrees
        assert str(difference) == message
        assert difference.max_abs == INF

    def test_further_outputs_are_not_looked_at(self):
        both = {"y": np.zeros(2), "z": np.zeros(2)}
        assert compare({"y": np.zeros(2)}, both, EXACT).agrees

    def test_argmax_agreement_is_the_share_of_rows(self):
        expected = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9], [0.2, 0.8]])
        actual = np.array([[0.7, 0.3], [0.4, 0.6], [0.1, 0.9], [0.2, 0.8]])
        assert compare({"y": expected}, {"y": actual}, LOOSE).argmax_agreement == 0.75

    @pytest.mark.parametrize("shape", [(4,), (4, 1), (2, 2, 2)], ids=str)
    def test_argmax_agreement_is_for_matrices_only(self, shape):
        same = {"y": np.zeros(shape)}
        assert compare(same, same, EXACT).argmax_agreement is None

    def test_relative_differences_of_nearly_nothing_are_not_counted(self):
        difference = compare({"y": np.array([1e-12])}, {"y": np.array([1e-6])}, LOOSE)
        assert difference.agrees
        assert difference.max_rel == 0

    @settings(max_examples=60, deadline=None)
    @given(values=arrays)
    def test_everything_agrees_with_itself(self, values):
        difference = compare({"y": values}, {"y": values.copy()}, EXACT)
        assert difference.agrees
        assert difference.max_abs == 0


class TestNonFinite:
    @pytest.mark.parametrize(
        ("answer", "where"),
        [
            pytest.param(np.array([[1, 2], [NAN, INF]], np.float32), (1, 0), id="the first"),
            pytest.param(np.array([-INF], np.float16), (0,), id="16 bits"),
            pytest.param(np.array(NAN), (), id="a scalar"),
            pytest.param(np.zeros((0, 3)), None, id="no elements"),
            pytest.param(np.array([2**62]), None, id="integers"),
            pytest.param(np.array([b"nan"], object), None, id="text"),
        ],
    )
    def test_the_first_place_is_told(self, answer, where):
        assert non_finite(answer) == where

    def test_bfloat16_has_them_too(self):
        ml_dtypes = pytest.importorskip("ml_dtypes", reason="pip install 'nbmodel[runtime]'")
        assert non_finite(np.array([1, NAN], ml_dtypes.bfloat16)) == (1,)

    def test_what_was_expected_is_not_counted(self):
        expected = np.array([NAN, 1.0, INF])
        assert non_finite(np.array([NAN, 1.0, NAN]), expected) is None
        assert non_finite(np.array([NAN, INF, NAN]), expected) == (1,)
        assert non_finite(np.array([NAN]), expected) == (0,)


def test_a_sample_is_read_from_its_file(tmp_path):
    path = tmp_path / "golden.npz"
    path.write_bytes(GoldenSample({"x": np.ones(2)}, {"y": np.zeros(2)}).to_bytes())
    assert read_sample(path).outputs["y"].tolist() == [0, 0]


@pytest.mark.parametrize("content", [None, b"", b"PK"], ids=["missing", "empty", "cut short"])
def test_a_sample_that_cannot_be_read_is_told_as_such(tmp_path, content):
    path = tmp_path / "golden.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(GoldenSampleError, match="golden sample"):
        read_sample(path)


class TestCheckAnswers:
    @pytest.mark.parametrize(
        "answer",
        [
            np.array([NAN, 1, INF], "f4"),
            np.zeros(3, "f4"),
            np.zeros((0, 3), "f4"),
            np.array([1, 2], "i8"),
            np.array([b"NaN"], object),
        ],
        ids=["some finite", "finite", "empty", "integers", "words"],
    )
    def test_answers_that_can_be_wrong_are_taken(self, answer):
        check_answers(GoldenSample({"x": np.zeros(1, "f4")}, {"y": answer}))

    @pytest.mark.parametrize(
        ("value", "hint"), [(0.0, "the model is broken"), (NAN, "input 'x' has NaN")]
    )
    def test_answers_that_nothing_could_disagree_with_are_refused(self, value, hint):
        outputs = {"z": np.ones(2, "f4"), "y": np.array([[NAN], [INF]], "f2")}
        with pytest.raises(GoldenSampleError, match=r"output 'y' .* in any of its 2") as told:
            check_answers(GoldenSample({"x": np.full(1, value, "f4")}, outputs))
        assert hint in str(told.value.hint)
