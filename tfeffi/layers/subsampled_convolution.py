"""Pointwise convolutions with strides that drop the positions which they skip before they convolve.

oneDNN's gradient of such a kernel writes past its workspace where the inputs have fewer channels than a
block (8 of them with AVX2, 16 with AVX-512): the gradients are wrong now and then, or the process dies.
https://github.com/uxlfoundation/oneDNN/issues/6035, still so in the oneDNN 3.7 of TensorFlow 2.21. With
stride 1 it takes another way. A network comes there by pruning its shortcuts, or by starting narrow.
"""

from typing import Any

import keras

BLOCK = 16  # channels of the largest block


def subsampled(layer: Any, inputs: Any) -> Any:
    """The inputs that a convolution reads: to be convolved with stride 1, padding "valid".

    Args:
        layer: a Conv1D or Conv2D of Keras or tf_keras.
        inputs: (batch, *positions, channels).

    Returns:
        (batch, *positions that the strides keep, channels), or None where the layer is to go its own
        way: a kernel of more than one position, no strides, 16 channels or more, or channels first,
        which oneDNN gets right.
    """
    few = layer.data_format == "channels_last" and inputs.shape[-1] < BLOCK
    if not few or set(layer.kernel_size) != {1} or set(layer.strides) == {1}:
        return None
    return inputs[(slice(None), *(slice(None, None, stride) for stride in layer.strides))]


class _Subsampled:
    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves."""
        read = subsampled(self, inputs)
        if read is None:
            return super().convolution_op(inputs, kernel)
        return keras.ops.conv(read, kernel, 1, "valid", self.data_format)


class SubsampledConv1D(_Subsampled, keras.layers.Conv1D):
    """`keras.layers.Conv1D` whose gradient oneDNN computes right. See `SubsampledConv2D`."""

    @property
    def __class__(self):
        return keras.layers.Conv1D  # see FusedBatchNormalization

    def call(self, inputs: Any) -> Any:
        """Convolves; Keras's own `call` has no `convolution_op` to override."""
        plain = subsampled(self, inputs) is None
        above = super() if plain else super(keras.layers.Conv1D, self)
        return above.call(inputs)  # "causal" pads nothing before a kernel of size 1


class SubsampledConv2D(_Subsampled, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose gradient oneDNN computes right.

    Same arguments, variables, outputs and gradients as Keras's layer. A kernel of one position with
    strides, over fewer than 16 channels, takes every stride-th position of its inputs and convolves them
    with stride 1; the rest takes Keras's own way, and so do channels first. In a config and a `.keras`
    file it is a plain Conv2D.

    Example:
        x = SubsampledConv2D(8, 1, strides=2)(x)
    """

    @property
    def __class__(self):
        return keras.layers.Conv2D  # see FusedBatchNormalization
