"""Activations as one compiled loop over the values: GELU, SiLU and their like at the price of a ReLU.

On TensorFlow a GELU is a dozen operations, and each reads and writes the whole activation, in bfloat16
through a detour over float32. Compiled by XLA, value and gradient are one pass each. A number of 16 bits
is one of 65,536: where there is no GPU, their values and slopes are computed once and looked up.
"""

from typing import Any

import keras
from keras import ops


class FusedActivation(keras.layers.Activation):
    """`keras.layers.Activation` whose value and gradient are compiled to one loop on TensorFlow.

    Computed in float32 inside and rounded once to the compute dtype; in 16 bits, where there is no GPU,
    looked up in a table of what would be computed, bit for bit. In a config and a `.keras` file it is a
    plain Activation, so that both load where tfeffi is not installed. Functions of a single value only;
    softmax and its like, and other backends, take Keras's own way.

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
        inputs = ops.convert_to_tensor(inputs)
        return _compiled(self.activation, inputs.dtype)(inputs)


def _compiled(activation: Any, dtype: Any):
    """The activation of tensors of a dtype, with its gradient."""
    import tensorflow as tf

    if (activation, dtype) not in _MADE:
        value, slope = _computed(activation)
        half = dtype in (tf.bfloat16, tf.float16)
        if half and not tf.config.list_physical_devices("GPU"):
            value, slope = _looked_up(value, dtype), _looked_up(slope, dtype)
        forward = tf.function(value, jit_compile=True)

        @tf.function(jit_compile=True)
        def backward(x, upstream):
            return tf.cast(slope(x) * tf.cast(upstream, tf.float32), dtype)

        @tf.custom_gradient
        def fused(x):
            return forward(x), lambda upstream: backward(x, upstream)

        _MADE[activation, dtype] = fused
    return _MADE[activation, dtype]


def _computed(activation: Any):
    """Functions from x to the value there, of the dtype of x, and to the slope, float32."""
    import tensorflow as tf

    def value(x):
        return tf.cast(activation(tf.cast(x, tf.float32)), x.dtype)

    def slope(x):
        x = tf.cast(x, tf.float32)
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = activation(x)
        return tape.gradient(y, x)

    return value, slope


def _looked_up(function: Any, dtype: Any):
    """The same function of 16-bit numbers, by way of its values for all of them."""
    import tensorflow as tf

    of = tf.function(function, jit_compile=True).get_concrete_function(
        tf.TensorSpec([2**16], dtype)
    )
    with tf.init_scope():  # also where a graph is being traced; no tape records in here
        table = of(tf.bitcast(tf.cast(tf.range(2**16), tf.uint16), dtype)).numpy()

    @tf.custom_gradient
    def look_up(x):
        def gradient(upstream):  # of the slope: the second derivative is computed
            with tf.GradientTape() as tape:
                tape.watch(x)
                y = function(x)
            return tape.gradient(y, x, upstream)

        return tf.gather(tf.constant(table), tf.cast(tf.bitcast(x, tf.uint16), tf.int32)), gradient

    return look_up


_MADE: dict[Any, Any] = {}
