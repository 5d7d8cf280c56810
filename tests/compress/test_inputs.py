"""Data for models of several inputs: a list, a dict and a Dataset of dicts are the same data."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tfeffi import Budget, factorize, prune
from tfeffi.compress.prune import measure
from tfeffi.data import Images
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling

RANDOM = np.random.default_rng(3)
DATA = {"right": RANDOM.random((300, 6), np.float32), "left": RANDOM.random((300, 9), np.float32)}
METHODS = {
    "prune": lambda model, data: prune(model, Budget(macs=0.5), data=data),
    "factorize": lambda model, data: factorize(model, budget=Budget(macs=0.6), data=data),
}


def model_of(names=("left", "right")):
    """Takes a dict with the keys "left" and "right", whatever its tensors are called."""
    keras.utils.set_random_seed(0)
    left, right = keras.Input((9,), name=names[0]), keras.Input((6,), name=names[1])
    both = [layers.Dense(16, activation="relu")(left), layers.Dense(16, activation="relu")(right)]
    x = layers.Dense(32, activation="relu")(layers.Concatenate()(both))
    x = layers.Dense(32, activation="relu")(x)
    return keras.Model({"left": left, "right": right}, layers.Dense(3)(x))


@pytest.mark.filterwarnings("ignore:.*key:UserWarning")
@pytest.mark.parametrize("names", [("left", "right"), ("z", "a")], ids=["same", "other"])
@pytest.mark.parametrize("method", METHODS)
def test_lists_dicts_and_datasets_give_the_same_model(method, names):
    model = model_of(names)
    given = [
        [DATA["left"], DATA["right"]],
        DATA,
        tf.data.Dataset.from_tensor_slices(DATA).batch(64),
    ]
    made = [METHODS[method](model, data) for data in given]
    for small, report in made:
        assert report.changed
        for one, other in zip(small.get_weights(), made[0][0].get_weights(), strict=True):
            np.testing.assert_allclose(one, other, atol=1e-4)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("data", "says"),
    [
        ({"left": DATA["left"]}, r"the data has inputs \['left'\], the model takes"),
        ({**DATA, "left": DATA["left"][:7]}, r"have \[7, 300\] examples; give equally many"),
        ([DATA["left"]], "the data has 1 inputs, the model 2"),
        ({**DATA, "left": "pictures"}, "data is str"),
    ],
)
def test_bad_input(method, data, says):
    with pytest.raises(BadInput, match=rf"^{method}: .*{says}") as error:
        METHODS[method](model_of(), data)
    assert "\n" not in str(error.value)


def test_a_model_of_whole_numbers_gets_pixels():
    pixels = RANDOM.integers(0, 256, (40, 6, 6, 1)).astype("uint8")
    images = Images(pixels, np.zeros(40, int), 2, ("a", "b"), "mine", "train")
    x = inputs = keras.Input((6, 6, 1), dtype="uint8")
    x = layers.Conv2D(16, 3, activation="relu")(layers.Rescaling(1 / 255)(x))
    coupling = Coupling.of(keras.Model(inputs, layers.Dense(2)(layers.Flatten()(x))))
    found, expected = measure(coupling, images), measure(coupling, pixels)
    np.testing.assert_array_equal(found.magnitude, expected.magnitude)
    assert found.magnitude.sum() > 0


@pytest.mark.parametrize("labels", [np.arange(40) > 20, (np.arange(40) > 20).astype("uint8")])
def test_labels_may_be_true_and_false(labels):
    x = inputs = keras.Input((6,))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(16, activation="relu")(x)))
    data = RANDOM.random((40, 6), np.float32), labels
    _, report = prune(model, Budget(macs=0.5), importance="taylor", data=data)
    assert report.changed
    with pytest.raises(BadInput, match=r"^prune: data is objects or text; give"):
        prune(model, Budget(macs=0.5), importance="taylor", data=(data[0], ["cat"] * 40))
