"""replace: a chain in the place of a layer, everything else as it was."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, images, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import New, reindex, replace


def model_of(*, output_name="logits"):
    x = inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(4, 3, padding="same", activation="relu", name="a")(x)
    y = layers.Conv2D(4, 3, padding="same", name="b")(x)
    x = layers.Flatten(name="flat")(layers.Add(name="add")([x, y]))
    model = keras.Model(inputs, layers.Dense(5, name=output_name)(x))
    randomize(model, 0)
    return model


def factors(model, name="logits"):
    kernel, bias = model.get_layer(name).get_weights()
    u, s, v = np.linalg.svd(kernel, full_matrices=False)
    return u * s, v, bias


def test_an_svd_pair_computes_the_same():
    model = model_of()
    left, right, bias = factors(model)
    pair = [
        New(layers.Dense(5, use_bias=False, name="left"), [left]),
        New(layers.Dense(5, name="logits"), [right, bias]),
    ]
    made = replace(model, {"logits": pair})
    x = images(model)
    assert gap(model(x), made(x)) <= 1e-5
    assert [layer.name for layer in made.layers][-2:] == ["left", "logits"]
    small, _ = reindex(made, {"left": [0, 1], "a": [0, 2]})
    assert small.count_params() < made.count_params()


def test_several_at_once_and_in_the_middle_of_a_residual():
    model = model_of()
    kernel, bias = model.get_layer("b").get_weights()
    identity = np.eye(4, dtype="float32").reshape(1, 1, 4, 4)
    chains = {
        "a": [New(layers.Conv2D(4, 3, padding="same", name="a"), model.get_layer("a").get_weights()),
              New(layers.ReLU(name="a_relu"))],
        "b": [New(layers.Conv2D(4, 3, padding="same", use_bias=False, name="b1"), [kernel]),
              New(layers.Conv2D(4, 1, name="b2"), [identity, bias])],
    }  # fmt: skip
    made = replace(model, chains)
    x = images(model)
    assert gap(model(x), made(x)) <= 1e-5
    names = {layer.name for layer in made.layers}
    assert {"a", "a_relu", "b1", "b2"} <= names and "b" not in names


def test_an_empty_chain_removes_the_layer():
    x = inputs = keras.Input((4,))
    x = layers.Dense(3, name="fc")(x)
    x = layers.Dropout(0.5, name="drop")(x)
    model = keras.Model(inputs, layers.Dropout(0.5, name="last")(x))
    made = replace(model, {"drop": [], "last": []})
    assert [layer.name for layer in made.layers][1:] == ["fc"]
    np.testing.assert_array_equal(model(images(model)), made(images(model)))


def test_a_shared_layer_is_replaced_in_all_its_calls():
    inputs = keras.Input((4,))
    shared = layers.Dense(4, activation="tanh", name="shared")
    model = keras.Model(inputs, layers.Add()([shared(shared(inputs)), inputs]))
    weights = shared.get_weights()
    made = replace(
        model,
        {"shared": [New(layers.Dense(4, name="s"), weights), New(layers.Activation("tanh"))]},
    )
    assert gap(model(images(model)), made(images(model))) <= 1e-6
    assert made.count_params() == model.count_params()


def test_inside_a_nested_model():
    inner = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="fc")], name="seq")
    x = y = keras.Input((4,))
    y = layers.Dense(4, name="fc")(y)
    outer_input = keras.Input((4,))
    nested = keras.Model(x, y, name="nested")
    model = keras.Model(outer_input, inner(nested(outer_input)))
    randomize(model, 1)
    weights = nested.get_layer("fc").get_weights()
    made = replace(model, {"nested/fc": [New(layers.Dense(4, name="new"), weights)]})
    assert gap(model(images(model)), made(images(model))) <= 1e-6
    with pytest.raises(BadInput, match='"seq" is a nested Sequential model'):
        replace(model, {"seq/fc": []})


def test_new_weights_are_fresh_where_none_are_given():
    model = model_of()
    made = replace(model, {"b": [New(layers.SeparableConv2D(4, 3, padding="same", name="b"))]})
    assert made.output_shape == model.output_shape
    np.testing.assert_array_equal(made.get_layer("a").kernel, model.get_layer("a").kernel)


def test_the_model_and_the_given_layers_stay_as_they_are():
    model = model_of()
    before, config = [w.copy() for w in model.get_weights()], model.get_config()
    layer = layers.Conv2D(4, 1, name="n")
    replace(model, {"b": [New(layer)]})
    assert model.get_config() == config and not layer.built
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_nested_output_behind_a_removed_layer():
    """Keras counts the calls of nested models differently in its list of outputs."""
    inner = keras.Input((4,))
    nested = keras.Model(inner, layers.Dense(4, name="fc")(inner), name="nested")
    inputs = keras.Input((4,))
    model = keras.Model(inputs, layers.Dropout(0.5, name="drop")(nested(nested(inputs))))
    made = replace(model, {"drop": []})
    np.testing.assert_array_equal(model(images(model)), made(images(model)))
    small, _ = reindex(made, {})
    np.testing.assert_array_equal(made(images(model)), small(images(model)))


@pytest.mark.parametrize(
    ("chains", "says"),
    [
        ({"c": []}, 'layer "c" is not in the model'),
        ({"add": []}, '"add" .Add. has 2 inputs and 1 outputs'),
        ({"b": [layers.Dense(3)]}, r"expected New\(layer, weights\)"),
        ({"b": [New(layers.Conv2D(4, 1, name="a"))]}, 'the name "a" is taken'),
        ({"b": [New(layers.Conv2D(5, 1))]}, "the chain does not fit"),
        ({"a": [New(layers.Conv2D(4, 3, name="n"))]}, "does not fit"),
        ({"logits": [New(layers.Dense(4, name="n"))]}, r"shape \(None, 4\) instead of \(None, 5\)"),
        ({"logits": [New(layers.Dense(5, name="n"), [np.zeros(3)])]}, "has weights of shapes"),
        ({"flat": [New(layers.GlobalAveragePooling2D(name="n"))]}, "the chain does not fit"),
        (["a"], r"expected {layer: \[New\(\.\.\.\), \.\.\.\]}"),
        ({"a": 5}, '"a": expected a list of New'),
        ({"logits": [New(layers.Dense(5, name="n"), 5)]}, "give a list of arrays"),
    ],
)
def test_bad_chains(chains, says):
    with pytest.raises(BadInput, match=says) as error:
        replace(model_of(), chains)
    assert "\n" not in str(error.value)


def test_a_sequential_model():
    inner = [layers.Dense(6, activation="relu", name="fc"), layers.Dense(3, name="logits")]
    model = keras.Sequential([keras.Input((4,)), *inner])
    randomize(model, 1)
    made = replace(model, {"fc": [New(layers.Dense(6, name="fc"), model.layers[0].get_weights()),
                                  New(layers.ReLU(name="relu"))]})  # fmt: skip
    assert gap(model(images(model)), made(images(model))) <= 1e-6
