"""Convolutions over small images whose kernel gradients take several images side by side.

On a CPU, in 16 bits, oneDNN sums a kernel's gradient along the rows of the images, in tiles of 32
positions. A row of 7 leaves most of a tile empty, and the gradient takes several times as long as the
convolution. Side by side, with zeros between them, rows of four images fill a tile.
"""

from typing import Any

import keras

from tfeffi.layers.subsampled_convolution import SubsampledConv2D

TILE = 32  # positions of a row that are summed at once
WIDEST = 8  # rows longer than this are left as they are: laying them out costs what it saves
CHANNELS = 128  # with fewer of them, likewise


class PackedConv2D(SubsampledConv2D):
    """`keras.layers.Conv2D` whose kernel gradient packs small images side by side on TensorFlow.

    Same arguments, variables, outputs and gradients (up to the order of a sum) as Keras's layer.
    Packed are images up to 8 wide in 16 bits on a CPU, of 128 channels and more, under a kernel wider
    than 1 with stride 1 and padding "same"; the rest goes as in `SubsampledConv2D`. In a config and a
    `.keras` file it is a plain Conv2D, so that both load where tfeffi is not installed.

    Example:
        x = PackedConv2D(256, 3, padding="same", dtype="mixed_bfloat16")(x)
    """

    def convolution_op(self, inputs, kernel):
        """Convolves."""
        if not self._packs(inputs):
            return super().convolution_op(inputs, kernel)
        return convolve_packed(inputs, kernel)

    def _packs(self, inputs: Any) -> bool:
        """Whether the layer is one that packing is meant for and makes faster."""
        if keras.backend.backend() != "tensorflow" or self.data_format != "channels_last":
            return False
        plain = (self.strides, self.dilation_rate, self.groups, self.padding)
        if plain != ((1, 1), (1, 1), 1, "same") or self.kernel_size[1] == 1:
            return False
        height, width, channels = inputs.shape[1:]
        if None in (height, width) or width > WIDEST or min(channels, self.filters) < CHANNELS:
            return False
        import tensorflow as tf

        half = keras.backend.standardize_dtype(inputs.dtype) in ("bfloat16", "float16")
        return half and not tf.config.list_physical_devices("GPU")


def convolve_packed(images: Any, kernel: Any) -> Any:
    """A convolution with stride 1 and padding "same" whose kernel gradient packs the images.

    Args:
        images: (batch, height, width, channels).
        kernel: (kernel height, kernel width, channels, filters).

    Returns:
        (batch, height, width, filters).
    """
    import tensorflow as tf

    kernel = tf.convert_to_tensor(kernel)  # in the compute dtype, if it is a variable of Keras
    gap = kernel.shape[1] // 2
    count = -(-TILE // (images.shape[2] + gap))

    @tf.custom_gradient
    def convolve(images, kernel):
        def gradient(upstream):
            by_images = tf.raw_ops.Conv2DBackpropInput(
                input_sizes=tf.shape(images), filter=kernel, out_backprop=upstream,
                strides=[1, 1, 1, 1], padding="SAME",
            )  # fmt: skip
            by_kernel = tf.raw_ops.Conv2DBackpropFilter(
                input=packed(images, count, gap), filter_sizes=kernel.shape,
                out_backprop=packed(upstream, count, gap), strides=[1, 1, 1, 1], padding="SAME",
            )  # fmt: skip
            return by_images, by_kernel

        return tf.nn.conv2d(images, kernel, 1, "SAME"), gradient

    return convolve(images, kernel)


def packed(images: Any, count: int, gap: int) -> Any:
    """Images side by side, `gap` columns of zeros after each, the last row filled up with zeros.

    Args:
        images: (n, height, width, channels).

    Returns:
        (⌈n / count⌉, height, count · (width + gap), channels).
    """
    import tensorflow as tf

    _, height, width, channels = images.shape
    missing = -tf.shape(images)[0] % count
    images = tf.pad(images, [[0, missing], [0, 0], [0, gap], [0, 0]])
    rows = tf.reshape(images, (-1, count, height, width + gap, channels))
    rows = tf.transpose(rows, (0, 2, 1, 3, 4))
    return tf.reshape(rows, (-1, height, count * (width + gap), channels))
