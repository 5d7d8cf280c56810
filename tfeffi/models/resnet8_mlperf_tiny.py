"""The ResNet-8 of MLPerf Tiny's image classification task: 78 666 parameters, 12.50 M MACs.

Source: Banbury et al. 2021, arXiv 2106.07597, and the benchmark's reference training code
(`resnet_v1_eembc`): convolutions keep their bias, shortcuts have no batch normalization.
"""

import keras
from keras import layers

from tfeffi.models import arguments, blocks


def build(*, input_shape=(32, 32, 3), num_classes=10, width_multiplier=1.0) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.
        width_multiplier: scales the 16, 32 and 64 filters.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10)
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    scale = arguments.multiplier(width_multiplier)
    image = blocks.image_input(shape)
    x = _normalized(image, arguments.scaled(16, scale), 1, "stem", 1)
    x = layers.ReLU(name="stem_relu")(x)
    for stage, filters in enumerate((16, 32, 64), start=1):
        stride = 1 if stage == 1 else 2
        x = _stack(x, arguments.scaled(filters, scale), stride, f"stack{stage}")
    return keras.Model(image, blocks.classifier(x, num_classes), name="resnet8_mlperf_tiny")


def _stack(x, filters: int, stride: int, name: str):
    y = _normalized(x, filters, stride, name, 1)
    y = layers.ReLU(name=f"{name}_relu1")(y)
    y = _normalized(y, filters, 1, name, 2)
    if stride != 1:
        x = _convolution(x, filters, 1, stride, f"{name}_shortcut_conv")
    y = layers.Add(name=f"{name}_add")([x, y])
    return layers.ReLU(name=f"{name}_relu")(y)


def _normalized(x, filters: int, stride: int, name: str, number: int):
    x = _convolution(x, filters, 3, stride, f"{name}_conv{number}")
    return layers.BatchNormalization(name=f"{name}_bn{number}")(x)


def _convolution(x, filters: int, kernel_size: int, stride: int, name: str):
    return layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same",
        kernel_initializer="he_normal",
        name=name,
    )(x)
