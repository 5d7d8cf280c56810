"""Branches that add a constant go, and the model computes the same."""

import keras
import numpy as np
import pytest

from tfeffi.surgery import drop_constant_branches, reindex, widen

L = keras.layers


def block(x, name, width, bias=True, activation="relu"):
    y = L.Conv2D(width, 3, padding="same", activation="relu", name=f"{name}_one")(x)
    y = L.Conv2D(width, 3, padding="same", use_bias=bias, name=f"{name}_two")(y)
    y = L.Activation(activation, name=f"{name}_act")(L.BatchNormalization(name=f"{name}_bn")(y))
    return L.Add(name=f"{name}_add")([x, y])


def network(**arguments):
    inputs = keras.Input((8, 8, 3))
    x = block(L.Conv2D(4, 3, padding="same", name="stem")(inputs), "a", 4, **arguments)
    x = block(x, "b", 4, **arguments)
    x = L.GlobalAveragePooling2D(name="pool")(x)
    model = keras.Model(inputs, L.Dense(3, name="logits")(x))
    rng = np.random.default_rng(0)
    for variable in model.variables:
        variable.assign(rng.uniform(0.2, 0.8, variable.shape))
    for name in ("a_two", "b_two"):
        layer = model.get_layer(name)
        layer.kernel.assign(np.zeros(layer.kernel.shape))
    return model


def outputs(model):
    return np.array(model(np.random.default_rng(1).random((4, 8, 8, 3)), training=False))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["relu", "tanh", "linear"])
def test_the_constant_is_what_the_branch_gave(bias, activation):
    model = network(bias=bias, activation=activation)
    small, gone = drop_constant_branches(model, {"a_two", "b_two"})
    assert gone == ("a_add", "b_add")
    names = [layer.name for layer in small.layers][1:]
    assert names == ["stem", "a_add", "b_add", "pool", "logits"]
    np.testing.assert_allclose(outputs(small), outputs(model), rtol=1e-5)


def test_the_constants_follow_their_channels():
    small, _ = drop_constant_branches(network(), {"a_two"})
    narrow, _ = reindex(small, {"stem": [3, 1]})
    offset = small.get_layer("a_add").offset
    assert narrow.get_layer("a_add").offset == [offset[3], offset[1]]
    wide, _ = widen(small, {"stem": 7})
    np.testing.assert_allclose(outputs(wide), outputs(small), rtol=1e-5)


def test_only_what_is_named_and_ends_in_an_add_goes():
    model = network()
    assert drop_constant_branches(model, set()) == (model, ())
    assert drop_constant_branches(model, {"stem", "logits", "a_one"}) == (model, ())
    inputs = keras.Input((8, 8, 3))
    x = L.Conv2D(3, 3, padding="same", name="looked_at")(inputs)
    model = keras.Model(inputs, [L.Add(name="add")([inputs, x]), x])
    assert drop_constant_branches(model, {"looked_at"})[1] == ()


def test_a_softmax_or_a_nested_model_keeps_its_branch():
    assert drop_constant_branches(network(activation="softmax"), {"a_two"})[1] == ()
    inputs = keras.Input((8, 8, 3))
    model = keras.Model(inputs, network()(inputs))
    assert drop_constant_branches(model, {"a_two"}) == (model, ())


def test_it_saves_and_loads_without_tfeffi_s_classes(tmp_path):
    small, _ = drop_constant_branches(network(), {"a_two"})
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    np.testing.assert_array_equal(outputs(loaded), outputs(small))
