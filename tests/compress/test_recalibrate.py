"""New statistics: those of the data, each layer seeing what the new statistics before it give."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.compress import cases
from tfeffi import data
from tfeffi.compress import Budget, prune, recalibrate
from tfeffi.errors import BadInput


def scrambled():
    """A model whose statistics have nothing to do with what its layers see."""
    keras.utils.set_random_seed(0)
    model = cases.built("resnet8_mlperf_tiny")
    random = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            size = layer.moving_mean.shape
            layer.moving_mean.assign(random.normal(size=size))
            layer.moving_variance.assign(random.uniform(1, 9, size))
    return model


def test_one_layer_gets_mean_and_variance_of_the_data():
    model = keras.Sequential([keras.Input((5,)), keras.layers.BatchNormalization(momentum=0.9)])
    x = np.random.default_rng(0).normal(3, 2, (60, 5)).astype("float32")
    made, report = recalibrate(model, x)
    layer = made.layers[-1]
    np.testing.assert_allclose(layer.moving_mean, x.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance, x.var(0), rtol=1e-4)
    assert layer.momentum == 0.9 and report.changed[0].before == "variance 1"


def test_on_one_batch_the_result_answers_as_in_training():
    """Batch statistics, all the way down: what Keras itself computes with training=True."""
    model = scrambled()
    x = cases.images(model, 16)
    before = model.get_weights()
    made, _ = recalibrate(model, x)
    assert all(map(np.array_equal, before, model.get_weights()))
    wanted = np.asarray(model(x, training=True))
    given = np.asarray(made(x, training=False))
    np.testing.assert_allclose(given, wanted, rtol=1e-3, atol=1e-4 * np.abs(wanted).max())


def test_batches_count_alike_and_dropout_stays_off():
    inputs = keras.Input((4,))
    x = keras.layers.Dropout(0.9)(inputs)
    model = keras.Model(inputs, keras.layers.BatchNormalization()(x))
    values = np.random.default_rng(0).normal(size=(90, 4)).astype("float32")
    batches = tf.data.Dataset.from_tensor_slices(values).batch(30)
    made, _ = recalibrate(model, batches)
    np.testing.assert_allclose(made.layers[-1].moving_mean, values.mean(0), atol=1e-6)
    variance = values.reshape(3, 30, 4).var(1).mean(0)
    np.testing.assert_allclose(made.layers[-1].moving_variance, variance, rtol=1e-4)


def test_a_last_small_batch_counts_for_as_much_less():
    inputs = keras.Input((4,))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    values = np.random.default_rng(0).normal(size=(257, 4)).astype("float32")
    made, _ = recalibrate(model, values)  # 256 and 1
    np.testing.assert_allclose(made.layers[-1].moving_mean, values.mean(0), atol=1e-5)


def test_nested_models_are_measured_inside():
    inner = keras.Sequential([keras.Input((4,)), keras.layers.BatchNormalization(name="inner")])
    inputs = keras.Input((4,))
    x = keras.layers.BatchNormalization(name="outer")(inputs)
    values = np.random.default_rng(0).normal(3, 2, (64, 4)).astype("float32")
    for model in (keras.Model(inputs, inner(x)), keras.Model(inputs, inner(inputs))):
        made, report = recalibrate(model, values)
        assert report.changed[-1].layer == "inner"
        np.testing.assert_allclose(made(values), model(values, training=True), atol=1e-3)


def test_it_repairs_a_pruned_network():
    """Agreement with the original on other images is higher than without."""
    keras.utils.set_random_seed(0)
    images, other = (
        data.load("fashion_mini", "train[:600]"),
        data.load("fashion_mini", "test[:300]"),
    )
    inputs = keras.Input((28, 28, 1))
    x = inputs
    for filters in (16, 32):
        x = keras.layers.Conv2D(filters, 3, strides=2, use_bias=False)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.ReLU()(x)
    model = keras.Model(inputs, keras.layers.Dense(10)(keras.layers.Flatten()(x)))
    model, _ = recalibrate(model, images)
    small, _ = prune(model, Budget(macs=0.4), importance="l2")
    repaired, _ = recalibrate(small, images)
    x = other.images.astype("float32") / 255
    wanted = np.asarray(model(x))
    errors = [np.square(np.asarray(m(x)) - wanted).mean() for m in (small, repaired)]
    assert errors[1] < errors[0]


def test_bad_input():
    model = scrambled()
    with pytest.raises(BadInput, match="has no batch normalization"):
        recalibrate(cases.built("mnist_classifier"), np.zeros((4, 28, 28, 1), "float32"))
    with pytest.raises(BadInput, match="empty"):
        recalibrate(model, np.zeros((0, 32, 32, 3), "float32"))
    with pytest.raises(BadInput, match="is not built"):
        recalibrate(keras.Sequential([keras.layers.Dense(3)]), np.zeros((4, 2), "float32"))
    with pytest.raises(BadInput, match="the data has shape"):
        recalibrate(model, np.zeros((4, 8, 8, 3), "float32"))
    with pytest.raises(BadInput, match="not finite"):
        recalibrate(model, np.full((4, 32, 32, 3), np.nan, "float32"))
