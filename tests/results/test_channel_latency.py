"""benchmarks/channel_latency.py at a small size, and its committed result."""

import pathlib

import pytest

from benchmarks import channel_latency as benchmark
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "channel_latency.json"
IDLE = {"say": lambda _: None}


def test_a_small_one_is_measured_and_drawn(tmp_path):
    times = benchmark.measured(range(7, 11), 4, 1, 2, **IDLE)
    assert len(times) == 4 * 4 and all(len(values) == 2 for values in times.values())
    result = Result.new("channel_latency")
    for row in benchmark.rows(times, 4, 1):
        result.add_row(**row)
    row = result.row("int8 3x3 10")
    assert row["macs"] == (10 * 3 * 4) ** 2 and row["rounds"] == 2
    assert row["q1_p50_ms"] <= row["p50_ms"] <= row["q3_p50_ms"]
    result.write(tmp_path / "r.json")
    benchmark.draw(result, tmp_path / "r.png")
    assert (tmp_path / "r.png").stat().st_size > 5000


def test_the_summary_of_known_steps():
    """A processor that takes channels by 16: padding to 16 is free, 17 costs twice 16."""
    times = {
        (kernel, dtype, n): [float(-(-n // 16))] * 3
        for kernel, dtype in benchmark.CASES
        for n in range(1, 65)
    }
    rows = {row["name"]: row for row in benchmark.rows(times, 28, 1)}
    found = rows["int8 1x1, between multiples of 8"]
    assert found["counts"] == 56 - 7  # 9 to 63, without the multiples
    assert found["padding_is_free_share"] == found["time_over_padded"] == 1.0
    assert found["jump_after_8"] == 1.0 and found["jump_after_16"] == pytest.approx((2 + 4 / 3) / 2)
    assert rows["float32 3x3 17"]["p50_ms"] == 2.0


def test_the_committed_result_has_every_count_and_steps():
    rows = {row["name"]: row for row in Result.read(RESULT).rows}
    for kernel, dtype in benchmark.CASES:
        for channels in range(1, 129):
            assert rows[f"{dtype} {kernel}x{kernel} {channels}"]["p50_ms"] > 0
    # one channel more than a block costs a good part of a block
    summary = rows["int8 3x3, between multiples of 8"]
    assert max(summary[f"jump_after_{multiple}"] for multiple in benchmark.JUMPS) > 1.1
