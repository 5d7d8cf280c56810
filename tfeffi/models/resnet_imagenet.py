"""ResNet-18, ResNet-34 and ResNet-50 for large images, and with a small stem for small ones.

Source: He et al. 2015, arXiv 1512.03385, table 1. At 224²: ResNet-34 3.664 G MACs, ResNet-50
3.858 G with the stride in the first 1×1 convolution (the paper's "3.8e9 FLOPs") and 4.089 G with
it in the 3×3 convolution ("v1.5", the default).
"""

import keras
from keras import layers

from tfeffi.models import arguments, blocks

REPEATS = {18: (2, 2, 2, 2), 34: (3, 4, 6, 3), 50: (3, 4, 6, 3)}  # blocks a stage


def build(
    *, input_shape=(224, 224, 3), num_classes=1000, depth=50, stride_in="3x3", stem="7x7",
    width_multiplier=1.0,
) -> keras.Model:  # fmt: skip
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image; the last features are 1/32 as high.
        num_classes: number of logits.
        depth: 18 or 34 (basic blocks), or 50 (bottlenecks).
        stride_in: "3x3" or "1x1", the convolution that strides in a bottleneck. Of no effect on
            basic blocks.
        stem: "7x7", which makes images 1/4 as high, or "3x3", which leaves small images (CIFAR) as
            high as they are; then the last features are 1/8 as high.
        width_multiplier: scales the filters of every layer.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(depth=50, stride_in="1x1")
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    depth = arguments.choice("depth", depth, tuple(REPEATS))
    stem = arguments.choice("stem", stem, ("7x7", "3x3"))
    stride_in = arguments.choice("stride_in", stride_in, ("3x3", "1x1"))
    scale = arguments.multiplier(width_multiplier)
    image = blocks.image_input(shape)
    filters = arguments.scaled(64, scale)
    if stem == "7x7":
        x = blocks.convolution(image, filters, 7, stride=2, name="stem")
        x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    else:
        x = blocks.convolution(image, filters, 3, name="stem")
    for stage, repeats in enumerate(REPEATS[depth]):
        filters = arguments.scaled(64 * 2**stage, scale)
        for index in range(repeats):
            name = f"stage{stage + 1}_block{index + 1}"
            stride = 2 if stage > 0 and index == 0 else 1
            if depth < 50:
                x = blocks.residual(x, filters, stride=stride, name=name)
            else:
                x = blocks.bottleneck(x, filters, stride=stride, stride_in=stride_in, name=name)
    return keras.Model(image, blocks.classifier(x, num_classes), name=f"resnet{depth}")
