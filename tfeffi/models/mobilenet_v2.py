"""MobileNetV2 for small images: inverted residuals, three reductions instead of five.

Source: Sandler et al. 2018, arXiv 1801.04381, table 2. At full size (`reductions=5`, 224², 1000
classes) it is the paper's network: 3.4 M parameters, 300 M MACs. For images of 32² the usual change
is to leave the first two reductions out.
"""

import keras

from tfeffi.models import arguments, blocks

# Of each stage: expansion, filters, repeats, stride (table 2).
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def build(*, input_shape, num_classes, reductions=3, width_multiplier=1.0) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.
        reductions: how often height and width are halved, 1 to 5; the first ones are left out.
        width_multiplier: scales the filters, rounded to multiples of 8; those of the last
            convolution, 1280, only upwards, as in the paper.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10, width_multiplier=0.5)
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    reductions = arguments.choice("reductions", reductions, range(1, 6))
    scale = arguments.multiplier(width_multiplier)
    left_out = 5 - reductions

    def stride_of(stride: int) -> int:
        nonlocal left_out
        if stride == 2 and left_out:
            left_out -= 1
            return 1
        return stride

    image = blocks.image_input(shape)
    stem = arguments.scaled_to_8(32, scale)
    x = blocks.convolution(image, stem, 3, stride=stride_of(2), name="stem", max_value=6.0)
    for stage, (expansion, filters, repeats, stride) in enumerate(STAGES, start=1):
        filters, stride = arguments.scaled_to_8(filters, scale), stride_of(stride)
        for index in range(repeats):
            x = blocks.inverted_residual(
                x,
                filters,
                stride=stride if index == 0 else 1,
                expansion=expansion,
                name=f"stage{stage}_block{index + 1}",
            )
    last = arguments.scaled_to_8(1280, max(1.0, scale))
    x = blocks.convolution(x, last, 1, name="head", max_value=6.0)
    return keras.Model(image, blocks.classifier(x, num_classes), name="mobilenet_v2")
