"""Fills the first convolution with filters that whiten the patches of the training images.

Its outputs are uncorrelated, of equal variance, and come with both signs. They need no training: the
layer is frozen, its bias with it.

Source: Jordan 2024, arXiv 2404.00498, section 3.2; Page 2019, "How to train your ResNet", part 8.
"""

import numbers

import keras
import numpy as np

from tfeffi.errors import BadInput
from tfeffi.methods.method import Method

PATCH_VALUES = 2**20  # 8 MB of them at a time, or those of one image


def whitening_filters(images: np.ndarray, size: int, epsilon: float = 5e-4) -> np.ndarray:
    """The eigenvectors of the patches' second moments, each divided by √(eigenvalue + epsilon).

    Args:
        images: float (n, height, width, channels), as the convolution sees them.
        size: height and width of a patch.
        epsilon: keeps directions in which nothing varies from being blown up.

    Returns:
        float32 (size, size, channels, size·size·channels), eigenvalues rising. With epsilon 0 the
        outputs of a convolution with it have the identity as their second moments.
    """
    width, count, moments = size * size * images.shape[3], 0, 0.0
    at_once = max(1, PATCH_VALUES // (width * images.shape[1] * images.shape[2]))
    for start in range(0, len(images), at_once):
        part = images[start : start + at_once]
        windows = np.lib.stride_tricks.sliding_window_view(part, (size, size), axis=(1, 2))
        patches = windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, width).astype("float64")
        moments, count = moments + patches.T @ patches, count + len(patches)
    values, vectors = np.linalg.eigh(moments / count)
    filters = vectors / np.sqrt(values + epsilon)
    return filters.reshape(size, size, images.shape[3], -1).astype("float32")


class Whitening(Method):
    """`whitening_filters` of what the layer is given, with both signs, as its frozen kernel."""

    def __init__(self, layer: str, images: int, epsilon: float):
        self.layer, self.count, self.epsilon = layer, images, epsilon

    def on_model(self, run) -> None:
        layer = self._find(run.model)
        size, _, channels, filters = layer.kernel.shape
        wanted = 2 * size * size * channels
        if filters != wanted:
            raise BadInput(
                f'whitening: layer "{self.layer}" has {filters} filters; both signs of its '
                f"{size}x{size}x{channels} patches need {wanted}"
            )
        before = keras.Model(run.model.inputs, layer.input)
        pixels = run.train.images[: self.count].astype("float32") / 255
        given = keras.ops.convert_to_numpy(keras.ops.cast(before([pixels]), "float32"))
        filters = whitening_filters(given, size, self.epsilon)
        layer.kernel.assign(np.concatenate([filters, -filters], axis=-1))
        layer.trainable = False

    def _find(self, model) -> keras.layers.Layer:
        try:
            layer = model.get_layer(self.layer)
        except ValueError as error:
            raise BadInput(
                f'whitening: no layer "{self.layer}" in the model; name its first convolution'
            ) from error
        if (
            not isinstance(layer, keras.layers.Conv2D)
            or layer.kernel.shape[0] != layer.kernel.shape[1]
        ):
            raise BadInput(
                f'whitening: layer "{self.layer}" must be a Conv2D with a square kernel, not '
                f"{type(layer).__name__} {layer.get_config().get('kernel_size', '')}"
            )
        return layer

    def settings(self) -> dict:
        return {"layer": self.layer, "images": self.count, "epsilon": self.epsilon}


def build(layer: str = "whitening", images: int = 5000, epsilon: float = 5e-4) -> Whitening:
    """The method.

    Args:
        layer: the name of the first convolution.
        images: how many training images are looked at.
        epsilon: see `whitening_filters`.

    Raises:
        BadInput: a number that is not positive.
    """
    if not isinstance(images, int) or images < 1:
        raise BadInput(f"whitening: images={images!r} must be a whole number of at least 1")
    if not isinstance(epsilon, numbers.Real) or not epsilon > 0:
        raise BadInput(f"whitening: epsilon={epsilon!r} must be above 0")
    return Whitening(layer, images, epsilon)
