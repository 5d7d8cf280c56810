"""FusedActivation: Keras's values and gradients, in one compiled loop; in files a plain Activation."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfeffi.layers import FusedActivation, FusedBatchNormalization, exchange

X = np.concatenate([np.linspace(-8, 8, 256), [1e-2, -1e-3, 1e-3, 30, -30]]).astype("float32")


def value_and_gradient(layer, x):
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x)
        total = tf.reduce_sum(tf.cast(y, tf.float32) * tf.range(len(x), dtype=tf.float32))
    return np.asarray(tf.cast(y, tf.float32)), np.asarray(tape.gradient(total, x)), y.dtype


@pytest.mark.parametrize("name", FusedActivation.POINTWISE)
def test_value_and_gradient_are_those_of_keras(name):
    ours = value_and_gradient(FusedActivation(name), X)
    theirs = value_and_gradient(layers.Activation(name), X)
    np.testing.assert_allclose(ours[0], theirs[0], rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(ours[1], theirs[1], rtol=2e-5, atol=2e-4)


@pytest.mark.parametrize("name", ["gelu", "silu"])
def test_bfloat16_is_rounded_once(name):
    ours, _, dtype = value_and_gradient(FusedActivation(name, dtype="mixed_bfloat16"), X)
    assert dtype == tf.bfloat16
    rounded = tf.cast(X, tf.bfloat16)
    exact = tf.cast(keras.activations.get(name)(tf.cast(rounded, tf.float32)), tf.bfloat16)
    np.testing.assert_allclose(ours, np.asarray(tf.cast(exact, tf.float32)), rtol=2**-7, atol=1e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", FusedActivation.POINTWISE)
def test_all_numbers_of_sixteen_bits_are_as_computed(name, dtype):
    every = tf.bitcast(tf.cast(tf.range(2**16), tf.uint16), dtype)
    layer = FusedActivation(name, dtype=dtype)

    @tf.function(jit_compile=True)
    def computed(x, upstream):
        x = tf.cast(x, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer.activation(x)
        gradient = tape.gradient(y, x) * tf.cast(upstream, tf.float32)
        return tf.cast(y, dtype), tf.cast(gradient, dtype)

    for upstream in (1.0, -3.3):
        upstream = tf.fill(every.shape, tf.cast(upstream, dtype))
        with tf.GradientTape() as tape:
            tape.watch(every)
            y = layer(every)
        found = y, tape.gradient(y, every, output_gradients=upstream)
        for ours, wanted in zip(found, computed(every, upstream), strict=True):
            both = tf.math.is_nan(ours) & tf.math.is_nan(wanted)
            same = tf.bitcast(ours, tf.uint16) == tf.bitcast(wanted, tf.uint16)
            assert ours.dtype == every.dtype and np.all(both | same)


def test_second_derivatives_are_computed():
    layer = FusedActivation("gelu", dtype="bfloat16")
    x = tf.cast(np.linspace(-2, 2, 9), tf.bfloat16)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = layer(x)
        slope = inner.gradient(y, x)
    x32 = np.asarray(tf.cast(x, tf.float32))
    wanted = (2 - x32**2) * np.exp(-(x32**2) / 2) / np.sqrt(2 * np.pi)
    found = tf.cast(outer.gradient(slope, x), tf.float32)
    np.testing.assert_allclose(found, wanted, rtol=2**-6, atol=1e-2)


def test_a_graph_may_be_the_first_to_use_it():
    def gelu(x):  # no other test's
        return keras.activations.gelu(x)

    layer, x = FusedActivation(gelu, dtype="bfloat16"), tf.cast(X, tf.bfloat16)

    @tf.function
    def gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x)

    found = tf.cast(gradient(x), tf.float32)
    wanted = value_and_gradient(layers.Activation("gelu"), np.asarray(tf.cast(x, tf.float32)))[1]
    slopes = wanted / np.maximum(np.arange(len(X)), 1)
    np.testing.assert_allclose(found[1:], slopes[1:], rtol=2**-7, atol=2e-3)


@pytest.mark.parametrize("name", ["relu", "softmax", "linear"])
def test_the_rest_is_keras_own(name):
    x = X[:250].reshape(5, 50)
    np.testing.assert_array_equal(FusedActivation(name)(x), layers.Activation(name)(x))


def test_in_a_model_it_is_exchanged_with_batch_normalization_and_saved_as_keras_own(tmp_path):
    inputs = keras.Input((6, 6, 2))
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(4, 3, name="conv")(inputs))
    model = keras.Model(inputs, layers.Activation("gelu", name="act")(x))
    classes = {"BatchNormalization": FusedBatchNormalization, "Activation": FusedActivation}
    made = exchange(model, classes)
    kinds = {layer.name: type(layer) for layer in made.layers}
    assert (kinds["bn"], kinds["act"]) == (FusedBatchNormalization, FusedActivation)
    assert made.get_config() == model.get_config()
    images = np.random.default_rng(0).normal(size=(3, 6, 6, 2)).astype("float32")
    np.testing.assert_allclose(made(images), model(images), atol=1e-6)
    made.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.get_layer("act")) is layers.Activation
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)
