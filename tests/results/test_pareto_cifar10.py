"""What results/pareto_cifar10.json shows: every strategy of cheaper training on one front."""

import pathlib

import pytest

from configs import pareto_cifar10 as card
from tfeffi.study import runs
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "pareto_cifar10.json"
CONFIG = card.get_config().to_dict()
GROUPS = CONFIG["groups"]


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_every_strategy_is_there_with_its_spread(rows):
    wanted = {name: group for group in GROUPS.values() for name in group["strategies"]}
    assert rows.keys() == wanted.keys()
    for name, row in rows.items():
        assert row["n"] == len(wanted[name]["seeds"]) >= 2
        asked = CONFIG["train"] | wanted[name]["strategies"][name].get("train", {})
        assert row["epochs"] == asked["epochs"]
        for column in ("accuracy", "train_seconds", "train_macs"):
            assert row[f"{column}_mean"] > 0 and row[f"{column}_std"] >= 0


def test_what_saves_multiply_adds_saves_them(rows):
    for name in ("progressive resizing", "PruneTrain", "Net2Net", "Net2Net and PruneTrain"):
        assert rows[name]["train_macs_mean"] < rows["float32"]["train_macs_mean"]


def test_something_is_as_good_in_less_time(rows):
    plain = rows["float32"]
    assert any(
        row["group"] == plain["group"]
        and row["accuracy_mean"] >= plain["accuracy_mean"]
        and row["train_seconds_mean"] < 0.7 * plain["train_seconds_mean"]
        for row in rows.values()
    )


def test_the_fronts_are_those_that_the_page_tells_of():
    study = runs.load([RESULT])
    fronts = {
        cost: {entry.row["name"] for front in study.fronts(cost) for entry in front}
        for cost in ("train_seconds_mean", "train_macs_mean", "all_seconds_mean")
    }
    always = {"Net2Net and PruneTrain", "progressive resizing"}
    always |= {"sprint, 3 epochs", "sprint, 5 epochs"}
    assert fronts["train_seconds_mean"] == always
    assert fronts["train_macs_mean"] == always | {"PruneTrain", "Muon"}
    assert fronts["all_seconds_mean"] == always | {"bfloat16", "label smoothing", "Muon"}


def test_what_the_page_says_of_single_strategies(rows):
    accuracy = {name: row["accuracy_mean"] for name, row in rows.items()}
    seconds = {name: row["train_seconds_mean"] for name, row in rows.items()}
    own = [name for name, row in rows.items() if row["group"] == "ResNet-8"]
    assert max(own, key=accuracy.get) == "Muon"
    assert (
        accuracy["bfloat16"] >= accuracy["float32"] and seconds["Muon"] < 1.06 * seconds["bfloat16"]
    )
    for name in ("batch of 1024", "PruneTrain", "Net2Net", "Net2Net and PruneTrain"):
        assert accuracy[name] < accuracy["bfloat16"] - 0.05, name
    assert accuracy["batch of 1024"] < accuracy["ghost batches"] < accuracy["bfloat16"]
    assert accuracy["batch of 1024"] < accuracy["batch of 1024, linear rule"] < accuracy["bfloat16"]
    linear, corrected = rows["batch of 1024, linear rule"], rows["momentum correction"]
    spread = linear["accuracy_std"] + corrected["accuracy_std"]
    assert linear["accuracy_mean"] - corrected["accuracy_mean"] > spread
    assert seconds["ghost batches"] > seconds["bfloat16"] > seconds["batch of 1024"]
    assert accuracy["Net2Net and PruneTrain"] < min(accuracy["PruneTrain"], accuracy["Net2Net"])
    assert accuracy["PruneTrain"] < accuracy["progressive resizing"]
    assert seconds["PruneTrain"] > seconds["progressive resizing"]
    assert 0.75 < seconds["PruneTrain"] / seconds["bfloat16"] < 0.85
    halves = rows["PruneTrain"]["history"]["macs"]  # of the first seed
    assert halves == [halves[0]] * 5 and 0.4 < halves[0] / rows["float32"]["macs_mean"] < 0.5
    assert rows["Net2Net and PruneTrain"]["macs_mean"] < rows["float32"]["macs_mean"] / 4
    plain, whitened = "sprint, 3 epochs, no whitening", "sprint, 3 epochs"
    spread = rows[plain]["accuracy_std"] + rows[whitened]["accuracy_std"]
    assert accuracy[whitened] - accuracy[plain] > spread and seconds[whitened] < seconds[plain]
