"""Folded batch normalization: the numbers of Keras's own layer, for widths of any kind."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.layers.test_fused_batch_normalization import HALF, assert_twins_agree, images
from tfeffi.layers.folded_normalization import fold_of, normalize_folded


@pytest.mark.parametrize("precision", HALF)
@pytest.mark.parametrize("channels", [1, 3, 8, 11, 12, 24])
@pytest.mark.parametrize("compiled", [None, False])
def test_it_computes_what_keras_computes(precision, channels, compiled):
    shape = (6, 8, 4, channels)
    x = tf.cast(images(shape), precision.removeprefix("mixed_"))
    assert fold_of(x) == 16 // np.gcd(16, channels)
    assert_twins_agree(
        shape, x, True, 4 * HALF[precision], compiled=compiled, dtype=precision, epsilon=1e-2
    )


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}])
def test_without_scale_or_offset(options):
    x = tf.cast(images((4, 4, 4, 5)), "bfloat16")
    assert_twins_agree(
        x.shape, x, True, 4 * HALF["mixed_bfloat16"], dtype="mixed_bfloat16", **options
    )


def test_gradients_are_those_of_the_formula_in_float64():
    rng = np.random.default_rng(0)
    x = tf.cast(rng.normal(1.0, 2.0, (4, 4, 8, 3)), "bfloat16")
    upstream = tf.cast(rng.normal(size=x.shape), "bfloat16")
    gamma, beta = (tf.constant(rng.uniform(0.5, 2, 3), tf.float32) for _ in range(2))
    with tf.GradientTape() as tape:
        tape.watch([x, gamma, beta])
        y, mean, variance = normalize_folded(x, gamma, beta, 1e-3, 16)
    found = tape.gradient(y, [x, gamma, beta], upstream)
    exact = [tf.cast(one, "float64") for one in (x, gamma, beta)]
    with tf.GradientTape() as tape:
        tape.watch(exact)
        mu, var = tf.nn.moments(exact[0], [0, 1, 2])
        wanted_y = (exact[0] - mu) * tf.math.rsqrt(var + 1e-3) * exact[1] + exact[2]
    wanted = tape.gradient(wanted_y, exact, tf.cast(upstream, "float64"))
    np.testing.assert_allclose(np.float64(mean), mu, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(np.float64(variance), var, rtol=1e-4)
    for one, other in zip((y, *found), (wanted_y, *wanted), strict=True):
        assert np.linalg.norm(np.float64(one) - other) < 3e-3 * np.linalg.norm(other)


def test_what_it_leaves_to_the_kernel():
    def shaped(*shape, dtype="bfloat16"):
        return tf.zeros(shape, dtype)

    assert fold_of(shaped(2, 4, 4, 16)) is None and fold_of(shaped(2, 4, 4, 32)) is None
    assert fold_of(shaped(2, 4, 4, 12, dtype="float32")) is None
    assert fold_of(shaped(2, 7, 7, 12)) is None  # 49 positions are not fours
    open_size = keras.KerasTensor((2, None, 4, 12), "bfloat16")
    assert fold_of(tf.TensorSpec(open_size.shape, tf.bfloat16)) is None


def test_the_size_of_the_batch_may_be_open():
    @tf.function(input_signature=[tf.TensorSpec((None, 4, 4, 6), tf.bfloat16)])
    def run(x):
        return normalize_folded(x, tf.ones(6), tf.zeros(6), 1e-3, 8)

    y, mean, variance = run(tf.cast(images((3, 4, 4, 6)), "bfloat16"))
    assert y.shape == (3, 4, 4, 6) and mean.shape == variance.shape == (6,)
    np.testing.assert_allclose(tf.math.reduce_std(tf.cast(y, "float32"), [0, 1, 2]), 1, rtol=1e-2)
