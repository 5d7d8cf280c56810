"""What results/prunetrain_narrow.json shows: PruneTrain beside half the filters."""

import pathlib

import pytest

from configs import prunetrain_narrow as card
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "prunetrain_narrow.json"


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_every_row_is_there_with_its_seeds_and_measures(rows):
    config = card.get_config().to_dict()
    assert rows.keys() == config["strategies"].keys()
    for name, row in rows.items():
        assert row["n"] == len(config["seeds"]) >= 2 and row["epochs"] == card.EPOCHS
        inference = ["macs"] * (name not in ("dense", "half the filters"))
        for column in ("train_macs", "seconds", "validation_accuracy", *inference):
            assert len(row["history"][column]) == row["epochs"], (name, column)


def test_half_the_filters_do_as_well_for_less(rows):
    pruned, half = rows["PruneTrain"], rows["half the filters"]
    spread = pruned["accuracy_std"] + half["accuracy_std"]
    assert half["accuracy_mean"] == pytest.approx(pruned["accuracy_mean"], abs=spread)
    assert half["train_macs_mean"] < 0.65 * pruned["train_macs_mean"]  # two fifths less
    assert half["train_seconds_mean"] < 0.75 * pruned["train_seconds_mean"]  # a quarter less
    assert half["macs_mean"] < 0.75 * pruned["macs_mean"]
    assert rows["dense"]["accuracy_mean"] > pruned["accuracy_mean"] + 0.05


def test_single_groups_make_no_difference_beyond_the_spread(rows):
    pruned, single = rows["PruneTrain"], rows["not coupled"]
    spread = pruned["accuracy_std"] + single["accuracy_std"]
    assert single["accuracy_mean"] == pytest.approx(pruned["accuracy_mean"], abs=spread)


def test_once_an_epoch_passes_the_target_by_far(rows):
    dense, pruned, once = (rows[name] for name in ("dense", "PruneTrain", "once an epoch"))
    target = card.WHOLE["WITHIN"]["target"]
    assert 0.8 * target < pruned["macs_mean"] / dense["macs_mean"] <= target
    assert once["macs_mean"] / dense["macs_mean"] < 0.5 * target
    assert once["accuracy_mean"] < pruned["accuracy_mean"] - 0.08


def test_what_was_grown_is_pruned_away(rows):
    both, half = rows["Net2Net and PruneTrain"], rows["half the filters"]
    assert both["history"]["macs"][0] == rows["dense"]["macs_mean"]  # grown to the whole
    assert 0.2 < both["history"]["macs"][1] / rows["dense"]["macs_mean"] < 0.3  # within an epoch
    first, others = both["history"]["lambda"][0], rows["PruneTrain"]["history"]["lambda"][0]
    assert 1.9 < first / others < 2.2
    for cost in ("macs_mean", "train_macs_mean", "train_seconds_mean"):
        assert both[cost] == pytest.approx(half[cost], rel=0.06)
    assert 0.005 < half["accuracy_mean"] - both["accuracy_mean"] < 0.02
