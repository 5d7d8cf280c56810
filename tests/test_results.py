"""What the committed results show: the claims of the README, read from the files."""

import pathlib

from tfeffi.study.results import Result

RESULTS = pathlib.Path(__file__).parents[1] / "results"


def rows(name):
    return {row["name"]: row for row in Result.read(RESULTS / f"{name}.json").rows}


def test_the_demo_has_a_variant_four_times_faster_ten_times_smaller_within_a_point():
    found = rows("demo")
    base = found.pop("float32")
    assert len(found) >= 6
    assert any(
        row["p50_ms"] * 4 <= base["p50_ms"]
        and row["bytes"] * 10 <= base["bytes"]
        and row["accuracy_mean"] >= base["accuracy_mean"] - 0.01
        for row in found.values()
    )


def test_latencies_agree_with_litert_benchmark():
    found = rows("latency_agreement")
    assert len(found) == 3
    for row in found.values():
        assert abs(row["ratio"] - 1) <= 0.05


def test_the_pipeline_is_ten_times_faster_than_training():
    found = rows("data_pipeline")
    for name in ("pipeline, crop 4, flip", "pipeline, translate 2, flip"):
        assert found[name]["times_training_lowest"] >= 10


def test_no_step_of_ours_is_slower_than_stock_keras():
    found = rows("train_step")
    ours = [row for name, row in found.items() if "tfeffi" in name]
    assert len(ours) == 4
    for row in ours:
        assert row["speedup_low"] > 1


def test_onednn_makes_every_width_faster_where_tensorflow_leaves_it_off():
    found = rows("onednn")
    for width in (8, 16, 32):
        row = found[f"width {width}, oneDNN on"]
        assert (
            row["n"] >= 3 and 1.5 < row["q1_speedup"] <= row["speedup"] < 2.5
        )  # about twice, fit says


def test_float32_steps_take_1_3_times_less_or_all_that_convolutions_leave():
    found = rows("train_step")
    ceiling = found["width 64 convolution alone, float32"]["gmacs_per_second"]
    row = found["width 64 tfeffi float32"]
    assert row["speedup"] >= 1.3 or row["gmacs_per_second"] >= 0.9 * ceiling


def test_how_much_of_the_gap_to_the_convolutions_is_closed():  # as the README says
    found = rows("train_step")

    def rate(width, candidate):
        return found[f"width {width} {candidate}"]["gmacs_per_second"]

    for short, precision, closed in (
        ("float32", "float32", 0.75),
        ("bfloat16", "mixed_bfloat16", 0.5),
    ):
        ceiling = rate(64, f"convolution alone, {short}")
        gap = ceiling - rate(64, f"fit {precision}")
        ours = rate(64, f"tfeffi {precision}") - rate(64, f"fit {precision}")
        assert abs(ours / gap - closed) < 0.05
        narrow = rate(16, f"convolution alone, {short}")
        assert rate(16, f"fit {precision}") / narrow < rate(64, f"fit {precision}") / ceiling
    assert found["width 16 tfeffi float32"]["speedup"] > found["width 64 tfeffi float32"]["speedup"]
