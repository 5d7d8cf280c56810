"""The experiment on compressions in every order: which orders, what counts as lost, end to end."""

import importlib.util

import pytest

from configs import composition as card
from tfeffi.study import experiments
from tfeffi.study.experiments import composition

CONFIG = card.get_config().to_dict()


def test_every_order_of_every_subset_once_and_each_after_what_it_begins_with():
    found = composition.orders({"families": [("a", "b")], "chains": [("c", "a", "b")]})
    assert found == [
        (),
        ("a",),
        ("b",),
        ("c",),
        ("a", "b"),
        ("b", "a"),
        ("c", "a"),
        ("c", "a", "b"),
    ]
    asked = composition.orders(CONFIG)
    assert len(set(asked)) == len(asked) >= 30
    assert all(order[:-1] in asked for order in asked if order)


@pytest.mark.parametrize(
    ("order", "found", "gone"),
    [
        (("channels", "qat"), {}, []),
        (("channels", "qat"), {"channels": 11}, ["channels"]),
        (("zeros", "clusters"), {"zeros": 0.4}, ["zeros"]),
        (("zeros", "clusters"), {"zeros": 0.499, "values_per_channel": 17}, ["values"]),
        (("qat",), {"channels": 99, "zeros": 0.0, "values_per_channel": 200}, []),
        (("tfmot_zeros", "tfmot_clusters"), {"zeros": 0, "values_per_channel": 99}, ["zeros", "values"]),
    ],
)  # fmt: skip
def test_what_is_lost(order, found, gone):
    promised = {"channels": 10, "zeros": 0.5, "values": 16}
    file = {"channels": 10, "zeros": 0.5, "values_per_channel": 16, **found}
    assert composition.lost(order, file, promised) == gone


@pytest.mark.slow
@pytest.mark.skipif(
    not importlib.util.find_spec("tensorflow_model_optimization"), reason="needs the extra tfmot"
)
def test_a_chain_keeps_what_came_before_in_its_files(tmp_path):
    data = {"name": "fashion_mini", "train": "train[:200]", "test": "test[:100]"}
    config = {
        **CONFIG, "seeds": (0,), "data": data, "families": (), "min_agreement": 0,
        "chains": (("channels", "zeros", "clusters", "qat"),), "calibration": 50,
        "train": {**CONFIG["train"], "epochs": 1},
    }  # fmt: skip
    result = experiments.run(config, tmp_path, verbose=False)
    assert [row["steps"] for row in result.rows] == [0, 1, 2, 3, 4]
    first, *_, last = result.rows
    assert last["kept"] == "channels, zeros, values" and "lost" not in last
    assert last["channels"] < first["channels"] and last["zip_bytes"] < 0.6 * first["zip_bytes"]
    assert last["zero_share"] >= 0.495 and last["values_per_channel"] <= 16
    again = experiments.run(config, tmp_path, verbose=False)
    assert again.rows == result.rows
