"""The sprint as an experiment: rows from small trainings, what an ablation changes, cells kept."""

import importlib.util
import pathlib

import numpy as np
import pytest

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.models import sprint_cnn
from tfeffi.study import experiments
from tfeffi.study.experiments import Cells, sprint
from tfeffi.train import Settings
from tfeffi.train.experiment import build_model

CONFIG = pathlib.Path(__file__).parents[2] / "configs" / "cifar10_sprint.py"
SMALL = {
    "name": "tiny",
    "experiment": "sprint",
    "seed": 3,
    "replicates": 1,
    "data": {"name": "fashion_mini", "train": "train[:64]", "test": "test[:40]"},
    "model": {"name": "sprint_cnn", "width_multiplier": 0.0625},
    "train": {
        "epochs": 2, "batch_size": 32, "learning_rate": 0.24, "label_smoothing": 0.2,
        "optimizer": {"name": "convolution_muon", "vector_rate": 10.0, "matrix_rate": 50.0},
        "augment": {"translate": 2, "flip": "alternate"}, "test_views": "flip_and_move",
    },
    "methods": [{"name": "whitening"}, {"name": "progressive_resizing", "sizes": ((0, 20), (1, 28))}],
    "ablation_replicates": 1,
    "ablations": {"full size": {"methods": [{"name": "whitening"}]}},
    "stock": {
        "model": {"name": "resnet_cifar", "depth": 8, "width": 4, "input_shape": (28, 28, 1),
                  "num_classes": 10},
        "data": {"name": "fashion_mini", "train": "train[:64]", "test": "test[:40]"},
        "batch_size": 16, "epochs": 10, "measured_epochs": 2,
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sprint")
    result = experiments.run(SMALL, folder, verbose=False)
    again = list(sprint.measure(SMALL, Cells(folder, verbose=False)))
    assert [row["name"] for row in again] == [row["name"] for row in result.rows]
    assert again[0]["train_seconds_mean"] == result.rows[0]["train_seconds_mean"]  # kept
    return {row["name"]: row for row in result.rows}


def test_a_row_for_the_recipe_each_ablation_and_stock_keras(rows):
    assert list(rows) == ["tiny", "full size", "stock Keras"]
    assert (rows["tiny"]["n"], rows["full size"]["n"]) == (1, 1)
    assert len(rows["tiny"]["accuracies"]) == 1 and rows["tiny"]["epochs"] == 2
    for row in list(rows.values())[:2]:
        assert 0 <= row["accuracy_mean"] <= 1 and 0 <= row["accuracy_one_view_mean"] <= 1


def test_compute_is_counted_at_the_size_of_each_epoch(rows):
    model = build_model(SMALL["model"], sprint.experiment.load_splits(SMALL["data"]).train)
    full = cost(model).macs
    assert rows["full size"]["train_macs"] == 2 * 64 * 3 * full
    assert rows["tiny"]["train_macs"] < 0.8 * rows["full size"]["train_macs"]
    for row in rows.values():
        assert row["pflop"] == pytest.approx(2e-15 * row["train_macs"])


def test_stock_keras_is_extrapolated_and_says_so(rows):
    stock = rows["stock Keras"]
    assert (stock["measured_epochs"], stock["epochs"]) == (2, 10)
    assert stock["train_seconds"] == pytest.approx(stock["step_ms"] / 1e3 * 4 * 10)
    seconds = rows["tiny"]["train_seconds_mean"] + rows["tiny"]["compile_seconds_mean"]
    faster = stock["train_seconds"] / seconds
    assert rows["tiny"]["times_faster_than_stock"] == pytest.approx(faster)


def test_an_ablation_changes_what_it_names_and_nothing_else():
    recipe = sprint.changed(SMALL, {"train": {"epochs": 3}, "methods": []})
    assert recipe["train"] == SMALL["train"] | {"epochs": 3}
    assert (recipe["methods"], recipe["model"]) == ([], SMALL["model"])
    assert sprint.changed(SMALL, {})["methods"] == SMALL["methods"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"ablations": {"b": {"method": ()}}},
            'config.ablations: "b": unknown key "method"; .*"methods"',
        ),
        ({"ablation_replicates": 0}, "ablation_replicates=0 must be a whole number of at least 1"),
        ({"train": 3}, "section train=3 must be a mapping"),
        (
            {"stock": {**SMALL["stock"], "measured_epochs": 0}},
            "stock.measured_epochs=0 must be a whole number",
        ),
        ({"stock": {"epochs": 2}}, "config.stock: model is missing; it has model, data, "),
        ({"stock": {"steps": 2}}, 'config.stock: unknown key "steps"'),
        (
            {"ablations": {"b": {"train": {"epoch": 1}}}},
            'config.ablations: "b": train settings: unknown key "epoch"',
        ),
        ({"ablations": {"b": {"methods": [{"layer": "x"}]}}}, '"b": config: .* needs a "name"'),
        ({"ablations": {"b": {"train": {"seed": 1}}}}, '"b": config: train.seed=1 would not be'),
        ({"ablations": {"b": {"train": {"batch_size": 65}}}}, '"b": .*batch_size=65'),
        (
            {"ablations": {"b": {"methods": [{"name": "keep_zeros"}, {"name": "prune_train"}]}}},
            '"b": .*exclude each other',
        ),
        (
            {"ablations": {"b": {"train": {"schedule": {"name": "constant", "warmup_epochs": 3}}}}},
            '"b": .*warmup_epochs=3',
        ),
    ],
)
def test_what_cannot_be_trained_is_said_before_anything_is(tmp_path, changes, words):
    with pytest.raises(BadInput, match=words):
        experiments.run({**SMALL, **changes}, tmp_path, verbose=False)
    assert not list(tmp_path.iterdir())


def test_the_config_is_within_the_compute_it_claims():
    spec = importlib.util.spec_from_file_location("sprint_config", CONFIG)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    Settings.from_mapping(config.train.to_dict())
    (growing,) = (one for one in config.methods if one["name"] == "progressive_resizing")
    begins, sides = zip(*growing["sizes"], strict=True)
    epochs = np.diff([*begins, config.train.epochs])
    models = [sprint_cnn.build(input_shape=(side, side, 3), num_classes=10) for side in sides]
    macs = [cost(model).macs for model in models]
    assert 6 * 50_000 * np.dot(epochs, macs) == pytest.approx(0.270e15, rel=2e-3)
