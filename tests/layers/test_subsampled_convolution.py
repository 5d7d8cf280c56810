"""SubsampledConv: Keras's outputs and gradients, whatever the strides; where it goes its own way."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from tfeffi.layers import PackedConv2D, SubsampledConv1D, SubsampledConv2D, exchange


def strided(layer, x):
    """Whether a convolution with strides is in the graph of the layer."""
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec((None, *x.shape[1:]))).graph
    convolutions = [op for op in graph.get_operations() if op.type == "Conv2D"]
    assert len(convolutions) == 1
    return any(stride > 1 for stride in convolutions[0].get_attr("strides"))


def both(kind, x, **options):
    """Outputs and gradients by Keras's layer and by ours, and the two layers."""
    found, made = [], []
    for each in (kind.__mro__[2], kind):
        options["kernel_initializer"] = keras.initializers.RandomUniform(seed=1)
        layer = each(5, name="conv", **options)
        images = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(images)
            y = layer(images)
            total = tf.reduce_sum(
                tf.sin(tf.range(tf.size(y), dtype="float32")) * tf.reshape(y, [-1])
            )
        found.append([y, *tape.gradient(total, [images, *(v.value for v in layer.weights)])])
        made.append(layer)
    return found, made


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(8, 20),  # of fewer, Keras's gradient is no oracle
    groups=st.sampled_from([1, 5]),
    padding=st.sampled_from(["same", "valid"]),
)
def test_outputs_and_gradients_are_those_of_keras(size, strides, channels, groups, padding):
    channels = 5 * (channels // 5) if groups == 5 else channels
    x = np.random.default_rng(0).normal(size=(3, *size, channels)).astype("float32")
    options = {"kernel_size": 1, "strides": strides, "groups": groups, "padding": padding}
    (theirs, ours), _ = both(SubsampledConv2D, x, **options)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
@pytest.mark.parametrize("length", [1, 7, 8])
def test_in_one_dimension(padding, length):
    x = np.random.default_rng(0).normal(size=(3, length, 10)).astype("float32")
    (theirs, ours), layers = both(SubsampledConv1D, x, kernel_size=1, strides=3, padding=padding)
    for one, other in zip(theirs, ours, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert not strided(layers[1], x)


@pytest.mark.parametrize("kind", [SubsampledConv2D, PackedConv2D])
@pytest.mark.parametrize(
    "kernel, channels, keeps", [(1, 15, False), (1, 16, True), (3, 4, True), ((1, 3), 4, True)]
)
def test_what_keeps_its_strides(kind, kernel, channels, keeps):
    layer = kind(4, kernel, strides=2)
    assert strided(layer, np.ones((2, 8, 8, channels), "float32")) is keeps


def test_models_come_back_with_keras_in_their_files(tmp_path):
    inputs = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 1, strides=2)(inputs)
    x = keras.layers.Conv1D(3, 1, strides=2)(keras.layers.Reshape((16, 6))(x))
    model = keras.Model(inputs, x)
    made = exchange(model, {"Conv1D": SubsampledConv1D, "Conv2D": SubsampledConv2D})
    assert sum(isinstance(layer, keras.layers.Conv2D) for layer in made.layers) == 1
    x = np.random.default_rng(0).normal(size=(2, 8, 8, 4)).astype("float32")
    np.testing.assert_allclose(made(x), model(x), atol=1e-6)
    made.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert {type(layer).__module__.split(".")[0] for layer in loaded.layers} == {"keras"}
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
