"""Pointwise convolutions with strides that drop the positions which they skip before they convolve.

oneDNN's gradient of such a kernel writes past its workspace where the inputs have fewer channels than a
block (8 of them with AVX2, 16 with AVX-512): the gradients are wrong now and then, or the process dies.
https://github.com/uxlfoundation/oneDNN/issues/6035, still so in the oneDNN 3.7 of TensorFlow 2.21. With
stride 1 it takes another way. A network comes there by pruning its shortcuts, or by starting narrow.
"""

from typing import Any

import keras

BLOCK = 16  # channels of the largest block


class _Subsampled:
    """A convolution layer whose kernel of size 1 reads only the positions that its strides keep."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        """Convolves."""
        if not self._skips(inputs):
            return super().convolution_op(inputs, kernel)
        kept = (slice(None), *(slice(None, None, stride) for stride in self.strides))
        return keras.ops.conv(inputs[kept], kernel, 1, "valid", self.data_format)

    def _skips(self, inputs: Any) -> bool:
        few = self.data_format == "channels_last" and inputs.shape[-1] < BLOCK
        return few and set(self.kernel_size) == {1} and set(self.strides) != {1}


class SubsampledConv1D(_Subsampled, keras.layers.Conv1D):
    """`keras.layers.Conv1D` whose gradient oneDNN computes right. See `SubsampledConv2D`."""

    def call(self, inputs: Any) -> Any:
        """Convolves; Keras's own `call` has no `convolution_op` to override."""
        above = super(keras.layers.Conv1D, self) if self._skips(inputs) else super()
        return above.call(inputs)  # "causal" pads nothing before a kernel of size 1

    @property
    def __class__(self):
        return keras.layers.Conv1D  # see FusedBatchNormalization


class SubsampledConv2D(_Subsampled, keras.layers.Conv2D):
    """`keras.layers.Conv2D` whose gradient oneDNN computes right.

    Same arguments, variables, outputs and gradients as Keras's layer. A kernel of one position with
    strides, over fewer than 16 channels, takes every stride-th position of its inputs and convolves them
    with stride 1; the rest takes Keras's own way. In a config and a `.keras` file it is a plain Conv2D.

    Example:
        x = SubsampledConv2D(8, 1, strides=2)(x)
    """

    @property
    def __class__(self):
        return keras.layers.Conv2D  # see FusedBatchNormalization
