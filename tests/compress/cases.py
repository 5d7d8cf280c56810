"""Models whose kernels are low-rank by construction: factorization of them must lose nothing."""

import keras
import numpy as np

from tfeffi import models
from tfeffi.compress import decompose


def built(name, width_multiplier=0.25, size=32):
    """A narrow model of this architecture, with weights that no two layers share."""
    arguments = {"input_shape": (size, size, 3), "width_multiplier": width_multiplier}
    if name != "mnist_autoencoder":
        arguments["num_classes"] = 7
    if name == "mnist_classifier":
        arguments["input_shape"] = (28, 28, 1)
    if name == "resnet_imagenet":
        arguments["depth"] = 34  # half the layers of 50: half the time
    return models.build(name, **arguments)


def images(model, count=3, seed=0):
    shape = model.inputs[0].shape[1:]
    return np.random.default_rng(seed).random((count, *shape), np.float32)


def gap(one, other, x):
    """The largest difference of two models' outputs, relative to the largest output."""
    a, b = (keras.ops.convert_to_numpy(m(x, training=False)) for m in (one, other))
    return float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-30))


def kernels(model):
    """The layers with full kernels: Conv2D and Dense."""
    return [layer for layer in model.layers if type(layer).__name__ in ("Conv2D", "Dense")]


def plant(model, kind):
    """Overwrites every kernel by one that this structure represents at a low rank."""
    for layer in kernels(model):
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        if kind == "separable" and kernel.ndim == 4:
            depthwise, pointwise = decompose.separable_kernels(kernel, 1)
            kernel = np.einsum("hwci,co->hwco", depthwise, pointwise[0, 0])
        elif kind == "spatial" and kernel.ndim == 4 and kernel.shape[:2] != (1, 1):
            split = decompose.low_rank(decompose.spatial_matrix(kernel))
            vertical, horizontal = decompose.spatial_kernels(kernel.shape, *split.cut(2))
            kernel = np.einsum("hicr,wro->hwco", vertical, horizontal[0])
        elif kind in ("channel", "spatial"):
            left, right = decompose.low_rank(decompose.channel_matrix(kernel)).cut(2)
            kernel = (left @ right).reshape(kernel.shape)
        layer.kernel.assign(kernel)
    return model
