"""What is neither a weight nor a width, and must survive surgery all the same."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.surgery.drawn import gap, images
from tfeffi.errors import BadInput
from tfeffi.surgery import New, deepen, groups, reindex, replace


@keras.saving.register_keras_serializable("tests")
class Holder(layers.Layer):
    """A layer of one's own that holds another; `layers` is a number in its config."""

    def __init__(self, layers=1, **kwargs):
        super().__init__(**kwargs)
        self.inner = keras.layers.Normalization()

    def build(self, shape):
        self.inner.build(shape)

    def call(self, x):
        return self.inner(x)


class Nameless(layers.Layer):
    """A layer whose config leaves out what Keras itself notes."""

    def __init__(self, scale=1.0):
        super().__init__()
        self.scale = scale

    def get_config(self):
        return {"scale": self.scale}

    def call(self, x):
        return x * self.scale


class Own(keras.Model):
    """A functional model of a class of one's own."""


def again(model):
    """The model after both kinds of surgery that change nothing."""
    dense = model.get_layer("d")
    width = dense.units
    chain = [New(layers.Dense(width, name="d"), dense.get_weights())]
    return [reindex(model, {"d": range(width)})[0], replace(model, {"d": chain})]


def with_head(inputs, x):
    x = layers.Dense(4, name="d")(x)
    return keras.Model(inputs, layers.Dense(2, name="logits")(x))


@pytest.mark.parametrize("kind", ["distributed", "held"])
def test_statistics_inside_another_layer(kind):
    values = np.random.default_rng(0).normal(3, 2, (50, 5, 4)).astype("float32")
    inputs = keras.Input((5, 4))
    if kind == "distributed":
        normalization = layers.Normalization()
        normalization.adapt(values[:, 0])
        x = layers.TimeDistributed(normalization)(inputs)
    else:
        holder = Holder(2)
        x = holder(inputs)
        holder.inner.adapt(values)
    model = with_head(inputs, x)
    for made in again(model):
        assert gap(model(images(model)), made(images(model))) <= 1e-6


@pytest.mark.parametrize(
    "lookup, values",
    [
        (layers.StringLookup, ["a", "b", "c"]),
        (layers.IntegerLookup, [5, 7, 9]),
        (lambda: layers.TextVectorization(output_sequence_length=3), ["a b", "c a"]),
    ],
)
def test_an_adapted_vocabulary(lookup, values):
    layer = lookup()
    layer.adapt(tf.constant(values))
    dtype = "int64" if isinstance(values[0], int) else "string"
    inputs = keras.Input((1,), dtype=dtype)
    x = layers.Flatten()(layers.Embedding(6, 4)(layer(inputs)))
    model = with_head(inputs, x)
    batch = tf.constant([[value] for value in values], dtype)
    for made in again(model):
        assert gap(model(batch), made(batch)) <= 1e-6


def test_how_a_layer_was_called():
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, name="c")(inputs)
    x = layers.BatchNormalization(name="bn")(x, training=False)
    model = keras.Model(inputs, layers.Conv2D(2, 3)(x))
    deeper = deepen(model, "c")
    [entry] = [one for one in deeper.get_config()["layers"] if one["name"] == "bn"]
    assert entry["inbound_nodes"][0]["kwargs"] == {"training": False}


def test_a_frozen_sequential_model_with_a_layer_that_is_not():
    def make():
        chain = [layers.Dense(4, name="d"), layers.Dense(3, name="e")]
        model = keras.Sequential([keras.Input((3,)), *chain], name="base")
        model.trainable = False
        model.get_layer("d").trainable = True
        return model

    inputs = keras.Input((3,))
    around = keras.Model(inputs, layers.Dense(2, name="f")(make()(inputs)))
    small, _ = reindex(make(), {"d": [0, 2]})
    assert not small.trainable and small.get_layer("d").trainable
    chain = [New(layers.Dense(2, name="f"))]
    for made in (reindex(around, {"base/d": [0, 2]})[0], replace(around, {"f": chain})):
        base = made.get_layer("base")
        assert not base.trainable_variables and base.get_layer("d").trainable
        assert len(made.trainable_variables) == len(around.trainable_variables)


def test_the_class_of_a_functional_model():
    inner = keras.Input((4,))
    nested = Own(inner, layers.Dense(3, name="a")(inner), name="nested")
    inputs = keras.Input((4,))
    model = Own(inputs, layers.Dense(2)(nested(inputs)))
    small, _ = reindex(model, {"nested/a": [0, 2]})
    assert type(small) is type(model) and type(small.get_layer("nested")) is type(nested)


def test_a_layer_that_does_not_tell_its_name():
    inputs = keras.Input((4,))
    model = with_head(inputs, Nameless()(inputs))
    for change in (
        lambda: reindex(model, {"d": [0, 1]}),
        lambda: replace(model, {"d": [New(layers.Dense(4, name="new"))]}),
    ):
        with pytest.raises(BadInput, match="does not tell its name"):
            change()


def test_a_layer_shared_between_a_model_and_one_nested_in_it():
    dense, inner, inputs = layers.Dense(4, name="d"), keras.Input((4,)), keras.Input((4,))
    nested = keras.Model(inner, dense(inner), name="nested")
    model = keras.Model(inputs, nested(dense(inputs)))
    with pytest.raises(BadInput, match="one layer, of which Keras makes two"):
        groups(model)


def test_an_operation_that_holds_an_array():
    inputs = keras.Input((4,))
    x = keras.ops.clip(inputs, np.zeros(4), np.ones(4))
    with pytest.raises(BadInput, match=r'operation "clip.*" \(Clip\) holds an array'):
        groups(with_head(inputs, x))


def test_a_softmax_with_a_mask_pins_both():
    inputs = keras.Input((3, 4))
    x, mask = layers.Dense(6, name="a")(inputs), layers.Dense(6, name="b")(inputs)
    x = layers.Softmax(axis=1)(x, mask=keras.ops.greater(mask, 0.0))
    pinned = {group.writers: group.pinned for group in groups(with_head(inputs, x))}
    assert "takes a mask" in pinned[("a",)] and "takes a mask" in pinned[("b",)]
