"""The MNIST autoencoder: two strided convolutions down, two transposed ones up.

Source: Çallı 2017, "Faster convolutional neural networks on mobile", section 2.2.3 and table 2.1,
with the widths [32, 64, 32] of its experiments; each layer has a bias, batch normalization, ReLU.
"""

import keras
from keras import layers

from tfeffi.models import arguments, blocks


def build(
    *,
    input_shape=(28, 28, 1),
    widths=(32, 64, 32),
    final_activation="relu",
    width_multiplier=1.0,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image; where height or width is no multiple of
            4, what is decoded too much is cropped.
        widths: filters of encoder 1, encoder 2 and decoder 1.
        final_activation: of the image: "relu" as in the source, which can die, "sigmoid" or
            "linear".
        width_multiplier: scales the widths.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to images; the output layer
        is named "decoded" and computes in float32 under every precision policy.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(28, 28, 1), widths=(4, 16, 4))     # table 2.1: could be lossless
    """
    shape = arguments.image_shape(input_shape)
    widths = arguments.counts("widths", widths, 3)
    known = ("relu", "sigmoid", "linear")
    final_activation = arguments.choice("final_activation", final_activation, known)
    scale = arguments.multiplier(width_multiplier)
    first, second, third = (arguments.scaled(width, scale) for width in widths)
    image = blocks.image_input(shape)
    x = _block(layers.Conv2D, image, first, "encoder1")
    x = _block(layers.Conv2D, x, second, "encoder2")
    x = _block(layers.Conv2DTranspose, x, third, "decoder1")
    x = _block(layers.Conv2DTranspose, x, shape[-1], "decoder2", relu=False)
    extra = tuple(decoded - size for decoded, size in zip(x.shape[1:3], shape[:2], strict=True))
    if any(extra):
        x = layers.Cropping2D(tuple((0, more) for more in extra), name="crop")(x)
    x = layers.Activation(final_activation, dtype="float32", name="decoded")(x)
    return keras.Model(image, x, name="mnist_autoencoder")


def _block(kind, x, filters: int, name: str, relu: bool = True):
    """Convolution or transposed convolution at stride 2, batch normalization, ReLU."""
    x = kind(
        filters,
        3,
        strides=2,
        padding="same",
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn")(x)
    return layers.ReLU(name=f"{name}_relu")(x) if relu else x
