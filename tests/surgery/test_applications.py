"""Models of keras.applications: half of every free group goes, and the masked model agrees.

The oracle is the benchmark's: it follows the masks through the model by itself.
"""

import keras
import numpy as np
import pytest
from keras import layers

from benchmarks import applications
from tests.surgery.drawn import gap, images, randomize
from tfeffi.surgery import Coupling, groups, reindex

SMALL = {"MobileNetV3Small": 64, "ConvNeXtTiny": 32, "DenseNet121": 32}


def test_none_is_missing():
    found = applications.names()
    assert found == sorted(name for name in dir(keras.applications) if name[0].isupper())
    assert len(found) >= 40


@pytest.mark.parametrize(
    "name",
    ["MobileNetV3Small", "ConvNeXtTiny", pytest.param("DenseNet121", marks=pytest.mark.slow)],
)
def test_the_small_model_equals_the_masked_one_and_one_wrong_channel_shows(name):
    model = applications.built(name, SMALL[name])
    x = applications.pictures(model)
    applications.settle(model, x)
    small, coupling, kept, _ = applications.surgery(model)
    assert small.count_params() < 0.6 * model.count_params()
    mine = applications.outputs(small, x)
    right, wrong = (
        applications.oracle(model, coupling, of, x)
        for of in (kept, applications.one_wrong(coupling, kept, 0.5))
    )
    assert applications.apart(right, mine) <= 1e-5
    assert applications.apart(wrong, mine) >= 10 * applications.apart(right, mine)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name == "MobileNet" else pytest.mark.slow)
        for name in applications.names()
    ],
)
def test_it_passes_at_a_small_size(name):
    row = applications.measured(name, 96)
    assert row["passed"], row["why"]
    assert row["removed_channels"] > 0.2 * row["channels"]
    assert row["params_after"] < row["params"] and row["macs_after"] < row["macs"]


def test_the_layers_of_convnext_and_inception_resnet_pass_channels():
    from keras.src.applications.convnext import LayerScale, StochasticDepth
    from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(6, 3, name="a")(inputs)
    y = StochasticDepth(0.1, name="depth")(LayerScale(0.5, 6, name="gamma")(x))
    y = layers.Conv2D(6, 3, padding="same", name="b")(y)
    y = CustomScaleLayer(0.2, name="sum")([x, y])
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(y))
    randomize(model, 0)
    assert [(g.size, g.writers) for g in groups(model) if not g.pinned] == [(6, ("a", "b"))]
    small, _ = reindex(model, {"a": [0, 2, 5]})
    assert small.get_layer("gamma").gamma.shape == (3,)
    masked = applications.masked(model, {**_kept("ab", [0, 2, 5], 6), "out": np.ones(2, bool)})
    x = images(model)
    assert gap(masked(x), small(x)) <= 1e-5


def test_a_layer_of_ones_own_is_not_keras_s_because_it_has_its_name():
    class Add(layers.Layer):
        def call(self, x):
            return x[0] + x[1][..., ::-1]

    inputs = keras.Input((4, 4, 3))
    ends = [layers.Conv2D(4, 1, name=name)(inputs) for name in "ab"]
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="out")(Add(name="join")(ends)))
    assert all("join" in g.pinned for g in Coupling.of(model).groups if "out" not in g.writers)


def _kept(names, kept, count):
    return {name: np.isin(np.arange(count), kept) for name in names}
