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
    spec = tf.TensorSpec((None,) * (x.ndim - 1) + x.shape[-1:])  # of any batch and size
    graph = tf.function(layer).get_concrete_function(spec).graph
    convolutions = [op for op in graph.get_operations() if op.type == "Conv2D"]
    assert len(convolutions) == 1
    return any(stride > 1 for stride in convolutions[0].get_attr("strides"))


def gradients(layer, convolve, x):
    """Outputs, and the gradients of the inputs and of the kernel."""
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        y = convolve(images)
        total = tf.reduce_sum(tf.sin(tf.range(tf.size(y), dtype="float32")) * tf.reshape(y, [-1]))
    return y, *tape.gradient(total, [images, layer.kernel.value])


def by_products(layer, groups=1):
    """The same convolution, as matrix products: Keras's own gradient is no oracle.

    Of matrices: with oneDNN, TensorFlow 2.21 corrupts memory in those of rank 4 and 2 (issue 117700).
    """
    kept = (slice(None), *(slice(None, None, stride) for stride in layer.strides))

    def convolve(images):
        parts = tf.split(images[kept], groups, axis=-1)
        kernels = tf.split(tf.reshape(layer.kernel.value, layer.kernel.shape[-2:]), groups, axis=-1)
        pairs = zip(parts, kernels, strict=True)
        return tf.concat([tf.tensordot(x, k, 1) for x, k in pairs], axis=-1)

    return convolve


@settings(max_examples=40)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    strides=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    channels=st.integers(1, 15),
    groups=st.sampled_from([1, 5]),
    padding=st.sampled_from(["same", "valid"]),
)
def test_outputs_and_gradients_are_those_of_products(size, strides, channels, groups, padding):
    channels = channels if groups == 1 else 5 * (1 + channels // 7)
    x = np.random.default_rng(0).normal(size=(3, *size, channels)).astype("float32")
    layer = SubsampledConv2D(
        5, 1, strides=strides, groups=groups, padding=padding, kernel_initializer="random_normal"
    )
    layer.build(x.shape)
    ours, theirs = (gradients(layer, one, x) for one in (layer, by_products(layer, groups)))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("padding", ["same", "valid", "causal"])
@pytest.mark.parametrize("length", [1, 7, 8])
def test_in_one_dimension(padding, length):
    x = np.random.default_rng(0).normal(size=(3, length, 4)).astype("float32")
    layer = SubsampledConv1D(5, 1, strides=3, padding=padding)
    layer.build(x.shape)
    ours, theirs = (gradients(layer, one, x) for one in (layer, by_products(layer)))
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4)
    assert not strided(layer, x)


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
