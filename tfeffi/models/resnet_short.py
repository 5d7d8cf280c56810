"""A short ResNet for small images: a strided convolution into each stage, then residual blocks.

Few layers, each of many channels, at a resolution that falls early: what 8-bit kernels are fast at, and
what a small file is made of. With one block a stage it is the ResNet-9 of fast training, strided
where that pools.

Source: Page 2019, "How to train your ResNet"; the blocks of He et al. 2015, arXiv 1512.03385.
"""

from collections.abc import Sequence

import keras

from tfeffi.errors import BadInput
from tfeffi.models import arguments, blocks


def build(
    *, input_shape, num_classes, widths=(16, 24, 32), repeats=(0, 1, 1), kernel_size=3, stride=1,
    shortcuts=True, head=0, width_multiplier=1.0,
) -> keras.Model:  # fmt: skip
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.
        widths: filters of each stage; every stage but the first halves height and width.
        repeats: residual blocks of each stage, after its first convolution; 0 for none.
        kernel_size, stride: of the first convolution.
        shortcuts: whether blocks add their input; or of each stage.
        head: filters of a last 1×1 convolution, 0 for none: more features to classify by, at the
            lowest resolution.
        width_multiplier: scales the widths, the head's too.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10)     # 41 k parameters, 5.6 M MACs
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    scale = arguments.multiplier(width_multiplier)
    if not all(isinstance(given, Sequence) for given in (widths, repeats)):
        raise BadInput(f"models: widths={widths!r}, repeats={repeats!r}; give a list of each")
    widths = [arguments.scaled(w, scale) for w in arguments.counts("widths", widths, len(widths))]
    kernel_size = arguments.count("kernel_size", kernel_size)
    stride = arguments.count("stride", stride)
    if len(repeats) != len(widths) or not all(isinstance(r, int) and r >= 0 for r in repeats):
        raise BadInput(
            f"models: repeats={repeats!r}; give a whole number from 0 for each of {len(widths)} widths"
        )
    if isinstance(shortcuts, bool) or not isinstance(shortcuts, Sequence):
        shortcuts = [shortcuts] * len(widths)
    if len(shortcuts) != len(widths) or not all(isinstance(s, bool) for s in shortcuts):
        raise BadInput(f"models: shortcuts={shortcuts!r}; give True, False, or one of them a stage")
    head = arguments.scaled(arguments.count("head", head), scale) if head else 0
    image = x = blocks.image_input(shape)
    stages = zip(widths, repeats, shortcuts, strict=True)
    for stage, (width, count, shortcut) in enumerate(stages, start=1):
        first = {"kernel_size": kernel_size, "stride": stride}
        shape = first if stage == 1 else {"kernel_size": 3, "stride": 2}
        x = blocks.convolution(x, width, name=f"stage{stage}", **shape)
        for index in range(1, count + 1):
            x = blocks.residual(x, width, name=f"stage{stage}_block{index}", shortcut=shortcut)
    if head:
        x = blocks.convolution(x, head, 1, name="head")
    return keras.Model(image, blocks.classifier(x, num_classes), name="resnet_short")
