"""The experiment on batch sizes: its training, its optimum, its line."""

import copy
import math

import keras
import numpy as np
import pytest

from tfeffi.errors import BadInput
from tfeffi.study import experiments
from tfeffi.study.experiments import Cells, batch_size

TOY = {
    "name": "batch_size", "experiment": "batch_size", "units": 8, "momentum": 0.9, "steps": 6,
    "data": {"name": "fashion_mini", "train": "train[:64]", "test": "test[:64]"},
    "seeds": (0, 1),
    "convolutional": {
        "data": {"name": "fashion_mini", "train": "train[:80]", "test": "test[:40]"},
        "model": {"name": "resnet_cifar", "depth": 8, "width": 2},
        "train": {
            "epochs": 2, "batch_size": 4, "learning_rate": 0.02,
            "schedule": {"name": "step", "milestones": (1,), "factor": 0.5},
        },
    },
    "variants": {},
    "sweeps": {
        "learning_rate": [
            {"learning_rate": rate, "images": 32, "batch_sizes": (2, 8, 32)}
            for rate in (0.01, 0.1, 0.2, 0.4)
        ],
        "images": [
            {"learning_rate": 0.1, "images": n, "batch_sizes": (2, 8, 16)} for n in (16, 32, 64)
        ],
    },
}  # fmt: skip


def law(config, learning_rate, images, size, seed):
    """Accuracies whose best batch size is 8 η √N."""
    best = 8 * learning_rate * math.sqrt(images)
    return 0.9 - 0.01 * math.log(size / best) ** 2 + 1e-6 * seed


def test_a_law_that_is_planted_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(batch_size, "accuracy", law)
    config = copy.deepcopy(TOY)
    for curve in (*config["sweeps"]["learning_rate"], *config["sweeps"]["images"]):
        curve["images"] *= 400
        best = 8 * curve["learning_rate"] * math.sqrt(curve["images"])
        curve["batch_sizes"] = (round(best / 3) or 1, round(best * 1.2), round(best * 2.5))
    result = experiments.run(config, tmp_path, verbose=False)
    by_rate = result.row("best batch size against learning rate")
    by_images = result.row("best batch size against training images")
    assert by_rate["slope"] == pytest.approx(1, abs=1e-6) and by_rate["points"] == 4
    assert by_images["slope"] == pytest.approx(0.5, abs=1e-6) and by_images["points"] == 3
    assert by_rate["coefficient"] == pytest.approx(8 * math.sqrt(12800), rel=1e-6)
    best = result.row("learning rate 0.4, 12800 images")
    assert best["best_batch_size"] == pytest.approx(3.2 * math.sqrt(12800), rel=1e-6)
    assert best["best_batch_size_low"] == pytest.approx(best["best_batch_size_high"])
    batch_size.draw(result, tmp_path / "drawn.png")
    assert (tmp_path / "drawn.png").stat().st_size > 10_000


def test_the_top_stays_between_its_neighbours():
    assert batch_size.best_size((1, 2, 4), (0.5, 0.9, 0.8)) == pytest.approx(2**1.3)
    assert 1 < batch_size.best_size((1, 2, 4), (0.0, 0.9, 0.9)) < 4
    assert batch_size.best_size((1, 2, 4), (0.9, 0.8, 0.7)) == 1
    assert batch_size.best_size((1, 2, 4), (0.7, 0.8, 0.9)) == 4


def test_the_interval_of_the_seeds_covers_their_optima():
    low, high = (0.9, 0.8, 0.5, 0.4), (0.4, 0.6, 0.8, 0.7)
    drawn = batch_size.resampled(np.array([low, high]))
    assert drawn.shape == (batch_size.RESAMPLED, 4)
    tops = {int(np.argmax(means)) for means in drawn}
    assert tops == {0, 1, 2}  # the first one's, their mean's, the second one's


@pytest.mark.parametrize("size", [4, 16])
def test_its_training_is_that_of_keras_s_sgd(size):
    x, y, classes = batch_size._flat("fashion_mini", "train[:64]")
    trainer = batch_size.Trainer(x.shape[1], 8, classes, 0.9)
    order = batch_size.batches(64, size, 12, seed=3)
    start = keras.models.clone_model(
        trainer.train(x, y, np.zeros((0, size), np.int32), 0.05, seed=1)
    )
    start.set_weights(trainer.model.get_weights())
    stock = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    start.compile(keras.optimizers.SGD(0.05, momentum=0.9), stock, jit_compile=False)
    for chosen in order:
        start.train_on_batch(x[chosen], y[chosen])
    for seed in (7, 1):  # what it trained before leaves no trace
        ours = trainer.train(x, y, order, 0.05, seed=seed)
    for a, b in zip(ours.get_weights(), start.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_every_epoch_has_each_example_once():
    order = batch_size.batches(10, 4, 10, seed=0).ravel()
    for epoch in range(4):
        assert sorted(order[10 * epoch : 10 * epoch + 10]) == list(range(10))


def test_it_runs_and_goes_on_where_it_was(tmp_path, monkeypatch):
    config = copy.deepcopy(TOY)
    config["sweeps"]["learning_rate"] = config["sweeps"]["learning_rate"][:1]
    with pytest.raises(BadInput, match="best batch size inside; widen their batch_sizes"):
        experiments.run(config, tmp_path, verbose=False)
    assert len(list((tmp_path / "cells").iterdir())) == 6
    monkeypatch.setattr(batch_size, "accuracy", None)
    with pytest.raises(BadInput, match="best batch size inside"):
        experiments.run(config, tmp_path, verbose=False)


def test_a_variant_is_trained_with_its_settings_and_methods(tmp_path):
    config = {**TOY, "seeds": (0,), "variants": {"grown": {"methods": [{"name": "batch_growth"}]}}}
    row = batch_size._variant_row(config, Cells(tmp_path, verbose=False), "grown")
    assert row["batch_sizes"] == [4, 8] and row["largest_batch"] == 8
    assert row["updates_mean"] == 80 // 4 + 80 // 8 and 0 <= row["accuracy_mean"] <= 1


def test_a_key_that_a_variant_cannot_change(tmp_path):
    config = {**TOY, "variants": {"wide": {"model": {"width": 8}}}}
    with pytest.raises(
        BadInput, match=r'config\.variants: "wide": unknown key "model"; .*"methods"'
    ):
        experiments.run(config, tmp_path, verbose=False)


@pytest.mark.parametrize(("images", "size"), [(32, 64), (128, 8)])
def test_more_than_there_is_says_so(images, size):
    with pytest.raises(BadInput, match=r"batch_size: .* (64|128)"):
        batch_size.accuracy(TOY, 0.1, images, size, 0)
