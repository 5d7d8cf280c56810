"""What results/precision.json shows of 16 bits; its benchmark times what the config trains."""

import pathlib

from benchmarks import precision as benchmark
from configs import precision as card
from tfeffi.study.experiments import precision as experiment
from tfeffi.study.experiments.precision import KINDS, row_name
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "precision.json"
CONFIG = card.get_config().to_dict()
LONG, SHORT = CONFIG["trainings"]["long"], CONFIG["trainings"]["short"]


def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def of(key, training):
    """The rows of a training: (float32, other)."""
    found = rows()
    for width in training["widths"]:
        for name in training["precisions"]:
            yield found[row_name(key, width, "float32")], found[row_name(key, width, name)]


def test_what_the_config_trains_in_is_timed_and_float16_once_a_turn():
    found = benchmark.candidates(CONFIG)
    assert list(found) == [8, 16, 32, 64, 2, 4] and "mixed_float16" in found[8]
    assert all(one[0] == "float32" and "mixed_bfloat16" in one for one in found.values())
    assert benchmark.burst_of(8, "mixed_float16") == 1 < benchmark.burst_of(8, "float32")


def test_rows_of_gradients_have_no_width_and_no_times(monkeypatch):
    rows = [{"name": "a", "width": 8, "precision": "float32"}, {"name": "gradients"}]
    monkeypatch.setattr(experiment, "measure", lambda config, cells: iter(rows))
    monkeypatch.setattr(benchmark, "times", lambda *_: {"float32": {"step_ms": 1.0}})
    config = {"trainings": {"long": {"widths": [8], "precisions": ["float32"]}}}
    found = list(benchmark.measured(config, "nowhere", rounds=1))
    assert found == [{**rows[0], "step_ms": 1.0}, rows[1]]


def test_every_training_is_there_with_its_times():
    for key, training in (("long", LONG), ("short", SHORT)):
        for exact, row in of(key, training):
            assert (
                row["n"] == len(CONFIG["seeds"]) >= 2 and row["accuracy_mean"] > 0.2
            )  # chance: 0.1
            assert row["q1_step_ms"] <= row["step_ms"] <= row["q3_step_ms"]
            assert row["ratio_to"] == exact["name"]


def test_accuracy_does_not_depend_on_the_precision():
    for key, training in (("long", LONG), ("short", SHORT)):
        for exact, row in of(key, training):
            spread = exact["accuracy_std"] + row["accuracy_std"]
            assert abs(row["accuracy_mean"] - exact["accuracy_mean"]) <= spread  # as the page says
            assert row.get("skipped_steps_mean", 0) == 0


def test_bfloat16_is_faster_and_smaller_where_convolutions_are_wide():
    widest = max(LONG["widths"])
    for exact, row in of("long", LONG):
        if row["width"] == widest and row["precision"] == "mixed_bfloat16":
            assert row["q1_speedup"] > 1 and row["peak_memory_mb"] < exact["peak_memory_mb"]


def test_float16_is_many_times_slower_on_a_cpu():
    found = [row for _, row in of("short", SHORT) if row["precision"] == "mixed_float16"]
    assert [row["width"] for row in found] == [2, 4, 8]
    slower = [1 / row["q3_speedup"] for row in found]
    assert slower == sorted(slower) and slower[0] > 2 and slower[-1] > 10


def test_a_loss_scale_takes_gradients_out_of_the_underflow():
    found = rows()
    for kind in KINDS:
        plain, scaled = (found[f"{kind} scale {scale}"] for scale in (1, 2**15))
        for key in ("zero_share", "subnormal_share"):
            assert scaled[key] <= plain[key] and scaled[f"cast_{key}"] <= plain[f"cast_{key}"]
        lost = plain["zero_share"] + plain["subnormal_share"]
        assert scaled["zero_share"] + scaled["subnormal_share"] < lost / 2


def test_the_dynamic_scale_is_a_large_one_that_fits():
    found = rows()
    assert found["weights dynamic"]["overflow_share"] == 0
    assert found["weights dynamic"]["scale"] >= 2**15


def test_the_histogram_is_of_all_gradients():
    for kind in KINDS:
        row = rows()[f"{kind} float32"]
        assert sum(row["counts"]) + row["exact_zeros"] == row["values"]
