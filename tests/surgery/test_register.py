"""A layer of a user's own: a rule of a few lines, and it is exact; without one its channels stay."""

import doctest

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, images, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, Edit, Rule, cut, cuts, groups, register, reindex, rules
from tfeffi.surgery.channels import Channels


class Gain(layers.Layer):
    """One factor for each channel."""

    def build(self, shape):
        self.gain = self.add_weight(shape=(shape[-1],), name="gain")

    def call(self, x):
        return x * self.gain


class Mix(layers.Layer):
    """A product with a matrix, over the last axis."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width

    def build(self, shape):
        self.matrix = self.add_weight(shape=(self.width, shape[-1]), name="matrix")
        self.offset = self.add_weight(shape=(self.width,), name="offset")

    def call(self, x):
        return keras.ops.matmul(x, keras.ops.transpose(self.matrix)) + self.offset

    def get_config(self):
        return {**super().get_config(), "width": self.width}


class GainRule(Rule):
    tied_calls = True

    def edit(self, site, read, written):
        return Edit(cuts=cuts(gain=cut(0, written[0])))


class MixRule(Rule):
    mints = reads = tied_calls = True

    def label(self, site, labels):
        return [Channels(site.rank - 1, labels.mint(site.layer.path, site.config["width"]))]

    def edit(self, site, read, written):
        weights = {
            "matrix": [cut(0, written[0]), cut(1, read[0], shared=True)],
            "offset": cut(0, written[0]),
        }
        return Edit({"width": len(written[0])}, cuts(**weights))


@pytest.fixture
def taught():
    register(Gain, GainRule())
    register(Mix, MixRule())
    yield
    for cls in (Gain, Mix):
        del rules._REGISTERED[cls]


def mixed():
    x = inputs = keras.Input((4, 4, 3))
    x = Gain(name="gain")(layers.Conv2D(6, 3, name="a", activation="tanh")(x))
    x = Mix(5, name="mix")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(keras.ops.tanh(x)))
    randomize(model, 2)
    return model


def test_without_a_rule_the_channels_stay():
    model = mixed()
    with pytest.raises(BadInput, match=r'must stay: "gain" \(.*Gain\) has no rule'):
        reindex(model, {"a": [0, 3]})
    assert [group.writers for group in groups(model) if not group.pinned] == []


def test_a_layer_for_each_channel_and_one_that_mixes_them(taught):
    model = mixed()
    small, slices = reindex(model, {"a": [5, 0, 3], "mix": [0, 2, 4]})
    assert small.get_layer("mix").matrix.shape == (3, 3)
    matrix, _ = model.get_layer("mix").get_weights()
    np.testing.assert_array_equal(slices.take("mix/matrix", matrix), small.get_layer("mix").matrix)
    matrix = matrix.copy()
    matrix[:, [1, 2, 4]] = 0
    model.get_layer("mix").matrix.assign(matrix)
    kernel = np.array(model.get_layer("b").kernel)
    kernel[:, :, [1, 3]] = 0
    model.get_layer("b").kernel.assign(kernel)
    x = images(model)
    assert gap(model(x), small(x)) <= 1e-5


def test_copies_are_shared_out(taught):
    model = mixed()
    wide, _ = reindex(model, {"a": [0, 0, 1, 2, 3, 4, 5], "mix": [0, 1, 1, 1, 2, 3, 4]})
    x = images(model)
    assert gap(model(x), wide(x)) <= 1e-5


def test_what_mixes_counts_as_writer_and_reader(taught):
    coupling = Coupling.of(mixed())
    assert [group.writers for group in coupling.groups] == [("a",), ("mix",), ("b",)]
    assert [group.readers for group in coupling.groups] == [("mix",), ("b",), ()]


def test_a_weight_that_is_not_there_is_told(taught):
    class Wrong(Rule):
        def edit(self, site, read, written):
            return Edit(cuts=cuts(gian=cut(0, written[0])))

    register(Gain, Wrong())
    with pytest.raises(BadInput, match=r'"gain" \(.*Gain\) has no weight \'gian\''):
        reindex(mixed(), {"a": [0, 3]})


def test_a_weight_that_the_rule_forgets_is_told(taught):
    register(Gain, Rule())
    with pytest.raises(
        BadInput, match=r'"gain".* expects gain of shape \(2,\), the cut gives \(6,\)'
    ):
        reindex(mixed(), {"a": [0, 3]})


def test_the_example_of_the_docstring_runs():
    results = doctest.testmod(rules)
    assert results.attempted > 5 and results.failed == 0
    for cls in [cls for cls in rules._REGISTERED if cls.__name__ == "Gain"]:
        del rules._REGISTERED[cls]


@pytest.mark.parametrize(("layer", "rule"), [("Gain", Rule()), (Gain, Rule), (Gain(), Rule())])
def test_bad_rules(layer, rule):
    with pytest.raises(BadInput, match="register: expected a layer class and a Rule"):
        register(layer, rule)
