"""The experiment of the blocks, whole, on a little of the embedded data."""

import pytest

from tfeffi.study.experiments import blocks_cifar10, run

CONFIG = {
    "name": "blocks_cifar10",
    "experiment": "blocks_cifar10",
    "seeds": (0, 1),
    "macs": 300_000,
    "data": {"name": "fashion_mini", "train": "train[:256]", "test": "test[:100]"},
    "network": {
        "input_shape": (28, 28, 1), "num_classes": 10, "repeats": 1, "stem": 8, "stem_stride": 4,
    },
    "variants": {
        "basic": {"block": "basic", "shortcut": True},
        "basic_plain": {"block": "basic", "shortcut": False},
    },
    "train": {"epochs": 1, "batch_size": 64, "learning_rate": 0.05},
    "timing": False,
    "latency": {"rounds": 2, "min_runs": 4, "min_seconds": 0.0, "warmup_runs": 1},
}  # fmt: skip


def test_rows_cost_the_same_and_timing_comes_later(tmp_path):
    result = run(CONFIG, tmp_path, verbose=False)
    first, plain = result.rows
    assert first["n"] == 2 and len(first["accuracies"]) == 2 and "p50_ms" not in first
    assert abs(plain["macs"] - first["macs"]) <= 0.06 * 300_000 and plain["widths"][0] >= 4
    assert first["difference"] == 0 and "difference_error" not in first
    difference = plain["accuracy_mean"] - first["accuracy_mean"]
    assert plain["difference"] == pytest.approx(difference)
    error = (plain["accuracy_std"] ** 2 / 2 + first["accuracy_std"] ** 2 / 2) ** 0.5
    assert plain["difference_error"] == pytest.approx(error)
    trained = {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")}
    timed = run({**CONFIG, "timing": True}, tmp_path, verbose=False)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("cells/*.json")} == trained
    assert timed.row("basic")["ratio"] == 1 and timed.row("basic_plain")["ratio_to"] == "basic"
    assert timed.row("basic_plain")["accuracy_mean"] == plain["accuracy_mean"]
    for shown in (result, timed):
        blocks_cifar10.draw(shown, tmp_path / "a.png")
        assert (tmp_path / "a.png").read_bytes()[1:4] == b"PNG"
