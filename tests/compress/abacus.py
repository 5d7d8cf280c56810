"""What the device of the fixture `abacus` has measured, and a small model to measure on it."""

import pathlib

import keras
import numpy as np
from keras import layers

from tests.surgery.drawn import randomize


def count(device):
    """How many measurements the device has made."""
    log = pathlib.Path(device.partition(":")[2])
    return len(log.read_text().splitlines()) if log.exists() else 0


def net(seed=4):
    """Two coupled convolutions of 24, a depthwise one, one of 32, a classifier of 5."""
    x = inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(24, 3, padding="same", use_bias=False, name="a")(x)
    x = a = layers.ReLU()(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(x)
    x = layers.Conv2D(24, 1, activation="relu", name="b")(x)
    x = layers.Add()([x, a])
    x = layers.Conv2D(32, 3, strides=2, padding="same", activation="relu", name="c")(x)
    x = layers.Dense(5, name="logits")(layers.Flatten()(x))
    model = keras.Model(inputs, x)
    randomize(model, seed)
    return model


IMAGES = np.random.default_rng(0).random((40, 8, 8, 3), np.float32)
