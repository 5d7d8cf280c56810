"""What results/activation_toy.json and activation_autoencoder.json show."""

import pathlib
import statistics

import pytest

from tfeffi.study.results import Result

RESULTS = pathlib.Path(__file__).parents[2] / "results"
RANGES = ("U(-1,1)", "U(0,1)")
VARIANTS = ("vanilla", "distorted", "regularized", "outliers", "combined")


def rows(name):
    return {row["name"]: row for row in Result.read(RESULTS / f"{name}.json").rows}


# ---------------------------------------------------------------- the toy


@pytest.mark.parametrize("name", RANGES)
def test_the_first_cycle_kills_about_950_of_1000(name):
    row = rows("activation_toy")[f"{name} first cycle"]
    assert row["n"] >= 5 and 900 <= row["dead_median"] <= 990
    inside = sum(900 <= dead <= 990 for dead in row["dead_each"])
    assert inside == row["seeds_in_band"] > row["n"] / 2


@pytest.mark.parametrize("name", RANGES)
def test_the_second_cycle_of_vanilla_removes_nothing(name):
    row = rows("activation_toy")[f"{name} vanilla"]
    assert row["cycles_each"] == [2] * row["n"]
    assert all(
        u == max(1, 1000 - d) for u, d in zip(row["units_each"], row["dead_each"], strict=True)
    )


def test_no_variant_of_counting_finds_the_optimum_in_every_seed():
    every = rows("activation_toy")
    for name in RANGES:
        counted = [every[f"{name} {v}"] for v in VARIANTS if f"{name} {v}" in every]
        assert counted
        for row in counted:
            found = zip(row["units_each"], row["test_mse_each"], strict=True)
            assert not all(units == 1 and error <= 1e-6 for units, error in found)


@pytest.mark.parametrize("name", RANGES)
def test_every_seed_reaches_one_unit_within_a_millionth(name):
    row = rows("activation_toy")[f"{name} vanilla, then merged, removed, refitted"]
    assert row["n"] >= 5 and row["units_each"] == [1] * row["n"]
    assert max(row["test_mse_each"]) <= 1e-6 and row["reached_mean"] == 1
    assert statistics.fmean(row["units_before_each"]) > 10


# ---------------------------------------------------------------- the autoencoder


def test_the_small_autoencoder_loses_no_more_than_the_one_it_was_pruned_from():
    found = rows("activation_autoencoder")
    ours, before = found["ours"], found["unpruned"]
    assert ours["n"] == before["n"] >= 5
    assert all(w[0] <= 8 and w[1] <= 32 and w[2] <= 8 for w in ours["widths"])
    assert ours["test_mse_mean"] <= before["test_mse_mean"]
    assert ours["macs_mean"] * 7 < before["macs_mean"]


def test_at_equal_epochs_the_unpruned_one_is_ahead():
    found = rows("activation_autoencoder")
    longer, ours = found["unpruned, trained on"], found["ours"]
    assert longer["epochs_mean"] == ours["epochs_mean"]
    assert longer["test_mse_mean"] < ours["test_mse_mean"]


def test_counting_removes_little_and_the_penalty_costs_much():
    found = rows("activation_autoencoder")
    before = found["unpruned"]
    assert found["vanilla"]["macs_mean"] > 0.8 * before["macs_mean"]
    assert found["outliers"]["macs_mean"] < 0.8 * before["macs_mean"]
    for name in ("regularized", "combined"):
        assert found[name]["test_mse_mean"] > 10 * before["test_mse_mean"]
    assert found["ReLU output"]["test_mse_mean"] > 2 * before["test_mse_mean"]


def test_timed_rows_say_which_are_faster():
    found = rows("activation_autoencoder")
    for row in found.values():
        if "ratio" in row and "faster" in row:
            assert row["faster"] == (row["ratio"] < 1)
    if "ratio" in found["ours"]:
        assert found["ours"]["faster"]
