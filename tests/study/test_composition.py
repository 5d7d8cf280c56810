"""The experiment on compressions in every order: which orders, what counts as lost, end to end."""

import importlib.util
import math
import pathlib

import keras
import numpy as np
import pytest
from keras import layers

from configs import composition as card
from tfeffi import export
from tfeffi.errors import BadInput
from tfeffi.study import experiments
from tfeffi.study.experiments import composition

CONFIG = card.get_config().to_dict()


def test_every_order_of_every_subset_once_and_each_after_what_it_begins_with():
    a, b, c = "channels", "clusters", "qat"
    found = composition.orders({"families": [(a, b)], "chains": [(c, a, b)]})
    assert found == [
        (),
        (a,),
        (b,),
        (c,),
        (a, b),
        (b, a),
        (c, a),
        (c, a, b),
    ]
    asked = composition.orders(CONFIG)
    assert len(set(asked)) == len(asked) >= 30
    assert all(order[:-1] in asked for order in asked if order)


def test_a_step_that_there_is_not_is_refused_before_anything_is_trained(tmp_path):
    config = {**CONFIG, "families": (), "chains": (("zeros", "cluster"),)}
    with pytest.raises(BadInput, match='unknown step "cluster"; did you mean "clusters"'):
        experiments.run(config, tmp_path, verbose=False)
    assert not list(tmp_path.rglob("*.keras"))


@pytest.mark.parametrize(
    ("order", "found", "gone"),
    [
        (("channels", "qat"), {}, []),
        (("channels", "qat"), {"channels": 11}, ["channels"]),
        (("zeros", "clusters"), {"least_zeros": 0.4}, ["zeros"]),
        (("zeros", "qat"), {"least_zeros": 0.4, "zeros": 0.6}, ["zeros"]),
        (("zeros", "clusters"), {"least_zeros": 0.499, "values_per_channel": 17}, ["values"]),
        (("qat",), {"channels": 99, "least_zeros": 0.0, "values_per_channel": 200}, []),
        (("tfmot_zeros", "tfmot_clusters"), {"least_zeros": 0, "values_per_channel": 99},
         ["zeros", "values"]),
    ],
)  # fmt: skip
def test_what_is_lost(order, found, gone):
    promised = {"channels": 10, "zeros": 0.5, "values": 16}
    file = {"channels": 10, "least_zeros": 0.5, "values_per_channel": 16, **found}
    assert composition.lost(order, file, promised) == gone


def exported(path, width=8, seed=0):
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((8, 8, 3))
    x = layers.Flatten()(layers.Conv2D(width, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Dense(2, name="logits")(x))
    shares = {"conv": 0.25, "logits": 0.75}  # half of all weights, and of one kernel too few
    for name, share in shares.items():
        kernel = model.get_layer(name).kernel
        flat = np.ones(math.prod(kernel.shape), np.float32)
        flat[: round(share * flat.size)] = 0
        kernel.assign(flat.reshape(kernel.shape))
    path.parent.mkdir(parents=True)
    export(model, path)


def test_each_kernel_must_have_its_zeros_and_a_step_must_remove_channels(tmp_path):
    for order, width in {"trained": 8, "channels": 8, "channels-zeros": 8}.items():
        exported(tmp_path / order / "model.tflite", width)
    asked = {"sparsity": 0.5, "bits": 4}
    found = composition.judged(asked, ("channels", "zeros"), tmp_path / "channels-zeros")
    assert found["zeros"] > 0.5 and found["least_zeros"] == pytest.approx(0.25)
    assert found["lost"] == ["zeros"] and found["promised"] == ["channels", "zeros"]
    found = composition.judged(asked, ("channels",), tmp_path / "channels")
    assert found["lost"] == ["channels"]


def tiny():
    data = {"name": "fashion_mini", "train": "train[:64]", "test": "test[:32]"}
    return {
        **CONFIG, "seeds": (0,), "data": data, "families": (), "chains": (), "min_agreement": 0,
        "calibration": 10, "train": {**CONFIG["train"], "epochs": 1, "batch_size": 32},
        "tune": {**CONFIG["tune"], "batch_size": 32},
    }  # fmt: skip


@pytest.mark.slow
def test_another_configuration_is_another_cell_with_files_of_its_own(tmp_path):
    experiments.run(tiny(), tmp_path, verbose=False)
    first = {path: path.read_bytes() for path in tmp_path.rglob("model.*")}
    assert len(first) == 2
    for count, change in enumerate([{"calibration": 20}, {"min_agreement": 0.01}], start=2):
        experiments.run({**tiny(), **change}, tmp_path, verbose=False)
        assert len(list(tmp_path.rglob("model.tflite"))) == count
        assert all(path.read_bytes() == was for path, was in first.items())


def test_a_run_goes_on_where_its_folder_was_moved_to(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = experiments.run(tiny(), "here", verbose=False).row("trained")
    pathlib.Path("here").rename("there")
    result = experiments.run({**tiny(), "chains": (("channels",),)}, "there", verbose=False)
    assert result.row("trained") == row and result.row("channels")["steps"] == 1


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
