"""benchmarks/why_slow.py on a small network, and its committed result."""

import pathlib

import keras
import pytest

from benchmarks import why_slow as benchmark
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "why_slow.json"


def tiny(_):
    keras.utils.set_random_seed(0)
    x = image = keras.Input((48, 48, 3))  # of 16 pixels, a whole operator may take no microsecond
    x = keras.layers.Conv2D(12, 3, activation="relu", name="conv")(x)
    x = keras.layers.DepthwiseConv2D(3, name="depthwise")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    return keras.Model(image, keras.layers.Dense(10, name="logits")(x))


def test_a_small_network_is_measured(monkeypatch, tmp_path):
    monkeypatch.setattr(benchmark, "NETWORKS", {"tiny": 48})
    monkeypatch.setattr(benchmark, "build", tiny)
    found = benchmark.measured(tmp_path, 1, 0.0, say=lambda _: None)
    result = Result.new("why_slow")
    for row in benchmark.rows(found):
        result.add_row(**row)
    result.write(tmp_path / "why_slow.json")
    file, machine = result.row("tiny int8"), result.row("machine")
    assert machine["peak_int8_gmacs_per_second"] > 0 and machine["gb_per_second_at_65536"] > 0
    assert file["bytes"] > file["zip_bytes"] > 0 and file["activation_bytes"] > 0
    assert file["unmatched"] == 0 and file["operators"] == 4 and 0 < file["conv_2d_share"] < 1
    worst = result.row("tiny float32 1")
    assert worst["layer"] in ("conv", "depthwise", "pool", "logits") and worst["advice"]


@pytest.mark.parametrize("dtype", benchmark.DTYPES)
@pytest.mark.parametrize("network", benchmark.NETWORKS)
def test_the_committed_result_is_whole(network, dtype):
    result = Result.read(RESULT)
    file = result.row(f"{network} {dtype}")
    assert file["unmatched"] == 0 and 0 < file["attained_share"] <= 1.2
    assert file["operators_ms"] <= 1.02 * file["profiled_ms"]  # both of one process
    if dtype == "float32":
        assert file["builtin"] == 0
    worst = [row for row in result.rows if row["name"].startswith(f"{network} {dtype} ")]
    assert len(worst) == 10 and all(row["advice"] and row["operator"] for row in worst)
    lost = [row["lost_ms"] for row in worst]
    assert lost == sorted(lost, reverse=True)
