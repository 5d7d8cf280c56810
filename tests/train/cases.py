"""Small images and models that train in a second."""

import keras
import numpy as np

from tfeffi.data import Images


def images(n=96, classes=4, size=8, seed=0):
    """Images whose class shows in their brightness, so that they can be learned."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % classes
    noise = rng.integers(0, 60, (n, size, size, 1))
    pixels = (labels * 190 // max(classes - 1, 1))[:, None, None, None] + noise
    return Images(
        images=pixels.astype("uint8"), labels=labels.astype("int64"), num_classes=classes,
        class_names=tuple(map(str, range(classes))), name="bands", split="train",
    )  # fmt: skip


def convnet(classes=4, size=8, norm=True, dropout=0.0, activation=None):
    """Convolution, normalization, ReLU or another activation, logits."""
    inputs = keras.Input((size, size, 1))
    x = keras.layers.Conv2D(6, 3, padding="same", use_bias=not norm, name="conv")(inputs)
    x = keras.layers.BatchNormalization(momentum=0.7, name="norm")(x) if norm else x
    kind = keras.layers.Activation(activation) if activation else keras.layers.ReLU(name="relu")
    x = kind(x)
    x = keras.layers.Dropout(dropout, seed=3, name="drop")(x) if dropout else x
    x = keras.layers.Flatten(name="flat")(x)
    return keras.Model(inputs, keras.layers.Dense(classes, name="logits")(x))
