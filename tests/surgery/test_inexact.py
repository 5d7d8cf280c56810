"""Inexact surgery: on request channels go that statistics are taken over, and who does is named."""

import keras
import numpy as np
import pytest
from keras import layers

from tests.surgery.drawn import gap, images, randomize
from tfeffi.errors import BadInput
from tfeffi.surgery import Coupling, apply, groups, reindex

MIXING = {
    "layer": lambda: layers.LayerNormalization(name="mix"),
    "layer_of_all": lambda: layers.LayerNormalization(axis=[1, 2, 3], name="mix"),
    "rms": lambda: layers.RMSNormalization(name="mix"),
    "unit": lambda: layers.UnitNormalization(name="mix"),
    "group": lambda: layers.GroupNormalization(1, name="mix"),
    "softmax": lambda: layers.Softmax(name="mix"),
    "activation": lambda: layers.Activation("softmax", name="mix"),
    "of_a_layer": lambda: layers.Conv2D(8, 1, activation="softmax", name="mix"),
}


def model_with(layer):
    x = inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(8, 3, padding="same", activation="relu", name="a")(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name="b")(layer(x))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="c")(x))
    randomize(model, 0)
    return model


@pytest.mark.parametrize("make", MIXING.values(), ids=MIXING)
def test_statistics_pin_unless_asked_and_then_they_are_named(make):
    model = model_with(make())
    name = "mix" if isinstance(model.layers[2], layers.Conv2D) else "a"
    with pytest.raises(BadInput, match=f'channel 1 of "{name}" must stay: .*"mix"'):
        reindex(model, {name: [0, 2, 5]})
    assert Coupling.of(model).inexact == ()
    coupling = Coupling.of(model, inexact=True)
    [(path, reason)] = coupling.inexact
    assert path == "mix" and '"mix"' in reason
    assert coupling.plan({"b": [0, 1]}).inexact == ()
    assert coupling.plan({name: [0, 2, 5]}).inexact == coupling.inexact
    assert all(group.pinned is None for group in groups(model, inexact=True)[:-1])
    small, _ = reindex(model, {name: [0, 2, 5]}, inexact=True)
    assert small.get_layer("b").kernel.shape[2] == 3
    assert np.isfinite(small(images(model))).all()


@pytest.mark.parametrize("make", MIXING.values(), ids=MIXING)
def test_what_stays_keeps_its_weights(make):
    model = model_with(make())
    if model.layers[2].weights and not isinstance(model.layers[2], layers.Conv2D):
        small, slices = reindex(model, {"a": [1, 6]}, inexact=True)
        gamma, kept = model.layers[2].get_weights()[0], small.layers[2].get_weights()[0]
        np.testing.assert_array_equal(gamma[..., [1, 6]], kept)
        assert len(slices.paths) == len(model.variables)


def test_every_channel_as_often_leaves_the_statistics():
    model = model_with(layers.LayerNormalization(name="mix"))
    wide, _ = reindex(model, {"a": [*range(8), *range(8)]}, inexact=True)
    assert gap(model(images(model)), wide(images(model))) <= 1e-5


def test_a_mean_over_channels():
    x = inputs = keras.Input((4, 4, 3))
    a = layers.Conv2D(8, 3, padding="same", name="a")(x)
    gate = keras.ops.sigmoid(keras.ops.mean(a, axis=-1, keepdims=True))
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(a * gate))
    randomize(model, 0)
    with pytest.raises(BadInput, match="takes statistics over channels"):
        reindex(model, {"a": [0, 3]})
    small, _ = reindex(model, {"a": [0, 3]}, inexact=True)
    assert small(images(model)).shape == (3, 4, 4, 2)


def grouped(groups, width=8):
    model = model_with(layers.GroupNormalization(groups, name="mix"))
    assert model.get_layer("a").filters == width
    return model


def zeroed(model, gone):
    """The model with the channels of "a" masked where "b" reads them."""
    kernel = np.array(model.get_layer("b").kernel)
    kernel[:, :, gone] = 0
    model.get_layer("b").kernel.assign(kernel)
    return model


def test_whole_groups_may_go_exactly():
    model = grouped(4)
    small, _ = reindex(model, {"a": [2, 3, 6, 7]})
    assert small.get_layer("mix").groups == 2
    x = images(model)
    assert gap(zeroed(model, [0, 1, 4, 5])(x), small(x)) <= 1e-5
    with pytest.raises(BadInput, match=r'channels \[0, 1\] of "a" live or die together'):
        reindex(model, {"a": [0, 2, 3]})


@pytest.mark.parametrize(
    ("index", "count"),
    [([0, 1, 0, 1, 4, 5, 6, 7], 4), ([0, 0, 1, 1, 4, 5, 4, 5], 2), ([0, 0, 1, 1, 4, 5], None),
     ([0, 0, 1, 1], 1),
     ([6, 7, 0, 1], 2), ([1, 0, 3, 2, 4, 5, 6, 7], 4), ([0, 2, 1, 3], None)],
)  # fmt: skip
def test_groups_stay_whole_in_every_order(index, count):
    model = grouped(4)
    if count is None:
        with pytest.raises(BadInput, match="whose channels must stay together"):
            reindex(model, {"a": index})
        return
    small, _ = reindex(model, {"a": index})
    assert small.get_layer("mix").groups == count
    x = images(model)
    gone = sorted(set(range(8)) - set(index))
    assert gap(zeroed(model, gone)(x), small(x)) <= 1e-5


def test_instance_normalization_constrains_nothing():
    for count in (8, -1):
        model = grouped(count)
        small, _ = reindex(model, {"a": [1, 5, 6]})
        x = images(model)
        assert gap(zeroed(model, [0, 2, 3, 4, 7])(x), small(x)) <= 1e-5


def test_inexactly_every_group_keeps_the_same_places():
    model = grouped(2)
    [group] = [g for g in groups(model, inexact=True) if "a" in g.writers]
    assert group.size == 4 and group.multiple == 2
    small, _ = reindex(model, {"a": [0, 3, 4, 7]}, inexact=True)
    assert small.get_layer("mix").groups == 2
    x = images(model)
    first = keras.Model(model.inputs, model.get_layer("a").output)(x)
    kept = np.take(first, [0, 3, 4, 7], axis=-1)
    here = keras.Model(small.inputs, small.get_layer("mix").output)(x)
    alone = layers.GroupNormalization(2)
    alone.build(kept.shape)
    alone.set_weights([w[[0, 3, 4, 7]] for w in model.get_layer("mix").get_weights()])
    assert gap(alone(kept), here) <= 1e-5


def test_over_other_axes_it_is_exact():
    for axis in ([1, 2], 1):
        model = model_with(layers.LayerNormalization(axis=axis, name="mix"))
        small, _ = reindex(model, {"a": [1, 5, 6]})
        assert Coupling.of(model, inexact=True).inexact == ()
        x = images(model)
        assert gap(zeroed(model, [0, 2, 3, 4, 7])(x), small(x)) <= 1e-5


def test_a_plan_applies():
    model = model_with(layers.LayerNormalization(name="mix"))
    coupling = Coupling.of(model, inexact=True)
    kept = np.ones(coupling.classes.count, bool)
    kept[coupling.groups[0].classes[:4]] = False
    plan = coupling.keep(kept)
    small, _ = apply(coupling, plan)
    assert small.get_layer("a").filters == 4 and plan.inexact == coupling.inexact
