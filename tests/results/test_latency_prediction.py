"""What results/latency_prediction.json shows, and what its benchmark compares."""

import pathlib
import statistics

import pytest

from benchmarks import latency_prediction as benchmark
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "latency_prediction.json"


def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_a_prediction_beside_the_median_of_the_rounds():
    found = benchmark.compared(1.1, [1.2, 0.9, 1.0, 1.1, 0.8])
    assert found["measured_ms"] == 1.0 and found["error_share"] == pytest.approx(0.1)
    assert (found["q1_measured_ms"], found["q3_measured_ms"]) == (0.9, 1.1) and found["rounds"] == 5


def test_networks_that_settled_the_method_are_not_judged():
    seen = {"held_out": "no", "quantize": "float32", "error_share": 9.0}
    judged = [
        {"held_out": "yes", "quantize": kind, "error_share": error}
        for kind, error in (("float32", -0.2), ("float32", 0.1), ("int8", 0.0), ("int8", 0.06))
    ]
    one, other, both = benchmark.summaries([seen, *judged])
    assert one["median_error_share"] == pytest.approx(0.15) and other["largest_error_share"] == 0.06
    assert both["files"] == 4 and both["median_error_share"] == pytest.approx(0.08)
    assert not set(benchmark.SETTLED) & {*benchmark.HELD_OUT, *benchmark.PRUNED}


def test_the_median_error_on_held_out_networks_is_at_most_ten_percent():
    found = rows()
    held_out = {*benchmark.HELD_OUT, *benchmark.PRUNED}
    errors = [
        abs(found[f"{name} {kind}"]["error_share"])
        for name in held_out
        for kind in benchmark.QUANTIZE
    ]
    both = found["held-out networks both"]
    assert both["files"] == len(errors) >= 20
    assert both["median_error_share"] == pytest.approx(statistics.median(errors))
    assert both["median_error_share"] <= benchmark.MOST_MEDIAN == 0.10


def test_errors_are_those_of_the_times_beside_them():
    for row in rows().values():
        if "predicted_ms" in row:
            assert row["error_share"] == pytest.approx(row["predicted_ms"] / row["measured_ms"] - 1)
            assert row["q1_measured_ms"] <= row["measured_ms"] <= row["q3_measured_ms"]
