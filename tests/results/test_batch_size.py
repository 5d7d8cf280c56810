"""What results/batch_size.json shows of the best batch size."""

import pathlib

import pytest

from configs import batch_size as card
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "batch_size.json"
CONFIG = card.get_config().to_dict()


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_the_best_batch_is_proportional_to_the_learning_rate(rows):
    line = rows["best batch size against learning rate"]
    assert line["slope_low"] < 1 < line["slope_high"] and line["slope_low"] > 0.5
    assert line["n"] == len(CONFIG["seeds"]) >= 5 and line["points"] >= 4


def test_it_grows_with_the_training_set(rows):
    line = rows["best batch size against training images"]
    assert line["slope_low"] > 0 and line["slope_high"] < 1 and line["points"] >= 4


def test_every_curve_and_every_training_is_there(rows):
    for sweep in CONFIG["sweeps"].values():
        for curve in sweep:
            name = f"learning rate {curve['learning_rate']:g}, {curve['images']} images"
            assert all(f"{name}, batch {size}" in rows for size in curve["batch_sizes"])
    for name in CONFIG["variants"]:
        assert rows[name]["n"] == len(CONFIG["seeds"])


def test_a_growing_batch_saves_updates_and_keeps_the_accuracy(rows):
    small, growing = rows["batch 32"], rows["batch 32, growing"]
    assert growing["updates_mean"] < 0.7 * small["updates_mean"]
    assert abs(growing["accuracy_mean"] - small["accuracy_mean"]) < small["accuracy_std"]


def test_what_helps_a_large_batch_and_what_does_not(rows):
    plain, root, linear, corrected, ghosts = (
        rows[f"batch 250{rest}"]
        for rest in (
            "", ", square root", ", linear", ", linear, momentum correction",
            ", linear, ghost batches",
        )
    )  # fmt: skip
    assert plain["accuracy_mean"] < root["accuracy_mean"] < linear["accuracy_mean"]
    for changed in (corrected, ghosts):
        lower = linear["accuracy_mean"] - changed["accuracy_mean"]
        assert 0 < lower < linear["accuracy_std"] + changed["accuracy_std"]
