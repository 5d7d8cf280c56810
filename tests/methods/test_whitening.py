"""Whitening: the second moments of what the filters give are the identity; the layer is frozen."""

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from tests.train.cases import images
from tfeffi import methods
from tfeffi.data import Images
from tfeffi.errors import BadInput
from tfeffi.methods import whitening
from tfeffi.methods.whitening import whitening_filters
from tfeffi.train import Settings, fit


@settings(max_examples=10)
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 99))
def test_patches_come_out_uncorrelated_and_of_unit_power(size, channels, seed):
    rng = np.random.default_rng(seed)
    x = (rng.normal(size=(40, 9, 9, channels)) @ rng.normal(size=(channels, channels))).astype(
        "float32"
    )
    x += 0.3 * rng.normal(size=x.shape).astype("float32")
    filters = whitening_filters(x, size, epsilon=0)
    y = np.asarray(keras.ops.conv(x, filters, padding="valid")).reshape(-1, filters.shape[-1])
    np.testing.assert_allclose(y.T @ y / len(y), np.eye(filters.shape[-1]), atol=5e-3)


def test_patches_are_looked_at_a_part_at_a_time(monkeypatch):
    x = np.random.default_rng(0).normal(size=(7, 5, 5, 2)).astype("float32")
    whole = whitening_filters(x, 2)
    monkeypatch.setattr(whitening, "PATCH_VALUES", 3 * 5 * 5 * 8)  # three images
    np.testing.assert_allclose(np.abs(whitening_filters(x, 2)), np.abs(whole), atol=1e-4)


def test_epsilon_holds_back_directions_in_which_nothing_varies():
    flat = np.full((5, 6, 6, 1), 0.5, "float32")
    filters = whitening_filters(flat, 2, epsilon=1e-4)
    assert np.isfinite(filters).all() and np.abs(filters).max() <= 1e2


def colours(n=64):
    pixels = np.random.default_rng(0).integers(0, 256, (n, 8, 8, 3), "uint8")
    return Images.from_arrays(pixels, np.arange(n) % 4)


def network(filters=24, kernel=2):
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(2.0, -1.0)(inputs)
    x = layers.Conv2D(filters, kernel, name="whitening")(x)
    x = layers.Conv2D(5, 3, activation="relu", name="conv")(x)
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling2D()(x)))


def trained(model, data, **arguments):
    method = methods.build("whitening", **arguments)
    how = Settings(epochs=1, batch_size=16, learning_rate=0.01)
    return fit(model, data, settings=how, methods=[method], verbose=False).model


def test_the_layer_gets_both_signs_of_what_whitens_its_input_and_keeps_them():
    data, model = colours(), network()
    before = np.array(model.get_layer("conv").kernel)
    made = trained(model, data)
    kernel = np.array(made.get_layer("whitening").kernel)
    expected = whitening_filters(data.images / np.float32(255) * 2 - 1, 2)
    np.testing.assert_allclose(kernel[..., :12], expected, rtol=1e-3, atol=1e-3)
    np.testing.assert_array_equal(kernel[..., 12:], -kernel[..., :12])
    assert not made.get_layer("whitening").trainable
    assert not np.array_equal(made.get_layer("conv").kernel, before)


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (network(), {"layer": "stem"}, 'no layer "stem" in the model'),
        (network(), {"layer": "conv"}, "has 5 filters; both signs of its 3x3x24 patches need 432"),
        (network(20), {}, "has 20 filters; both signs of its 2x2x3 patches need 24"),
        (network(24, (2, 3)), {}, "must be a Conv2D with a square kernel"),
        (network(), {"images": 0}, "images=0 must be a whole number of at least 1"),
        (network(), {"epsilon": 0.0}, "epsilon=0.0 must be above 0"),
        (network(), {"epsilon": "x"}, "epsilon='x' must be above 0"),
    ],
)
def test_bad_input(model, arguments, message):
    with pytest.raises(BadInput, match=message):
        trained(model, colours(), **arguments)


def test_another_number_of_channels():
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(8, 2, name="whitening")(inputs)
    model = keras.Model(inputs, layers.Dense(4)(layers.Flatten()(x)))
    made = trained(model, images(64))
    assert made.get_layer("whitening").kernel.shape == (2, 2, 1, 8)
