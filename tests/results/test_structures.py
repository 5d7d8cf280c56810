"""What results/mnist_structures.json shows of convolutions as pairs of cheaper ones."""

import pathlib

import pytest

from tfeffi.study.results import Result

ROOT = pathlib.Path(__file__).parents[2]
RESULT = Result.read(ROOT / "results" / "mnist_structures.json")
LAYERS = ("conv1", "conv2", "conv3")
TIMED = pytest.mark.skipif("p50_ms" not in RESULT.row("2d"), reason="no latencies in this file")


def pairs(layer):
    return [row for row in RESULT.rows if row.get("layer") == layer and "p" in row]


def test_the_2d_network_is_that_of_the_source():
    row = RESULT.row("2d")
    assert (row["macs"], row["params"], row["n"]) == (11_065_088, 454_922, len(row["accuracies"]))
    assert row["n"] >= 2
    assert row["accuracy_mean"] > 0.99 and row["accuracy_std"] < 0.002


def test_every_trained_variant_has_its_seeds_and_its_cost():
    trained = {row["name"]: row for row in RESULT.rows if "n" in row and row["name"] != "2d"}
    assert set(trained) >= {"1d_eighth", "1d_quarter", "1d_half", "separable"}
    for row in trained.values():
        assert row["n"] == len(row["accuracies"]) == RESULT.row("2d")["n"]
        assert {"macs", "params", "bytes", "accuracy_std", "accuracy_median"} <= set(row)
        assert row["macs"] < RESULT.row("2d")["macs"]


@pytest.mark.parametrize("layer", LAYERS)
def test_pairs_save_multiply_adds_below_the_bound_and_not_above(layer):
    full = RESULT.row(f"{layer} 2d")
    assert len(pairs(layer)) >= 5
    for row in pairs(layer):
        assert (row["macs"] < full["macs"]) == (row["p"] < full["bound"])


def test_the_bound_for_same_padding_is_three_times_too_large_for_the_valid_layer():
    full = RESULT.row("conv3 2d")
    assert full["bound"] == pytest.approx(99.56, abs=5e-3)
    assert full["bound_same_padding"] == pytest.approx(298.67, abs=5e-3)
    between = [r for r in pairs("conv3") if full["bound"] < r["p"] < full["bound_same_padding"]]
    assert len(between) >= 3 and all(row["macs"] > full["macs"] for row in between)
    for layer in LAYERS[:2]:
        full = RESULT.row(f"{layer} 2d")
        assert full["bound"] == full["bound_same_padding"]


def test_half_the_bound_halves_the_cost_within_half_a_point():
    base, half = RESULT.row("2d"), RESULT.row("1d_half")
    assert half["macs"] < 0.55 * base["macs"]
    assert base["accuracy_median"] - half["accuracy_median"] < 0.005


def test_just_above_the_bound_costs_more_than_2d():
    above, bound, base = (RESULT.row(name) for name in ("1d_above", "1d_bound", "2d"))
    assert bound["macs"] < base["macs"] < above["macs"]


@TIMED
def test_latencies_are_of_one_run_and_fewer_multiply_adds_are_faster_where_they_are_many():
    for name in ("1d_eighth", "1d_quarter", "separable"):
        assert RESULT.row(name)["ratio_to"] == "2d" and RESULT.row(name)["speedup_low"] > 1
    assert RESULT.row("1d_above")["speedup"] < 1.1
