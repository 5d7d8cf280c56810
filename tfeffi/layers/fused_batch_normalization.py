"""Batch normalization with TensorFlow's fused kernel: one pass over the images instead of five.

Keras 3 computes the moments, the normalization and their gradients as separate operations, each
reading and writing the whole activation, and casts half-precision activations to float32 for it.
The fused kernel does all at once and keeps only the statistics in float32.
"""

import math
from typing import Any

import keras

from tfeffi.layers.exchange import exchange
from tfeffi.layers.folded_normalization import fold_of, normalize_folded


class FusedBatchNormalization(keras.layers.BatchNormalization):
    """`keras.layers.BatchNormalization` with the fused TensorFlow kernel where it applies.

    Same arguments, variables, outputs, gradients and moving statistics as Keras's layer; on the
    TensorFlow backend, images (rank 4) with the channels last are normalized by the fused kernel.
    Masks, `renorm=True`, `synchronized=True`, other ranks and axes, float64 and other backends take
    Keras's own way.

    In a config and a `.keras` file it is a plain BatchNormalization, so that both load where tfeffi
    is not installed; what is loaded or surgically rebuilt is plain: fuse it again for speed.

    Source: Ioffe and Szegedy 2015, arXiv 1502.03167, algorithms 1 and 2.

    Example:
        x = FusedBatchNormalization(name="bn1")(x)
    """

    @property
    def __class__(self):
        # Keras names an object in its config, and a layer's group in the weights file, after
        # `obj.__class__`; isinstance still finds the real type. So no file ever names tfeffi.
        return keras.layers.BatchNormalization

    def call(self, inputs, training=None, mask=None):
        """Normalizes; arguments as in `keras.layers.BatchNormalization`."""
        learns = bool(training) and self.trainable
        if not self._fuses(inputs, mask, learns):
            return super().call(inputs, training=training, mask=mask)
        outputs = self._learn(inputs) if learns else self._apply(inputs)
        return keras.ops.cast(outputs, self.compute_dtype)

    def _fuses(self, inputs: Any, mask: Any, learns: bool) -> bool:
        """Whether the fused kernel computes just what Keras would."""
        if keras.backend.backend() != "tensorflow" or mask is not None:
            return False
        if learns and (getattr(self, "renorm", False) or self.synchronized):
            return False
        images = len(inputs.shape) == 4 and self.axis in (-1, 3)
        dtype = keras.backend.standardize_dtype(inputs.dtype)
        return images and dtype in ("float32", "bfloat16", "float16")

    def _apply(self, inputs):
        """Inference: with the moving statistics."""
        return self._kernel(inputs, self.moving_mean, self.moving_variance, is_training=False).y

    def _learn(self, inputs):
        """Training: with the batch's statistics, which the moving ones follow."""
        outputs, mean, variance = self._normalized(inputs)
        momentum = self.momentum
        self.moving_mean.assign(self.moving_mean * momentum + mean * (1.0 - momentum))
        self.moving_variance.assign(self.moving_variance * momentum + variance * (1.0 - momentum))
        return outputs

    def _normalized(self, inputs):
        """Outputs, and mean and biased variance of the batch."""
        import tensorflow as tf

        if fold := fold_of(inputs):
            return normalize_folded(inputs, *self._scale_and_offset(inputs), self.epsilon, fold)
        none = tf.zeros([0], tf.float32)
        result = self._kernel(inputs, none, none, is_training=True)
        # The kernel gives the unbiased variance for the moving average, Keras keeps the biased one.
        # Of a single position cuDNN's is 0/0: no_nan.
        count = _positions(inputs)
        variance = tf.math.multiply_no_nan(result.batch_variance, (count - 1) / count)
        return result.y, result.batch_mean, variance

    def _scale_and_offset(self, inputs):
        channels = inputs.shape[-1:]
        scale = self.gamma if self.scale else keras.ops.ones(channels)
        offset = self.beta if self.center else keras.ops.zeros(channels)
        return keras.ops.convert_to_tensor(scale), keras.ops.convert_to_tensor(offset)

    def _kernel(self, inputs, mean, variance, is_training: bool):
        import tensorflow as tf

        convert = keras.ops.convert_to_tensor
        scale, offset = self._scale_and_offset(inputs)
        return tf.raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=scale,
            offset=offset,
            mean=convert(mean),
            variance=convert(variance),
            epsilon=self.epsilon,
            data_format="NHWC",
            is_training=is_training,
        )


def fuse_batch_normalization(model: keras.Model) -> keras.Model:
    """Rebuilds a model with `FusedBatchNormalization` in place of each BatchNormalization.

    Nested models, shared layers and wrapped ones are reached. Names, weights, random states,
    trainable flags and dtype policies stay; the compilation does not: compile the result.

    Args:
        model: a functional or Sequential model. It is left as it is and shares nothing with the
            result.

    Returns:
        The same model, faster to train.

    Raises:
        BadInput: the model is subclassed: its layers are made by its own code.

    Example:
        model = fuse_batch_normalization(keras.applications.MobileNetV2(weights=None))
    """
    return exchange(model, {"BatchNormalization": FusedBatchNormalization})


def _positions(inputs: Any) -> Any:
    """How many values of one channel the batch has, as a float; a tensor where a size is open."""
    import tensorflow as tf

    sizes = inputs.shape[:3]
    if all(size is not None for size in sizes):
        return float(math.prod(sizes))
    return tf.cast(tf.math.reduce_prod(tf.shape(inputs)[:3]), tf.float32)
