"""The blocks that architectures are made of: (tensor, filters) -> tensor, every layer named.

All take and give images, (batch, height, width, channels); `stride` divides height and width,
rounding up. Convolutions before a batch normalization have no bias: it would be subtracted again.
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import layers

from tfeffi.errors import BadInput, near
from tfeffi.models.arguments import scaled

Size = int | tuple[int, int]


def get(name: str) -> Callable[..., Any]:
    """The block of this name: residual, bottleneck, inverted_residual, inception, separable, …

    Raises:
        BadInput: there is none.

    Example:
        x = get("bottleneck")(x, 64, stride=2, name="stage2_block1")
    """
    if name not in BLOCKS:
        raise BadInput(f'models: there is no block "{name}"; {near(name, BLOCKS)}')
    return BLOCKS[name]


def convolution(
    x: Any,
    filters: int,
    kernel_size: Size,
    *,
    name: str,
    stride: Size = 1,
    number: int | str = "",
    relu: bool = True,
    max_value: float | None = None,
) -> Any:
    """Convolution, batch normalization and, with `relu`, ReLU (cut at `max_value`).

    The layers are called NAME_conv, NAME_bn and NAME_relu, each with the number after it.
    """
    x = layers.Conv2D(
        filters,
        kernel_size,
        strides=stride,
        padding="same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv{number}",
    )(x)
    x = layers.BatchNormalization(name=f"{name}_bn{number}")(x)
    return layers.ReLU(max_value, name=f"{name}_relu{number}")(x) if relu else x


def depthwise(
    x: Any,
    kernel_size: Size,
    *,
    name: str,
    stride: Size = 1,
    max_value: float | None = None,
) -> Any:
    """Depthwise convolution, batch normalization and ReLU."""
    x = layers.DepthwiseConv2D(
        kernel_size,
        strides=stride,
        padding="same",
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{name}_depthwise",
    )(x)
    x = layers.BatchNormalization(name=f"{name}_depthwise_bn")(x)
    return layers.ReLU(max_value, name=f"{name}_depthwise_relu")(x)


def residual(x: Any, filters: int, *, name: str, stride: int = 1, shortcut: bool = True) -> Any:
    """Two 3×3 convolutions and a shortcut, a 1×1 convolution where the shape changes (option B).

    Args:
        filters: output channels.
        shortcut: False leaves it out: the plain block that the paper compares with.

    Source: He et al. 2015, arXiv 1512.03385, figure 2 and section 3.3.
    """
    y = convolution(x, filters, 3, stride=stride, name=name, number=1)
    y = convolution(y, filters, 3, name=name, number=2, relu=False)
    return _joined(_shortcut(x, filters, stride, name) if shortcut else None, y, name)


def bottleneck(
    x: Any,
    filters: int,
    *,
    name: str,
    stride: int = 1,
    expansion: int = 4,
    stride_in: str = "3x3",
    shortcut: bool = True,
) -> Any:
    """1×1 down to `filters`, 3×3, 1×1 up to `expansion` times as many, and a shortcut.

    Args:
        filters: of the inner convolutions; the output has `expansion * filters` channels.
        stride_in: the convolution that strides: "1x1", the first, as in the paper, or "3x3", 6 %
            more MACs in ResNet-50 and a little more accurate ("v1.5").
        shortcut: False leaves it out.

    Source: He et al. 2015, arXiv 1512.03385, figure 5.
    """
    first, second = (stride, 1) if stride_in == "1x1" else (1, stride)
    y = convolution(x, filters, 1, stride=first, name=name, number=1)
    y = convolution(y, filters, 3, stride=second, name=name, number=2)
    y = convolution(y, expansion * filters, 1, name=name, number=3, relu=False)
    wide = _shortcut(x, expansion * filters, stride, name) if shortcut else None
    return _joined(wide, y, name)


def inverted_residual(
    x: Any, filters: int, *, name: str, stride: int = 1, expansion: int = 6, shortcut: bool = True
) -> Any:
    """1×1 up to `expansion` times the input's channels, 3×3 depthwise, linear 1×1 down.

    The input is added where the shape stays. ReLU6 throughout.

    Args:
        filters: output channels.
        expansion: 1 leaves the first convolution out.
        shortcut: False never adds the input.

    Source: Sandler et al. 2018, arXiv 1801.04381, table 1.
    """
    channels = x.shape[-1]
    y = x
    if expansion != 1:
        y = convolution(y, expansion * channels, 1, name=f"{name}_expand", max_value=6.0)
    y = depthwise(y, 3, stride=stride, name=name, max_value=6.0)
    y = convolution(y, filters, 1, name=f"{name}_project", relu=False)
    if shortcut and stride == 1 and channels == filters:
        y = layers.Add(name=f"{name}_add")([x, y])
    return y


def inception(x: Any, filters: int, *, name: str, stride: int = 1, shortcut: bool = False) -> Any:
    """Four branches side by side: 1×1 | 1×1, 3×3 | 1×1, 5×5 | max pooling, 1×1.

    They share the output in the proportions 2 : 4 : 1 : 1 of GoogLeNet's block 3a; the inner 1×1
    convolutions have 3/8 and 1/16 of the output's channels.

    Args:
        filters: output channels, at least 4.
        shortcut: mix the branches by a linear 1×1 convolution and add the input, as Inception-ResNet
            does (Szegedy et al. 2016, arXiv 1602.07261, figure 10).

    Source: Szegedy et al. 2014, arXiv 1409.4842, figure 2b and table 1; with batch normalization.

    Raises:
        BadInput: fewer than 4 filters: each branch needs one.
    """
    if filters < 4:
        raise BadInput(f"models: inception block {name} with {filters} filters; give at least 4")
    ones, fives, pooled = (max(1, scaled(filters, share)) for share in (1 / 4, 1 / 8, 1 / 8))
    threes = filters - ones - fives - pooled
    branches = [convolution(x, ones, 1, stride=stride, name=f"{name}_1x1")]
    for label, size, inner, outer in (
        ("3x3", 3, scaled(filters, 3 / 8), threes),
        ("5x5", 5, scaled(filters, 1 / 16), fives),
    ):
        y = convolution(x, inner, 1, name=f"{name}_{label}_reduce")
        branches.append(convolution(y, outer, size, stride=stride, name=f"{name}_{label}"))
    y = layers.MaxPooling2D(3, strides=stride, padding="same", name=f"{name}_pool")(x)
    branches.append(convolution(y, pooled, 1, name=f"{name}_pool"))
    y = layers.Concatenate(name=f"{name}_concat")(branches)
    if not shortcut:
        return y
    y = convolution(y, filters, 1, name=f"{name}_mix", relu=False)
    return _joined(_shortcut(x, filters, stride, name), y, name)


def separable(x: Any, filters: int, *, name: str, stride: int = 1, kernel_size: Size = 3) -> Any:
    """Depthwise convolution and 1×1 convolution, each with batch normalization and ReLU.

    Costs 1/filters + 1/kernel_size² of the dense convolution's MACs.

    Source: Howard et al. 2017, arXiv 1704.04861, equation 5 and figure 3.
    """
    x = depthwise(x, kernel_size, stride=stride, name=name)
    return convolution(x, filters, 1, name=f"{name}_pointwise")


def pair_1d(
    x: Any,
    filters: int,
    *,
    name: str,
    stride: int = 1,
    kernel_size: int = 3,
    middle: int | None = None,
) -> Any:
    """An N×1 convolution, ReLU, a 1×N convolution, batch normalization, ReLU.

    Saves MACs over N×N where middle < N·K·L / (K + L), with K input and L output channels.

    Args:
        filters: output channels L.
        middle: channels between the two; None: as many as the output.

    Source: Alvarez and Petersson 2016, arXiv 1606.05426, section 3.
    """
    x = layers.Conv2D(
        middle or filters,
        (kernel_size, 1),
        strides=(stride, 1),
        padding="same",
        kernel_initializer="he_normal",
        name=f"{name}_vertical_conv",
    )(x)
    x = layers.ReLU(name=f"{name}_vertical_relu")(x)
    return convolution(x, filters, (1, kernel_size), stride=(1, stride), name=f"{name}_horizontal")


def classifier(x: Any, num_classes: int) -> Any:
    """Global average pooling and the logits, in float32 under every precision policy."""
    return logits(layers.GlobalAveragePooling2D(name="pool")(x), num_classes)


def logits(x: Any, num_classes: int) -> Any:
    """The output layer: named "logits", no activation, float32."""
    return layers.Dense(num_classes, dtype="float32", name="logits")(x)


def image_input(input_shape: tuple[int, int, int]) -> Any:
    """The input layer, named "image": float32 under every precision policy."""
    return keras.Input(input_shape, dtype="float32", name="image")


def _shortcut(x: Any, filters: int, stride: int, name: str) -> Any:
    if stride == 1 and x.shape[-1] == filters:
        return x
    return convolution(x, filters, 1, stride=stride, name=f"{name}_shortcut", relu=False)


def _joined(shortcut: Any | None, y: Any, name: str) -> Any:
    if shortcut is not None:
        y = layers.Add(name=f"{name}_add")([shortcut, y])
    return layers.ReLU(name=f"{name}_relu")(y)


BLOCKS: dict[str, Callable[..., Any]] = {
    "residual": residual,
    "bottleneck": bottleneck,
    "inverted_residual": inverted_residual,
    "inception": inception,
    "separable": separable,
    "1d": pair_1d,
}
