"""What results/prunetrain_resnet50.json shows: PruneTrain on the deeper network, one recipe for both."""

import pathlib

from configs import prunetrain_resnet50 as card
from tfeffi.study.results import Result

RESULT = pathlib.Path(__file__).parents[2] / "results" / "prunetrain_resnet50.json"


def test_the_deeper_network_loses_multiply_adds_and_time():
    rows = {row["name"]: row for row in Result.read(RESULT).rows}
    (group,) = card.get_config().to_dict()["groups"].values()
    assert rows.keys() == group["strategies"].keys()
    dense, pruned = rows["ResNet-50"], rows["ResNet-50 PruneTrain"]
    for row in (dense, pruned):
        assert row["n"] == len(group["seeds"]) >= 2
        asked = group["strategies"][row["name"]]["train"]["epochs"]
        assert len(row["history"]["validation_accuracy"]) == row["epochs"] == asked
    assert pruned["train_macs_removed_mean"] >= 0.55 <= pruned["macs_removed_mean"]
    assert (
        pruned["train_seconds_removed_mean"] >= 0.5 <= pruned["all_seconds_removed_mean"]
    )  # as told
    assert pruned["train_seconds_removed_mean"] > 0.85 * pruned["train_macs_removed_mean"]
    assert dense["accuracy_mean"] > 0.9 and -0.035 < pruned["difference_mean"] < -0.025
