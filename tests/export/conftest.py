"""A small trained classifier and its training images, made once for this room's tests."""

import keras
import numpy as np
import pytest

CLASSES = 4


def striped(n, seed):
    """Images (n, 12, 12, 1) in [0, 1] whose stripes' direction and width say their class."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, CLASSES, n)
    y, x = np.mgrid[0:12, 0:12]
    patterns = np.stack([x % 4 < 2, y % 4 < 2, (x + y) % 4 < 2, (x // 3 + y // 3) % 2 == 0])
    images = 0.6 * patterns[labels] + 0.4 * random.random((n, 12, 12))
    return images[..., None].astype(np.float32), labels


def network():
    """Every kind of layer that folds: normalization after plain, strided and depthwise convolutions."""
    layers = keras.layers
    x = image = keras.Input((12, 12, 1), name="image")
    for filters in (8, 32):
        x = layers.Conv2D(filters, 3, strides=2, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.8)(x))
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization(momentum=0.8)(x))
    y = layers.BatchNormalization(momentum=0.8)(layers.Conv2D(32, 1)(x))
    x = layers.Add()([x, y])
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(image, layers.Dense(CLASSES, name="logits", dtype="float32")(x))


@pytest.fixture(scope="session")
def images():
    return striped(512, seed=0)


@pytest.fixture(scope="session")
def saved(images, tmp_path_factory):
    """The path of the trained model: each test loads its own."""
    keras.utils.set_random_seed(0)
    model = network()
    model.compile(
        keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    )
    model.fit(*images, batch_size=64, epochs=12, verbose=0)
    path = tmp_path_factory.mktemp("trained") / "model.keras"
    model.save(path)
    return path


@pytest.fixture
def model(saved):
    return keras.models.load_model(saved, compile=False)
