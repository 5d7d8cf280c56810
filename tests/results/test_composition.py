"""What results/composition.json shows: in every order, what came before is in the file at the end."""

import pathlib

import pytest

from configs import composition as card
from tfeffi.study.experiments import composition
from tfeffi.study.results import Result

RESULT = Result.read(pathlib.Path(__file__).parents[2] / "results" / "composition.json")
CONFIG = card.get_config().to_dict()
ORDERS = {" → ".join(order) or "trained": order for order in composition.orders(CONFIG)}


def test_every_order_is_there_with_its_seeds():
    assert [row["name"] for row in RESULT.rows] == list(ORDERS)
    assert all(row["n"] == len(CONFIG["seeds"]) >= 2 for row in RESULT.rows)


@pytest.mark.parametrize("name", ORDERS)
def test_what_came_before_is_in_the_file(name):
    row, order = RESULT.row(name), ORDERS[name]
    found = {**row, "least_zeros": row["least_zero_share"]}
    most = RESULT.row("trained")["channels"] - 1
    asked = CONFIG["asked"]
    promised = {"channels": most, "zeros": asked["sparsity"], "values": 2 ** asked["bits"]}
    if "zeros" in order and "channels" in order[order.index("zeros") :]:
        assert composition.lost(order, found, promised) == ["zeros"] and row["lost"] == "zeros"
        assert row["zero_share"] > 0.48  # channels leave with the zeros in them
        promised["zeros"] = 0.39
    else:
        assert "lost" not in row
    assert composition.lost(order, found, promised) == []


def test_zeros_and_values_make_the_zipped_file_smaller_and_not_the_file():
    dense = RESULT.row("trained")
    for name in ("zeros", "clusters", "zeros → clusters", "tfmot_zeros → tfmot_clusters"):
        row = RESULT.row(name)
        assert row["zip_bytes"] < 0.9 * dense["zip_bytes"] and row["bytes"] == dense["bytes"]
    least = RESULT.row("channels → zeros → clusters → qat")
    assert least["zip_bytes"] < 0.5 * dense["zip_bytes"] and least["bytes"] < dense["bytes"]


def test_quantization_aware_training_loses_little():
    assert RESULT.row("qat")["accuracy_mean"] > RESULT.row("trained")["accuracy_mean"] - 0.02
