"""Distillation: the student comes to answer as the teacher does, and nobody needs a label."""

import keras
import numpy as np
import pytest

from tfeffi import data
from tfeffi.compress import Budget, cluster, distill, prune, sparsify
from tfeffi.errors import BadInput


def teacher(softmax=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((28, 28, 1))
    x = keras.layers.Conv2D(16, 5, strides=3, activation="relu")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Conv2D(16, 3, strides=2, activation="relu")(x)
    x = keras.layers.Dense(10, activation="softmax" if softmax else None)(keras.layers.Flatten()(x))
    model = keras.Model(inputs, x)
    model.layers[-1].kernel.assign(8 * model.layers[-1].kernel)  # some classes are likelier
    return model


def agreement(one, other, images):
    x = images.images.astype("float32") / 255
    return float((np.asarray(one(x)).argmax(-1) == np.asarray(other(x)).argmax(-1)).mean())


@pytest.mark.parametrize("softmax", [False, True])
def test_a_pruned_model_comes_back_to_its_original(softmax):
    images, other = (
        data.load("fashion_mini", "train[:1500]"),
        data.load("fashion_mini", "test[:500]"),
    )
    model = teacher(softmax)
    small, _ = prune(model, Budget(macs=0.5), importance="l2", multiple_of=1)
    before = [weight.copy() for weight in small.get_weights()]
    made, report = distill(small, model, images, epochs=4, learning_rate=0.02)
    losses = report.settings["losses"]
    assert losses[-1] < 0.5 * losses[0] and report.settings["images"] == 1500
    assert agreement(made, model, other) > agreement(small, model, other) + 0.2
    assert all(map(np.array_equal, before, small.get_weights()))
    assert {type(layer).__module__.split(".")[0] for layer in made.layers} == {"keras"}


def test_the_teacher_taught_by_itself_has_nothing_to_learn():
    model, x = teacher(), np.random.default_rng(0).random((64, 28, 28, 1), np.float32)
    made, report = distill(
        model, model, x, epochs=1, batch_size=32, freeze_statistics=True, temperature=3.0
    )
    assert abs(report.settings["losses"][0]) < 1e-5
    np.testing.assert_allclose(made(x), model(x), atol=1e-3)


def test_the_loss_is_the_softened_divergence():
    """One step with a rate of almost nothing shows the loss of the models as they are."""
    one, x = teacher(), np.random.default_rng(0).random((32, 28, 28, 1), np.float32)
    other = keras.models.clone_model(one)
    _, report = distill(
        one, other, x, epochs=1, batch_size=32, learning_rate=1e-9, temperature=2.0,
        freeze_statistics=True,
    )  # fmt: skip
    given, wanted = (np.asarray(m(x), np.float64) / 2 for m in (one, other))
    given, wanted = (z - np.log(np.exp(z).sum(-1, keepdims=True)) for z in (given, wanted))
    divergence = 4 * (np.exp(wanted) * (wanted - given)).sum(-1).mean()
    assert report.settings["losses"][0] == pytest.approx(divergence, rel=1e-4)


def test_frozen_statistics_stay():
    model, x = teacher(), np.random.default_rng(0).random((32, 28, 28, 1), np.float32)
    for frozen in (True, False):
        made, _ = distill(
            model, model, x, epochs=1, batch_size=16, freeze_statistics=frozen, learning_rate=1e-6
        )
        assert np.array_equal(made.layers[2].moving_mean, model.layers[2].moving_mean) is frozen


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epochs": 0}, "epochs=0"),
        ({"batch_size": 2.5}, "batch_size=2.5"),
        ({"learning_rate": -1.0}, "learning_rate=-1.0"),
        ({"temperature": 0}, "temperature=0"),
        ({"batch_size": 64}, "8 images do not fill a batch of 64"),
        ({"learning_rate": 1e12, "epochs": 3, "batch_size": 2}, "loss is not finite"),
    ],
)
def test_bad_numbers(arguments, message):
    x = np.random.default_rng(0).random((8, 28, 28, 1), np.float32)
    other = teacher()
    other.layers[-1].kernel.assign(-other.layers[-1].kernel)
    with pytest.raises(BadInput, match=message):
        distill(teacher(), other, x, **arguments)


def test_other_classes():
    x = keras.Input((28, 28, 1))
    other = keras.Model(x, keras.layers.Dense(3)(keras.layers.Flatten()(x)))
    with pytest.raises(BadInput, match=r"to \(None, 3\), the teacher .* same images and classes"):
        distill(other, teacher(), np.zeros((8, 28, 28, 1), "float32"))


def test_what_is_no_classifier_of_one_input():
    x, other = keras.Input((3,)), keras.Input((3,))
    sigmoid = keras.Model(x, keras.layers.Dense(1, activation="sigmoid")(x))
    two = keras.Model([x, other], keras.layers.Dense(4)(keras.layers.Add()([x, other])))
    unbuilt = keras.Sequential([keras.layers.Dense(4)])
    values = np.zeros((64, 3), "float32")
    for model, says in ((sigmoid, "classes"), (two, "several inputs"), (unbuilt, "not built")):
        with pytest.raises(BadInput, match=says):
            distill(model, model, values)


def test_labels_have_the_rest_of_the_loss():
    one = teacher()
    random = np.random.default_rng(0)
    x, labels = random.random((32, 28, 28, 1), np.float32), random.integers(0, 10, 32)
    _, report = distill(
        one, one, (x, labels), epochs=1, batch_size=32, learning_rate=1e-9, alpha=0.25,
        freeze_statistics=True,
    )  # fmt: skip
    scores = np.asarray(one(x), np.float64)
    given = scores - np.log(np.exp(scores).sum(-1, keepdims=True))
    crossed = -given[np.arange(32), labels].mean()
    assert report.settings["losses"][0] == pytest.approx(0.75 * crossed, rel=1e-3)


def test_zeros_and_shared_values_stay():
    model, x = teacher(), np.random.default_rng(0).random((64, 28, 28, 1), np.float32)
    small = cluster(sparsify(model, 0.5, scope="layer")[0], 3, preserve_sparsity=True)[0]
    made, _ = distill(small, model, x, epochs=2, batch_size=32, learning_rate=1e-3)
    moved = 0
    for before, after in zip(small.trainable_variables, made.trainable_variables, strict=True):
        before, after = np.asarray(before), np.asarray(after)
        if before.ndim > 1:
            np.testing.assert_array_equal(before == 0, after == 0)
            assert np.unique(after).size <= 8
            moved += int((before != after).sum())
    assert moved


@pytest.mark.parametrize(
    ("labels", "message"),
    [(None, "alpha below 1 needs labels"), (np.full(64, 10), "whole numbers from 0 to 9")],
)
def test_labels_that_cannot_be_used(labels, message):
    x = np.zeros((64, 28, 28, 1), np.float32)
    with pytest.raises(BadInput, match=message):
        distill(teacher(), teacher(), x if labels is None else (x, labels), alpha=0.5)
