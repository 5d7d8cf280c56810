"""PackedConv2D: Keras's outputs and gradients; images side by side do not see each other."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tfeffi.layers import PackedConv2D, exchange
from tfeffi.layers.packed_convolution import convolve_packed, packed


def gradients(function, *values):
    values = [tf.constant(value) for value in values]
    with tf.GradientTape() as tape:
        tape.watch(values)
        y = function(*values)
        total = tf.reduce_sum(tf.sin(tf.range(tf.size(y), dtype=y.dtype)) * tf.reshape(y, [-1]))
    return y, *tape.gradient(total, values)


@settings(max_examples=25)
@given(
    images=st.integers(1, 9),
    height=st.integers(1, 5),
    width=st.integers(1, 8),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    seed=st.integers(0, 99),
)
def test_outputs_and_gradients_are_those_of_the_plain_convolution(
    images, height, width, kernel, seed
):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(images, height, width, 3)).astype("float32")
    k = rng.normal(size=(*kernel, 3, 2)).astype("float32")
    ours = gradients(convolve_packed, x, k)
    theirs = gradients(lambda x, k: tf.nn.conv2d(x, k, 1, "SAME"), x, k)
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)


def test_where_the_images_lie():
    x = np.arange(1, 13, dtype="float32").reshape(3, 2, 2, 1)
    rows = np.asarray(packed(tf.constant(x), 2, 1))[..., 0]
    np.testing.assert_array_equal(rows[0], [[1, 2, 0, 5, 6, 0], [3, 4, 0, 7, 8, 0]])
    np.testing.assert_array_equal(rows[1], [[9, 10, 0, 0, 0, 0], [11, 12, 0, 0, 0, 0]])


def layer_of(kind, **options):
    options = {
        "filters": 128,
        "kernel_size": 3,
        "padding": "same",
        "dtype": "mixed_bfloat16",
    } | options
    layer = kind(
        name="conv", kernel_initializer=keras.initializers.RandomUniform(seed=1), **options
    )
    layer.build((None, 6, 6, 128))
    return layer


@pytest.mark.parametrize("options", [{}, {"use_bias": False}, {"activation": "relu"}])
def test_the_layer_in_bfloat16(options):
    """As near to float32 as Keras's layer, which without AVX-512 sums in bfloat16."""
    x = tf.cast(np.random.default_rng(0).normal(size=(5, 6, 6, 128)), "bfloat16")
    kinds = [
        (PackedConv2D, "mixed_bfloat16"),
        (layers.Conv2D, "mixed_bfloat16"),
        (layers.Conv2D, "float32"),
    ]
    found = []
    for kind, dtype in kinds:
        layer = layer_of(kind, **options, dtype=dtype)
        layer.kernel.assign(tf.cast(tf.cast(layer.kernel.value, "bfloat16"), "float32"))
        inputs = tf.cast(x, layer.compute_dtype)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = layer(inputs)
            total = tf.reduce_sum(tf.square(tf.cast(y, "float32")))
        results = [y, *tape.gradient(total, [inputs, *layer.trainable_weights])]
        found.append([np.float64(tf.cast(result, "float32")) for result in results])
    for ours, theirs, exact in zip(*found, strict=True):
        rounding = max(1.2 * np.linalg.norm(theirs - exact), 4e-3 * np.linalg.norm(exact))
        assert np.linalg.norm(ours - exact) < rounding < 0.05 * np.linalg.norm(exact)


@pytest.mark.parametrize(
    ("options", "shape"),
    [
        ({}, (4, 6, 6, 128)),
        ({"dtype": "float32"}, (4, 6, 6, 128)),
        ({"strides": 2}, (4, 6, 6, 128)),
        ({"padding": "valid"}, (4, 6, 6, 128)),
        ({"dilation_rate": 2}, (4, 6, 6, 128)),
        ({"groups": 2}, (4, 6, 6, 128)),
        ({"kernel_size": 1}, (4, 6, 6, 128)),
        ({"filters": 64}, (4, 6, 6, 128)),
        ({}, (4, 6, 9, 128)),
        ({}, (4, 6, None, 128)),
    ],
)
def test_what_is_packed_and_what_is_left(options, shape):
    layer = layer_of(PackedConv2D, **options)
    expected = not options and shape[2] == 6 and not tf.config.list_physical_devices("GPU")
    assert layer._packs(keras.KerasTensor(shape, layer.compute_dtype)) is expected


def test_in_a_file_it_is_a_plain_convolution(tmp_path):
    inputs = keras.Input((6, 6, 128))
    model = keras.Model(inputs, layers.Conv2D(128, 3, padding="same", name="conv")(inputs))
    made = exchange(model, {"Conv2D": PackedConv2D})
    assert type(made.get_layer("conv")) is PackedConv2D
    assert made.get_config() == model.get_config()
    made.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded.get_layer("conv")) is layers.Conv2D
    x = np.random.default_rng(0).normal(size=(2, 6, 6, 128)).astype("float32")
    np.testing.assert_allclose(loaded(x), model(x), atol=1e-6)
