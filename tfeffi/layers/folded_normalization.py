"""The fused kernel of batch normalization for widths that it is slow with.

On a CPU, in 16 bits, TensorFlow's kernel has a fast path for multiples of 16 channels only; 12 channels
take three times as long as 16. A pruned network has any number of them. Laid out anew without copying,
k neighbouring positions of c channels are one position of k·c channels: with k = 16 / gcd(16, c) the
fast path takes them, gives the sums of each of the k·c, and those of a channel are added up.
"""

import functools
import math
from typing import Any

WIDTH = 16  # channels at a time in the kernel's fast path


def fold_of(x: Any) -> int | None:
    """How many neighbouring positions are to be laid side by side; None: leave them.

    Args:
        x: images (batch, height, width, channels), a TensorFlow tensor.
    """
    import tensorflow as tf

    _, height, width, channels = x.shape
    if x.dtype not in (tf.bfloat16, tf.float16) or None in (height, width, channels):
        return None
    if channels % WIDTH == 0 or tf.config.list_physical_devices("GPU"):
        return None
    fold = WIDTH // math.gcd(WIDTH, channels)
    return fold if height * width % fold == 0 else None


def normalize_folded(x: Any, gamma: Any, beta: Any, epsilon: float, fold: int) -> tuple:
    """Batch normalization in training, with the gradients of its input, gamma and beta.

    Args:
        x: (batch, height, width, channels), bfloat16 or float16.
        gamma, beta: (channels,) float32.
        epsilon: added to the variance.
        fold: from `fold_of`.

    Returns:
        The normalized images, and (channels,) float32 mean and biased variance of the batch, through
        which no gradient goes.
    """
    import tensorflow as tf

    @tf.custom_gradient
    def normalize(x, gamma, beta):
        folded = _fold(x, fold)
        mean, variance = _moments(folded, fold)
        wide = [tf.tile(one, [fold]) for one in (gamma, beta, mean, variance)]
        y = _kernel(folded, *wide, epsilon, is_training=False).y

        def gradient(upstream, *_):
            by_input, *rest = _gradient(
                _fold(upstream, fold), folded, gamma, mean, variance, epsilon, fold
            )
            return tf.reshape(by_input, tf.shape(x)), *rest

        return (tf.reshape(y, tf.shape(x)), mean, variance), gradient

    y, mean, variance = normalize(*map(tf.convert_to_tensor, (x, gamma, beta)))
    return tf.ensure_shape(y, x.shape), mean, variance


def _fold(x, fold: int):
    import tensorflow as tf

    _, height, width, channels = x.shape
    return tf.reshape(x, (-1, height * width // fold, 1, fold * channels))


def _moments(folded, fold: int):
    """Mean and biased variance of each channel from those of its folds."""
    import tensorflow as tf

    ones = tf.ones(folded.shape[-1:])
    none = tf.zeros([0])
    result = _kernel(folded, ones, 0.0 * ones, none, none, 1e-3, is_training=True)
    count = tf.cast(tf.shape(folded)[0] * folded.shape[1], tf.float32)
    biased = tf.math.multiply_no_nan(result.batch_variance, (count - 1.0) / count)
    means, variances = (tf.reshape(one, (fold, -1)) for one in (result.batch_mean, biased))
    mean = tf.reduce_mean(means, 0)
    return mean, tf.reduce_mean(variances + tf.square(means - mean), 0)


def _gradient(upstream, folded, gamma, mean, variance, epsilon: float, fold: int):
    """Of the input, gamma and beta: the kernel's sums over positions, then one compiled pass."""
    import tensorflow as tf

    wide_mean, wide_variance = (tf.tile(one, [fold]) for one in (mean, variance))
    sums = tf.raw_ops.FusedBatchNormGradV3(
        y_backprop=upstream, x=folded, scale=tf.ones_like(wide_mean), reserve_space_1=wide_mean,
        reserve_space_2=wide_variance, reserve_space_3=wide_mean, epsilon=epsilon, is_training=True,
    )  # fmt: skip
    by_gamma, by_beta = (
        tf.reduce_sum(tf.reshape(one, (fold, -1)), 0)
        for one in (sums.scale_backprop, sums.offset_backprop)
    )
    count = tf.cast(tf.shape(folded)[0] * folded.shape[1] * fold, tf.float32)
    inverse = tf.math.rsqrt(variance + epsilon)
    # γ/σ · (dy − Σdy/n − (x − μ)/σ · Σ(dy·(x − μ)/σ)/n), as a·dy + b·x + c
    a = gamma * inverse
    b = -a * inverse * by_gamma / count
    c = -a * by_beta / count - b * mean
    by_input = _combined()(upstream, folded, *(tf.tile(one, [fold]) for one in (a, b, c)))
    return by_input, by_gamma, by_beta


@functools.cache
def _combined():
    import tensorflow as tf

    @tf.function(jit_compile=True)
    def combined(dy, x, a, b, c):
        found = tf.cast(dy, tf.float32) * a + tf.cast(x, tf.float32) * b + c
        return tf.cast(found, x.dtype)

    return combined


def _kernel(x, gamma, beta, mean, variance, epsilon: float, *, is_training: bool):
    import tensorflow as tf

    return tf.raw_ops.FusedBatchNormV3(
        x=x, scale=gamma, offset=beta, mean=mean, variance=variance, epsilon=epsilon,
        data_format="NHWC", is_training=is_training,
    )  # fmt: skip
