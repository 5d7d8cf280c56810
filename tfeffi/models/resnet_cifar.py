"""ResNets for small images: three stages of residual or bottleneck blocks.

Source: He et al. 2015, arXiv 1512.03385, section 4.2; with projection shortcuts (option B), because
padding channels with zeros has no layer in Keras.
"""

import keras

from tfeffi.errors import BadInput
from tfeffi.models import arguments, blocks


def build(
    *, input_shape, num_classes, depth=20, block="basic", width=16, width_multiplier=1.0
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.
        depth: layers with weights: 6n+2 with basic blocks (8, 20, 32, 50, 56, …), 9n+2 with
            bottlenecks (11, 20, 29, 47, 56, …).
        block: "basic" (two 3×3 convolutions) or "bottleneck" (1×1, 3×3, 1×1; four times as many
            output channels).
        width: filters of the first stage; the others have 2 and 4 times as many.
        width_multiplier: scales the filters of every layer.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10, depth=20)     # 40.8 M MACs
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    block = arguments.choice("block", block, ("basic", "bottleneck"))
    repeats = _repeats(arguments.count("depth", depth), block)
    scale = arguments.multiplier(width_multiplier)
    width = arguments.count("width", width)

    image = blocks.image_input(shape)
    x = blocks.convolution(image, arguments.scaled(width, scale), 3, name="stem")
    make = blocks.get("residual" if block == "basic" else block)
    for stage in range(3):
        filters = arguments.scaled(width * 2**stage, scale)
        for index in range(repeats):
            stride = 2 if stage > 0 and index == 0 else 1
            x = make(x, filters, stride=stride, name=f"stage{stage + 1}_block{index + 1}")
    return keras.Model(image, blocks.classifier(x, num_classes), name=f"resnet{depth}")


def _repeats(depth: int, block: str) -> int:
    """Blocks a stage."""
    step = 6 if block == "basic" else 9
    repeats, rest = divmod(depth - 2, step)
    if repeats < 1 or rest:
        near = [2 + step * max(1, repeats + more) for more in (0, 1)]
        either = " or ".join(str(depth) for depth in sorted(set(near)))
        raise BadInput(
            f"models: depth={depth} is not {step}n+2, as {block} blocks need; give {either}"
        )
    return repeats
