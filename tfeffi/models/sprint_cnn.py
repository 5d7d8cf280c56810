"""The network for training in minutes: six convolutions behind a whitening of small patches.

Pooling comes right after the convolution, so that normalization and activation see a quarter of the
values; the scales of normalization are fixed at 1 and only its biases learn; new filters begin as an
identity.

Source: Jordan 2024, "94% on CIFAR-10 in 3.29 seconds on a single GPU", arXiv 2404.00498, sections 3.1
to 3.3; Page 2019, "How to train your ResNet".
"""

import keras
import numpy as np
from keras import layers

from tfeffi.errors import BadInput
from tfeffi.models import arguments

MEAN, DEVIATION = (
    (0.4914, 0.4822, 0.4465),
    (0.2470, 0.2435, 0.2616),
)  # of CIFAR-10's training images
WHITENING = "whitening"
SMALLEST = 9  # pixels: the whitening takes one, and three poolings halve the rest


def build(
    *, input_shape, num_classes, widths=(64, 256, 256), activation="gelu", momentum=0.6,
    width_multiplier=1.0,
) -> keras.Model:  # fmt: skip
    """Builds the network.

    Args:
        input_shape: (height, width, channels) of an image; the last features are 1/8 as high.
        num_classes: number of logits.
        widths: filters of the two convolutions in each of the three blocks.
        activation: a Keras activation.
        momentum: of the moving statistics; a short training needs short averages.
        width_multiplier: scales the widths.

    Returns:
        A model from images (batch, height, width, channels) in [0, 1] to logits. Its layer
        "whitening" is a 2×2 convolution whose kernel waits for the method of that name.

    Raises:
        BadInput: an argument is of no use, or images are smaller than 9 pixels.

    Example:
        build(input_shape=(32, 32, 3), num_classes=10)     # 118 M MACs
    """
    shape = arguments.image_shape(input_shape)
    num_classes = arguments.count("num_classes", num_classes)
    scale = arguments.multiplier(width_multiplier)
    widths = [arguments.scaled(w, scale) for w in arguments.counts("widths", widths, 3)]

    if min(shape[:2]) < SMALLEST:
        raise BadInput(
            f"models: input_shape={shape}; sprint_cnn needs {SMALLEST} pixels a side at least"
        )
    image = keras.Input(shape, name="image")
    of_color = shape[2] == len(MEAN)
    mean = MEAN if of_color else (0.5,) * shape[2]
    variance = tuple(d * d for d in (DEVIATION if of_color else (0.25,) * shape[2]))
    x = layers.Normalization(mean=mean, variance=variance, name="standardize")(image)
    filters = 2 * 2 * 2 * shape[2]
    x = layers.Conv2D(filters, 2, kernel_initializer=_uniform(), name=WHITENING)(x)
    x = layers.Activation(activation, name="whitening_activation")(x)
    for number, width in enumerate(widths, 1):
        x = _convolution(x, width, activation, momentum, f"block{number}_1", pool=True)
        x = _convolution(x, width, activation, momentum, f"block{number}_2")
    x = layers.GlobalMaxPooling2D(name="pool")(x)
    x = layers.Rescaling(1 / widths[-1], name="scaled_features")(x)
    x = layers.Dense(num_classes, use_bias=False, kernel_initializer=_uniform(), name="logits")(x)
    model = keras.Model(image, x, name="sprint_cnn")
    for layer in model.layers:
        if isinstance(layer, layers.Conv2D) and layer.name != WHITENING:
            layer.kernel.assign(_with_identity(np.array(layer.kernel)))
    head = np.array(model.get_layer("logits").kernel)
    model.get_layer("logits").kernel.assign(head / head.std())
    return model


def _convolution(x, width: int, activation: str, momentum: float, name: str, pool: bool = False):
    x = layers.Conv2D(
        width, 3, padding="same", use_bias=False, kernel_initializer=_uniform(), name=f"{name}_conv"
    )(x)
    if pool:
        x = layers.MaxPooling2D(2, name=f"{name}_pool")(x)
    x = layers.BatchNormalization(momentum=momentum, epsilon=1e-12, scale=False, name=f"{name}_bn")(
        x
    )
    return layers.Activation(activation, name=f"{name}_activation")(x)


def _uniform() -> keras.initializers.Initializer:
    """Uniform in ±1/√(fan in)."""
    return keras.initializers.VarianceScaling(1 / 3, "fan_in", "uniform")


def _with_identity(kernel: np.ndarray) -> np.ndarray:
    """The kernel (h, w, in, out) whose first filters pass the channels on as they are."""
    kernel = kernel.copy()
    count = min(kernel.shape[2:])
    kernel[..., :count] = 0
    kernel[kernel.shape[0] // 2, kernel.shape[1] // 2, range(count), range(count)] = 1
    return kernel
