"""What results/pareto_cifar10.json shows: every strategy of cheaper training on one front."""

import pathlib

import pytest

from configs import pareto_cifar10 as card
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "pareto_cifar10.json"
GROUPS = card.get_config().to_dict()["groups"]


@pytest.fixture(scope="module")
def rows():
    if not RESULT.exists():
        pytest.skip("pareto_cifar10.json is not measured yet")
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_every_strategy_is_there_with_its_spread(rows):
    wanted = {name: group for group in GROUPS.values() for name in group["strategies"]}
    assert rows.keys() == wanted.keys()
    for name, row in rows.items():
        assert row["n"] == len(wanted[name]["seeds"]) >= 2
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
