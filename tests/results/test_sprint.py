"""What results/cifar10_sprint.json shows: 94 %, in how much compute and time."""

import pathlib

import pytest

from configs import cifar10_sprint as card
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "cifar10_sprint.json"
CONFIG = card.get_config().to_dict()


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_ninety_four_percent_over_five_seeds_in_six_minutes(rows):
    row = rows["cifar10_sprint"]
    assert row["n"] == CONFIG["replicates"] >= 5 and row["epochs"] == CONFIG["train"]["epochs"]
    assert row["accuracy_mean"] >= 0.94 and row["pflop"] <= 0.29
    assert row["train_seconds_mean"] + row["compile_seconds_mean"] <= 360


def test_stock_keras_is_extrapolated_and_says_from_what(rows):
    stock = rows["stock Keras"]
    assert stock["measured_epochs"] == CONFIG["stock"]["measured_epochs"] >= 1
    row = rows["cifar10_sprint"]
    seconds = row["train_seconds_mean"] + row["compile_seconds_mean"]
    assert row["times_faster_than_stock"] == pytest.approx(stock["train_seconds"] / seconds)
