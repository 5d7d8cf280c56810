"""The MNIST classifier of three convolutions: 454 922 parameters, 11 065 088 MACs at 28².

Source: Çallı 2017, "Faster convolutional neural networks on mobile", table 2.2. The "size=2×2" of
its convolution rows belongs to the poolings.
"""

import keras
from keras import layers

from tfeffi.models import arguments, blocks


def build(*, input_shape=(28, 28, 1), num_classes=10, width_multiplier=1.0) -> keras.Model:
    """Builds the network: 5×5×32, pool, 5×5×64, pool, 7×7×128 without padding, dense.

    Args:
        input_shape: (height, width, channels) of an image. The last kernel is 7×7 or, where fewer
            positions are left, as large as those.
        num_classes: number of logits.
        width_multiplier: scales the 32, 64 and 128 filters.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(28, 28, 1), num_classes=10)
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    scale = arguments.multiplier(width_multiplier)
    x = image = blocks.image_input(shape)
    for number, filters in enumerate((32, 64), start=1):
        x = _convolution(x, arguments.scaled(filters, scale), 5, "same", number)
        x = layers.MaxPooling2D(2, padding="same", name=f"pool{number}")(x)
    kernel_size = tuple(min(7, size) for size in x.shape[1:3])
    x = _convolution(x, arguments.scaled(128, scale), kernel_size, "valid", 3)
    x = layers.Flatten(name="flatten")(x)
    return keras.Model(image, blocks.logits(x, num_classes), name="mnist_classifier")


def _convolution(x, filters: int, kernel_size, padding: str, number: int):
    x = layers.Conv2D(
        filters,
        kernel_size,
        padding=padding,
        kernel_initializer="he_normal",
        name=f"conv{number}",
    )(x)
    return layers.ReLU(name=f"relu{number}")(x)
