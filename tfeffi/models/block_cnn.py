"""One network for every kind of block: the same stem, three stages and classifier around them.

What differs between two of these networks is their block, so that blocks can be compared; with
`widths_for_macs` they also cost the same.
"""

import functools
import math

import keras

from tfeffi.analysis.cost import cost
from tfeffi.errors import BadInput
from tfeffi.models import arguments, blocks

KINDS = {
    "basic": "residual",
    "bottleneck": "bottleneck",
    "inception": "inception",
    "inverted_residual": "inverted_residual",
}
_STEPS = 4  # widths are tried in quarters of a filter of the first stage


def build(
    *,
    input_shape,
    num_classes,
    block="basic",
    shortcut=True,
    repeats=2,
    widths=(16, 32, 64),
    stem=16,
    stem_stride=1,
    width_multiplier=1.0,
) -> keras.Model:
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image.
        num_classes: number of logits.
        block: "basic" (two 3×3 convolutions), "bottleneck" (1×1, 3×3, 1×1; four times as many
            output channels), "inception" or "inverted_residual".
        shortcut: whether the input of a block is added to its output.
        repeats: blocks in each of the three stages.
        widths: filters of the blocks of each stage; of a bottleneck the inner ones.
        stem: filters of the 3×3 convolution before the first block.
        stem_stride: its stride: 2 makes everything after it cost a quarter.
        width_multiplier: scales the filters of every layer.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits.

    Raises:
        BadInput: an argument is of no use.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10, block="inception", shortcut=False)

    Source: He et al. 2015, arXiv 1512.03385, section 4.2; Çallı 2017, sections 2.3.2, 2.3.3, 2.5.1.
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    kind = KINDS[arguments.choice("block", block, KINDS)]
    if not isinstance(shortcut, bool):
        raise BadInput(f"models: shortcut={shortcut!r}; give True or False")
    repeats, stem = arguments.count("repeats", repeats), arguments.count("stem", stem)
    stem_stride = arguments.count("stem_stride", stem_stride)
    widths = arguments.counts("widths", widths, 3)
    scale = arguments.multiplier(width_multiplier)

    image = blocks.image_input(shape)
    size = max(3, stem_stride + 1)
    x = blocks.convolution(
        image, arguments.scaled(stem, scale), size, stride=stem_stride, name="stem"
    )
    make = functools.partial(blocks.get(kind), shortcut=shortcut)
    for stage, width in enumerate(widths):
        for index in range(repeats):
            stride = 2 if stage > 0 and index == 0 else 1
            name = f"stage{stage + 1}_block{index + 1}"
            x = make(x, arguments.scaled(width, scale), stride=stride, name=name)
    plain = "" if shortcut else "_plain"
    return keras.Model(image, blocks.classifier(x, num_classes), name=f"{block}{plain}_cnn")


def widths_for_macs(macs: int, *, tolerance: float = 0.03, **network) -> tuple[int, int, int]:
    """The widths at which the network costs as many multiply-adds as asked for.

    They double from stage to stage as nearly as can be; the last one makes up for what is missing.

    Args:
        macs: multiply-adds of one image.
        tolerance: how far off they may be, as a fraction of `macs`.
        **network: the arguments of `build` but for `widths`.

    Returns:
        Filters of the three stages.

    Raises:
        BadInput: no widths come near enough; says how near.

    Example:
        widths_for_macs(3_000_000, block="bottleneck", input_shape=(32, 32, 3), num_classes=10)
    """

    @functools.cache
    def at(widths: tuple[int, int, int]) -> int:
        return cost(build(widths=widths, **network)).macs

    low, high = 4 * _STEPS, None  # an inception block needs four filters
    while at(_doubling(low)) <= macs and high != low + 1:  # the widest that costs no more
        guess = int(low * math.sqrt(macs / at(_doubling(low))))  # costs grow as width squared
        guess = max(low + 1, guess if high is None else min(high - 1, guess))
        low, high = (guess, high) if at(_doubling(guess)) <= macs else (low, guess)
    best = widths = _doubling(low)
    while at(widths) < macs:
        widths = (*widths[:2], widths[2] + 1)
        best = min(best, widths, key=lambda some: abs(at(some) - macs))
    if abs(at(best) - macs) > tolerance * macs:
        raise BadInput(
            f"models: macs={macs!r}: the nearest widths are {best}, with {at(best):,} "
            f"multiply-adds, more than {tolerance:.0%} off; ask for more, or for fewer repeats"
        )
    return best


def _doubling(steps: int) -> tuple[int, int, int]:
    return tuple(round(steps * 2**stage / _STEPS) for stage in range(3))
