"""The experiment on structures, end to end on a few images; where pairs stop to pay."""

import pytest

from tfeffi.analysis.cost import cost
from tfeffi.study import experiments
from tfeffi.study.experiments import mnist_structures
from tfeffi.study.experiments.mnist_structures import bounds, latency_break_even, layer_model

TRAIN = {"epochs": 1, "batch_size": 100, "learning_rate": 0.02}
CONFIG = {
    "name": "mnist_structures", "experiment": "mnist_structures", "seeds": (0,),
    "data": {"name": "fashion_mini", "train": "train[:200]", "test": "test[:100]"},
    "train": TRAIN, "finetune": TRAIN,
    "variants": {
        "2d": {},
        "1d": {"ranks": {"conv2": 8, "conv3": 8}, "mid_activation": "relu"},
        "above": {"ranks": {"conv1": 5, "conv2": 107, "conv3": 100}, "trained": False},
        "svd": {"factorize": {"conv2": 8, "conv3": 8}},
    },
    "curves": {"conv1": (), "conv2": (), "conv3": (99, 100)},
    "timing": False, "clock": {"rounds": 1, "min_runs": 2, "min_seconds": 0.0},
}  # fmt: skip


def test_trained_once_counted_and_timed_when_asked_for(tmp_path):
    result = experiments.run(CONFIG, tmp_path, verbose=False)
    base = result.row("2d")
    assert (base["macs"], base["params"]) == (11_065_088, 454_922)
    assert result.row("above")["macs"] > base["macs"] > result.row("1d")["macs"]
    assert "accuracy_mean" not in result.row("above") and "p50_ms" not in base
    for name in ("2d", "1d", "svd"):
        assert result.row(name)["n"] == 1 and 0 < result.row(name)["accuracy_mean"] <= 1
    assert "untuned_accuracy_mean" in result.row("svd")
    assert result.row("svd")["macs"] < base["macs"]
    conv3 = result.row("conv3 2d")
    assert result.row("conv3 P=99")["macs"] < conv3["macs"] < result.row("conv3 P=100")["macs"]
    mnist_structures.draw(result, tmp_path / "before.png")

    trained = sorted((tmp_path / "cells").iterdir())
    timed = experiments.run({**CONFIG, "timing": True}, tmp_path, verbose=False)
    assert len(list((tmp_path / "cells").iterdir())) == len(trained) + 4
    assert timed.row("1d")["ratio_to"] == "2d" and timed.row("1d")["p50_ms"] > 0
    assert timed.row("conv3 P=99")["ratio_to"] == "conv3 2d"
    assert timed.row("2d")["accuracy_mean"] == base["accuracy_mean"]
    mnist_structures.draw(timed, tmp_path / "after.png")
    assert (tmp_path / "after.png").stat().st_size > (tmp_path / "before.png").stat().st_size


def test_an_untrained_variant_that_changed_is_built_anew(tmp_path):
    few = CONFIG | {"curves": {"conv1": (), "conv2": (), "conv3": ()}}
    rows = []
    for rank in (5, 4):
        above = {"ranks": {"conv1": rank}, "trained": False}
        result = experiments.run(few | {"variants": {"2d": {}, "above": above}}, tmp_path, False)
        rows.append(result.row("above"))
    assert rows[1]["macs"] < rows[0]["macs"] and rows[1]["bytes"] < rows[0]["bytes"]


def test_a_separable_network_is_built_too():
    model = mnist_structures.build({"separable": 1}, seed=0)
    assert cost(model).macs < 1_000_000 and model.output_shape == (None, 10)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [("conv1", (4.848, 4.848)), ("conv2", (106.667, 106.667)), ("conv3", (99.556, 298.667))],
)
def test_bounds_are_those_of_the_layers_that_are_built(layer, expected):
    assert bounds(layer) == pytest.approx(expected, abs=1e-3)
    assert layer_model(layer).output_shape == layer_model(layer, 3).output_shape


def rows(*ratios):
    return [{"p": 10.0 * (i + 1), "speedup": 1 / ratio} for i, ratio in enumerate(ratios)]


def test_latency_breaks_even_where_it_crosses_last():
    assert latency_break_even(rows(0.5, 0.9, 1.1, 1.5)) == pytest.approx(25)
    assert latency_break_even(rows(0.9, 1.1, 0.9, 1.3)) == pytest.approx(32.5)
    assert latency_break_even(rows(1.1, 1.3)) is None
    assert latency_break_even(rows(0.5, 0.6)) is None
    assert latency_break_even([{"p": 1}]) is None
