"""What results/prunetrain.json shows: how much of training PruneTrain takes away, and what it costs."""

import pathlib

import pytest

from configs import prunetrain as card
from tfeffi import models
from tfeffi.analysis.cost import cost
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "prunetrain.json"
GROUPS = card.get_config().to_dict()["groups"]


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_every_strategy_is_there_with_its_seeds(rows):
    wanted = {name: group for group in GROUPS.values() for name in group["strategies"]}
    assert rows.keys() == wanted.keys()
    for name, group in wanted.items():
        assert rows[name]["n"] == len(group["seeds"])
        assert rows[name]["epochs"] == group["strategies"][name]["train"]["epochs"]


def test_more_than_half_of_training_goes(rows):
    row = rows["ResNet-32 PruneTrain"]
    assert (
        row["n"] >= 2 and row["accuracy_mean"] >= 0.918 > row["accuracy_one_view_mean"]
    )  # as told
    assert row["train_macs_removed_mean"] >= 0.55 and row["train_seconds_removed_mean"] >= 0.45


def test_what_is_left_has_more_multiply_adds_than_the_papers_network(rows):
    paper = models.build("resnet_cifar", depth=32, input_shape=(32, 32, 3), num_classes=10)
    share = cost(paper).macs / rows["ResNet-32 PruneTrain"]["macs_mean"]
    assert 0.6 < share < 0.7  # two thirds, as told


def test_memory_does_not_fall(rows):
    dense, pruned = rows["ResNet-32"], rows["ResNet-32 PruneTrain"]
    assert pruned["peak_memory_mb_mean"] > dense["peak_memory_mb_mean"]


def test_the_four_measures_are_there_for_every_epoch(rows):
    for row in rows.values():
        inference = ["macs"] * ("prune_train" in row.get("methods", ()))  # dense ones stay the same
        for column in ("train_macs", "seconds", "validation_accuracy", *inference):
            assert len(row["history"][column]) == row["epochs"], (row["name"], column)
