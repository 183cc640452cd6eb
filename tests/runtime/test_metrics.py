from __future__ import annotations

import re

from nbmodel.runtime.metrics import prometheus
from nbmodel.runtime.statistics import Duration, ModelStatistics

BUSY = ModelStatistics(
    name="a",
    version="3",
    inference_count=12,
    execution_count=4,
    success=Duration(9, 9_999),
    fail=Duration(2, 5),
    queue=Duration(9, 4_000),
    compute_input=Duration(9, 3_000),
    compute_infer=Duration(9, 2_000),
    compute_output=Duration(9, 1_000),
    pending=5,
)
LINE = re.compile(
    r'[a-z_:]+(\{[a-z_]+="(?:[^"\\\n]|\\.)*"(,[a-z_]+="(?:[^"\\\n]|\\.)*")*\})? [0-9.e+-]+'
)


def test_every_count_has_tritons_name() -> None:
    text = prometheus([BUSY], version="1.2")
    for expected in (
        'nv_inference_request_success{model="a",version="3"} 9',
        'nv_inference_request_failure{model="a",version="3"} 2',
        'nv_inference_count{model="a",version="3"} 12',
        'nv_inference_exec_count{model="a",version="3"} 4',
        'nv_inference_request_duration_us{model="a",version="3"} 9',
        'nv_inference_queue_duration_us{model="a",version="3"} 4',
        'nv_inference_compute_input_duration_us{model="a",version="3"} 3',
        'nv_inference_compute_infer_duration_us{model="a",version="3"} 2',
        'nv_inference_compute_output_duration_us{model="a",version="3"} 1',
        'nv_inference_pending_request_count{model="a",version="3"} 5',
        "# TYPE nv_inference_request_success counter",
        "# TYPE nv_inference_pending_request_count gauge",
    ):
        assert expected in text.splitlines()
    assert 'nbmodel_build_info{version="1.2",python="' in text


def test_the_process_tells_of_itself() -> None:
    values = dict(
        line.split() for line in prometheus([], version="1").splitlines() if line[0] == "p"
    )
    assert float(values["process_cpu_seconds_total"]) > 0
    assert 10e6 < int(values["process_resident_memory_bytes"]) < 10e9


def test_every_line_is_of_the_format() -> None:
    text = prometheus([BUSY, ModelStatistics('q"\\\n', "1")], version="1")
    assert text.endswith("\n")
    for line in text.splitlines():
        assert line.startswith(("# HELP ", "# TYPE ")) or LINE.fullmatch(line), line
