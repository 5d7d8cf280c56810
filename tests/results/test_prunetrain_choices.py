"""What results/prunetrain_choices.json shows: PruneTrain with one thing changed, and with Net2Net."""

import pathlib

import pytest

from configs import prunetrain_choices as card
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "prunetrain_choices.json"


@pytest.fixture(scope="module")
def rows():
    return {row["name"]: row for row in Result.read(RESULT).rows}


def test_every_choice_is_there_with_its_seeds_and_measures(rows):
    config = card.get_config().to_dict()
    assert rows.keys() == config["strategies"].keys()
    for name, row in rows.items():
        assert row["n"] == len(config["seeds"]) >= 2 and row["epochs"] == card.EPOCHS
        inference = ["macs"] * (name not in ("dense", "Net2Net"))
        for column in ("train_macs", "seconds", "validation_accuracy", *inference):
            assert len(row["history"][column]) == row["epochs"], (name, column)


def test_norms_that_may_shrink_are_better_and_faster(rows):
    held, shrinking = rows["PruneTrain"], rows["norms shrink"]
    assert shrinking["accuracy_mean"] > held["accuracy_mean"] + 0.02
    assert shrinking["train_seconds_removed_mean"] > held["train_seconds_removed_mean"]
    assert shrinking["macs_mean"] == pytest.approx(held["macs_mean"], rel=0.05)
    assert shrinking["params_mean"] > held["params_mean"]
    assert shrinking["history"]["macs"][0] < 0.36 * rows["dense"]["macs_mean"]


def test_where_the_penalty_acts_and_how(rows):
    base, equal, threshold = (rows[name] for name in ("PruneTrain", "equal penalty", "threshold"))
    assert equal["accuracy_mean"] < threshold["accuracy_mean"] < base["accuracy_mean"]
    assert equal["params_mean"] < base["params_mean"]
    shrinking, dense = rows["norms shrink"], rows["dense"]["accuracy_mean"]
    assert threshold["train_macs_removed_mean"] < 0.35 * shrinking["train_macs_removed_mean"]
    assert dense - threshold["accuracy_mean"] > 1.8 * (dense - shrinking["accuracy_mean"])


def test_the_batch_grows_for_nothing(rows):
    base, growing = rows["PruneTrain"], rows["growing batch"]
    assert growing["history"]["batch_size"][-1] == 1.5 * growing["batch_size"]
    assert growing["accuracy_mean"] == pytest.approx(base["accuracy_mean"], abs=0.01)
    spread = base["train_seconds_removed_std"] + growing["train_seconds_removed_std"]
    gain = growing["train_seconds_removed_mean"] - base["train_seconds_removed_mean"]
    assert abs(gain) < spread


def test_by_muon_nothing_dies_and_sgd_is_enough(rows):
    muon, sgd = rows["Muon throughout"], rows["SGD throughout"]
    assert muon["train_macs_removed_mean"] == 0
    assert muon["accuracy_mean"] == pytest.approx(rows["dense"]["accuracy_mean"], abs=0.01)
    assert sgd["accuracy_mean"] == pytest.approx(rows["PruneTrain"]["accuracy_mean"], abs=0.01)


def test_growing_and_pruning_in_cycles_is_the_shortest_and_the_least_accurate(rows):
    both = rows["Net2Net and PruneTrain"]
    for row in rows.values():
        assert both["accuracy_mean"] <= row["accuracy_mean"]
        assert both["macs_mean"] <= row["macs_mean"]
        assert both["train_seconds_mean"] <= row["train_seconds_mean"]
        assert row["train_seconds_mean"] <= rows["Net2Net"]["train_seconds_mean"]


def test_grown_and_pruned_it_stays_near_chance_for_five_epochs(rows):
    both, dense = (
        rows[name]["history"]["validation_accuracy"] for name in ("Net2Net and PruneTrain", "dense")
    )
    assert max(both[:5]) < 0.15 < 0.25 <= min(dense[:5]) and both[5] > 0.4
