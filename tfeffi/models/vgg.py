"""VGG for small images: stacks of 3×3 convolutions with batch normalization, one dense layer.

Source: Simonyan and Zisserman 2014, arXiv 1409.1556, table 1, columns A, B and D; the three dense
layers of the paper are one, as is usual for images of 32², and the depth keeps its name.
"""

import keras
from keras import layers

from tfeffi.models import arguments, blocks

FILTERS = (64, 128, 256, 512, 512)
REPEATS = {  # convolutions a stage, by depth
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
}


def build(*, input_shape, num_classes, depth=11, width_multiplier=1.0) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image; halved five times, rounding up.
        num_classes: number of logits.
        depth: 8, 11, 13 or 16.
        width_multiplier: scales the filters of every layer.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10, depth=16)
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    depth = arguments.choice("depth", depth, REPEATS)
    scale = arguments.multiplier(width_multiplier)
    x = image = blocks.image_input(shape)
    for stage, (filters, repeats) in enumerate(zip(FILTERS, REPEATS[depth], strict=True), start=1):
        for index in range(repeats):
            filters_here = arguments.scaled(filters, scale)
            x = blocks.convolution(x, filters_here, 3, name=f"stage{stage}", number=index + 1)
        x = layers.MaxPooling2D(2, padding="same", name=f"stage{stage}_pool")(x)
    return keras.Model(image, blocks.classifier(x, num_classes), name=f"vgg{depth}")
