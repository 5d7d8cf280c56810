"""Activations as one compiled loop over the values: GELU, SiLU and their like at the price of a ReLU.

On TensorFlow a GELU is a dozen operations, and each reads and writes the whole activation, in bfloat16
through a detour over float32. Compiled by XLA, value and gradient are one pass each.
"""

from typing import Any

import keras
from keras import ops


class FusedActivation(keras.layers.Activation):
    """`keras.layers.Activation` whose value and gradient are compiled to one loop on TensorFlow.

    Computed in float32 inside and rounded once to the compute dtype. In a config and a `.keras` file
    it is a plain Activation, so that both load where tfeffi is not installed. Functions of a single
    value only; softmax and its like, and other backends, take Keras's own way.

    Example:
        x = FusedActivation("gelu")(x)
    """

    POINTWISE = (
        "elu",
        "gelu",
        "hard_silu",
        "mish",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "swish",
        "tanh",
    )

    @property
    def __class__(self):
        return keras.layers.Activation  # see FusedBatchNormalization

    def call(self, inputs):
        """Applies the activation."""
        name = getattr(self.activation, "__name__", None)
        if keras.backend.backend() != "tensorflow" or name not in self.POINTWISE:
            return super().call(inputs)
        return _compiled(self.activation)(ops.convert_to_tensor(inputs))


def _compiled(activation: Any):
    import tensorflow as tf

    if activation not in _MADE:

        @tf.function(jit_compile=True)
        def value(x):
            return tf.cast(activation(tf.cast(x, tf.float32)), x.dtype)

        @tf.function(jit_compile=True)
        def gradient(x, upstream):
            x32 = tf.cast(x, tf.float32)
            with tf.GradientTape() as tape:
                tape.watch(x32)
                y = activation(x32)
            slope = tape.gradient(y, x32)
            return tf.cast(slope * tf.cast(upstream, tf.float32), x.dtype)

        @tf.custom_gradient
        def fused(x):
            return value(x), lambda upstream: gradient(x, upstream)

        _MADE[activation] = fused
    return _MADE[activation]


_MADE: dict[Any, Any] = {}
