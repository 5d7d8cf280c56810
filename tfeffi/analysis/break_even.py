"""How narrow a pair of cheap layers must be to cost less than the layer it stands for.

Every such pair has a width (rank, P, depth multiplier) in which its multiply-adds grow linearly, so
that there is a bound below which it saves. These are the formulas; `tfeffi.cost` counts built models.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from tfeffi.errors import BadInput, near

Pair = int | Sequence[int]


def bound(
    kind: str,
    inputs: int,
    outputs: int,
    kernel_size: Pair = 1,
    *,
    input_width: int = 1,
    output_width: int = 1,
) -> Fraction:
    """The width at which a pair of layers takes as many multiply-adds as the layer it replaces.

    For K input and L output channels and a kernel of kh×kw:

        "dense"      n → rank → m, or 1×1 convolutions        K·L / (K + L)
        "channel"    kh×kw to rank channels, then 1×1         kh·kw·K·L / (kh·kw·K + L)
        "1d"         kh×1 to P channels, then 1×kw            kh·kw·K·L·wo / (kh·K·wi + kw·L·wo)
        "separable"  depthwise kh×kw with a multiplier, 1×1   kh·kw·L / (kh·kw + L)

    The 1-D pair's first convolution still works at the input's width wi, its second at the output's
    wo. Where these are equal (SAME padding, stride 1) and N = kh = kw this is the N·K·L / (K + L) of
    Alvarez & Petersson. A VALID kernel on a single N×N patch has wi = N and wo = 1: N·K·L / (N·K + L).
    The weights of a pair are fewer than the layer's below N·K·L / (K + L), whatever the padding.

    Args:
        kind: as above.
        inputs, outputs: channels (or units) of the layer.
        kernel_size: kh and kw, or one number for both; of no meaning for "dense".
        input_width, output_width: positions along the image's width before and after the layer;
            only their ratio counts, and only for "1d".

    Returns:
        The bound, exact: a pair saves multiply-adds where its width is below it.

    Raises:
        BadInput: an unknown kind, or a size that is not positive.

    Example:
        float(bound("1d", 64, 128, 7, input_width=7, output_width=1))   # 99.55...

    Source: Alvarez & Petersson 2016, arXiv 1606.05426; Zhang et al. 2015, arXiv 1505.06798; Howard et
    al. 2017, arXiv 1704.04861, equation 5.
    """
    if kind not in _BOUNDS:
        raise BadInput(f'break_even: unknown kind "{kind}"; {near(str(kind), _BOUNDS)}')
    height, width = (kernel_size,) * 2 if isinstance(kernel_size, int) else kernel_size
    sizes = (inputs, outputs, height, width, input_width, output_width)
    for size in sizes:
        if not isinstance(size, int) or isinstance(size, bool) or size < 1:
            raise BadInput(
                f"break_even: {size!r} among the sizes {sizes} is not a positive integer"
            )
    return _BOUNDS[kind](*sizes)


def break_even_rank(kind: str, inputs: int, outputs: int, kernel_size: Pair = 1, **widths) -> int:
    """The largest width that still saves multiply-adds; 0 where none does.

    Args: as for `bound`.

    Example:
        break_even_rank("1d", 32, 64, 5)   # 106
    """
    return math.ceil(bound(kind, inputs, outputs, kernel_size, **widths)) - 1


def _dense(inputs, outputs, height, width, wide, narrow) -> Fraction:
    return Fraction(inputs * outputs, inputs + outputs)


def _channel(inputs, outputs, height, width, wide, narrow) -> Fraction:
    area = height * width * inputs
    return Fraction(area * outputs, area + outputs)


def _one_dimensional(inputs, outputs, height, width, wide, narrow) -> Fraction:
    full = height * width * inputs * outputs * narrow
    return Fraction(full, height * inputs * wide + width * outputs * narrow)


def _separable(inputs, outputs, height, width, wide, narrow) -> Fraction:
    return Fraction(height * width * outputs, height * width + outputs)


_BOUNDS: dict[str, Callable[..., Fraction]] = {
    "dense": _dense,
    "channel": _channel,
    "1d": _one_dimensional,
    "separable": _separable,
}
