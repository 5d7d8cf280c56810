"""ResNet-34 and ResNet-50 for large images.

Source: He et al. 2015, arXiv 1512.03385, table 1. At 224²: ResNet-34 3.664 G MACs, ResNet-50
3.858 G with the stride in the first 1×1 convolution (the paper's "3.8e9 FLOPs") and 4.089 G with
it in the 3×3 convolution ("v1.5", the default).
"""

import keras
from keras import layers

from tfeffi.models import arguments, blocks

REPEATS = (3, 4, 6, 3)  # blocks a stage, of both depths


def build(
    *, input_shape=(224, 224, 3), num_classes=1000, depth=50, stride_in="3x3", width_multiplier=1.0
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image; the last features are 1/32 as high.
        num_classes: number of logits.
        depth: 34 (basic blocks) or 50 (bottlenecks).
        stride_in: "3x3" or "1x1", the convolution that strides in a bottleneck. Of no effect at
            depth 34.
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
    depth = arguments.choice("depth", depth, (34, 50))
    stride_in = arguments.choice("stride_in", stride_in, ("3x3", "1x1"))
    scale = arguments.multiplier(width_multiplier)
    image = blocks.image_input(shape)
    x = blocks.convolution(image, arguments.scaled(64, scale), 7, stride=2, name="stem")
    x = layers.MaxPooling2D(3, strides=2, padding="same", name="stem_pool")(x)
    for stage, repeats in enumerate(REPEATS):
        filters = arguments.scaled(64 * 2**stage, scale)
        for index in range(repeats):
            name = f"stage{stage + 1}_block{index + 1}"
            stride = 2 if stage > 0 and index == 0 else 1
            if depth == 34:
                x = blocks.residual(x, filters, stride=stride, name=name)
            else:
                x = blocks.bottleneck(x, filters, stride=stride, stride_in=stride_in, name=name)
    return keras.Model(image, blocks.classifier(x, num_classes), name=f"resnet{depth}")
