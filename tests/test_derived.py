"""An adapted Normalization keeps its statistics whatever becomes of the model around it."""

import keras
import numpy as np
import pytest
from keras import layers

from tfeffi import factorize
from tfeffi.export.convert import in_float32
from tfeffi.layers import fuse_batch_normalization
from tfeffi.surgery import New, reindex, replace
from tfeffi.train.precision import recast

MAKE = {
    "reindex": lambda m: reindex(m, {"a": range(6)})[0],
    "replace": lambda m: replace(
        m, {"b": [New(layers.Conv2D(2, 1, name="b"), m.get_layer("b").get_weights())]}
    ),
    "factorize": lambda m: factorize(m, energy=1.0)[0],
    "fuse_batch_normalization": fuse_batch_normalization,
    "recast": lambda m: recast(m, "float32"),
    "in_float32": lambda m: in_float32(recast(m, "mixed_bfloat16")),
}


def images():
    return np.random.default_rng(0).normal(5, 3, (64, 4, 4, 3)).astype("float32")


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("name", MAKE)
def test_an_adapted_normalization_survives(name, nested):
    normalization = layers.Normalization(name="normalization")
    normalization.adapt(images())
    inputs = x = keras.Input((4, 4, 3))
    x = keras.Sequential([keras.Input((4, 4, 3)), normalization])(x) if nested else normalization(x)
    x = layers.BatchNormalization(name="bn")(layers.Conv2D(6, 3, name="a")(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(x))
    made = MAKE[name](model)
    np.testing.assert_allclose(made(images()), model(images()), rtol=1e-4, atol=1e-4)
