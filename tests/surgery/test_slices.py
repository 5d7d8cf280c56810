"""Optimizers follow a surgery: the next step is that of the masked dense model."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from tests.surgery.drawn import Drawn, images, weight
from tfeffi.errors import BadInput
from tfeffi.surgery import reindex

# conv+bn, residual, squeeze-and-excite, depthwise, concatenate, separable, shared; flatten at the end
CODES = [(1, 2, 0), (2, 3, 1), (4, 1, 1), (5, 1, 0), (9, 2, 1), (6, 1, 1), (11, 0, 0)]
OPTIMIZERS = {
    "momentum": lambda: keras.optimizers.SGD(0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "adam": lambda: keras.optimizers.Adam(0.01, amsgrad=True),
    "adamw": lambda: keras.optimizers.AdamW(0.01),
    "rmsprop": lambda: keras.optimizers.RMSprop(0.01, momentum=0.5, centered=True),
    "adamax": lambda: keras.optimizers.Adamax(0.01),
    "nadam": lambda: keras.optimizers.Nadam(0.01, weight_decay=1e-3),
    "lion": lambda: keras.optimizers.Lion(0.001, weight_decay=1e-2),
    "adagrad": lambda: keras.optimizers.Adagrad(0.01),
    "adadelta": lambda: keras.optimizers.Adadelta(0.1),
    "ftrl": lambda: keras.optimizers.Ftrl(0.01, l2_shrinkage_regularization_strength=0.1),
    "clipnorm": lambda: keras.optimizers.SGD(0.1, momentum=0.9, clipnorm=0.1),
    "global_clipnorm": lambda: keras.optimizers.Adam(0.01, global_clipnorm=0.1),
    "clipvalue": lambda: keras.optimizers.SGD(0.1, clipvalue=0.01),
    "adam_ema": lambda: keras.optimizers.AdamW(
        0.01, use_ema=True, ema_momentum=0.8, gradient_accumulation_steps=2
    ),
    "ema": lambda: keras.optimizers.SGD(0.05, momentum=0.9, use_ema=True, ema_momentum=0.8),
    "accumulate": lambda: keras.optimizers.Adam(0.01, gradient_accumulation_steps=3),
    "schedule": lambda: keras.optimizers.SGD(
        keras.optimizers.schedules.CosineDecay(0.1, 10), momentum=0.9
    ),
    "scaled": lambda: keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01)),
}


if hasattr(keras.optimizers, "ScheduleFreeAdamW"):
    OPTIMIZERS["schedule_free"] = lambda: keras.optimizers.ScheduleFreeAdamW(0.01)


def step(model, optimizer, x, y, without=()):
    """One step; `without` are masks of gradients, by the path of their variable.

    What reads a dropped channel is zero, so what makes it gets no gradient. What reads it would
    get one, and move, and count in norms: in the masked model it does not.
    """
    with tf.GradientTape() as tape:
        loss = keras.ops.mean(keras.ops.square(model(x, training=True) - y))
        scaled = optimizer.scale_loss(loss)
    variables = model.trainable_variables
    gradients = tape.gradient(scaled, variables)
    masks = dict(without)
    optimizer.apply(
        [g * masks.get(v.path, 1) for g, v in zip(gradients, variables, strict=True)], variables
    )


def without_dropped(drawn, dropped, masked, small):
    """The masked model's weights in the shapes of the small one, by the oracle's own books."""
    kept, _ = reindex(masked, drawn.drop(dropped))
    assert [v.path for v in kept.variables] == [v.path for v in small.variables]
    return kept


@pytest.fixture(scope="module")
def drawn():
    return Drawn(CODES, seed=5)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_next_steps_equal_those_of_the_masked_model(name, drawn):
    dropped = drawn.choose(1)
    assert len(dropped) > 8
    without = masks(drawn, dropped)
    x = images(drawn.model, 6)
    y = np.random.default_rng(0).normal(size=(6, 2)).astype("float32")
    masked = drawn.masked(dropped)
    optimizer = OPTIMIZERS[name]()
    optimizer.build(masked.trainable_variables)
    for _ in range(2):  # fills the slots
        step(masked, optimizer, x, y, without)
    small, slices = reindex(masked, drawn.drop(dropped))
    followed = slices.apply_to(optimizer, small)
    assert followed is not optimizer and type(followed) is type(optimizer)
    step(masked, optimizer, x, y, without)
    step(small, followed, x, y)
    expected = without_dropped(drawn, dropped, masked, small)
    for want, got in zip(expected.variables, small.variables, strict=True):
        np.testing.assert_allclose(want, got, rtol=2e-4, atol=2e-6, err_msg=want.path)
    assert int(followed.iterations) == int(optimizer.iterations)


def masks(drawn, dropped):
    """For each variable that reads channels: one where the channel stays, zero where it goes."""
    found = {}
    for read in drawn.reads:
        rows = [p for p, i in enumerate(read.ids) if drawn.root(i) in dropped]
        variable = weight(drawn.model, read.layer, read.weight)
        mask = found.setdefault(variable.path, np.ones(variable.shape, "float32"))
        np.moveaxis(mask, read.axis, 0)[rows] = 0
    return found


@pytest.mark.parametrize("name", ["Lamb", "Muon"])
def test_norms_of_whole_variables_are_those_of_the_small_ones(name):
    """The slots follow; a step is that of the small model with the same slots, and goes down."""
    model = small_model()
    made = getattr(keras.optimizers, name)(0.01)
    made.build(model.trainable_variables)
    x = np.random.default_rng(0).normal(size=(8, 4)).astype("float32")
    y = np.zeros((8, 2), "float32")
    step(model, made, x, y)
    small, slices = reindex(model, {"a": [2, 0]})
    followed = slices.apply_to(made, small)
    for old, new in zip(made.variables, followed.variables, strict=True):
        if "a_bias" in new.name and new.shape:
            np.testing.assert_array_equal(np.array(old)[[2, 0]], new)
    before = float(np.square(small(x)).mean())
    step(small, followed, x, y)
    assert float(np.square(small(x)).mean()) < before


class Stubborn(keras.optimizers.SGD):
    """Takes an argument that its config does not tell."""

    def __init__(self, secret, **kwargs):
        super().__init__(**kwargs)


def test_an_optimizer_that_its_config_does_not_make():
    model = small_model()
    small, slices = reindex(model, {"a": [1]})
    optimizer = Stubborn(1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    with pytest.raises(BadInput, match="Stubborn is not made from its own config; give make="):
        slices.apply_to(optimizer, small)
    made = slices.apply_to(optimizer, small, make=lambda: Stubborn(2, momentum=0.9))
    assert len(made.variables) == len(optimizer.variables)


def small_model(**kwargs):
    inputs = keras.Input((4,))
    x = layers.Dense(3, activation="relu", name="a", **kwargs)(inputs)
    return keras.Model(inputs, layers.Dense(2, name="b")(x))


def test_slots_by_hand():
    model = small_model()
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    optimizer.build(model.trainable_variables)
    for slot in optimizer.variables[2:]:
        slot.assign(np.arange(np.prod(slot.shape)).reshape(slot.shape))
    small, slices = reindex(model, {"a": [2, 0]})
    slots = {v.name: np.array(v) for v in slices.apply_to(optimizer, small).variables}
    np.testing.assert_array_equal(slots["a_kernel_momentum"], [[2, 0], [5, 3], [8, 6], [11, 9]])
    np.testing.assert_array_equal(slots["a_bias_momentum"], [2, 0])
    np.testing.assert_array_equal(slots["b_kernel_momentum"], [[4, 5], [0, 1]])
    np.testing.assert_array_equal(slots["b_bias_momentum"], [0, 1])


def test_arrays_of_a_loop_of_your_own_follow_too():
    model = small_model()
    _, slices = reindex(model, {"a": [2, 0]})
    np.testing.assert_array_equal(slices.take("a/bias", np.array([7.0, 8, 9])), [9, 7])
    with pytest.raises(BadInput, match='no variable "c/bias"'):
        slices.take("c/bias", np.zeros(3))


def test_a_frozen_layer_has_no_slots():
    model = small_model(trainable=False)
    optimizer = keras.optimizers.Adam()
    optimizer.build(model.trainable_variables)
    small, slices = reindex(model, {"a": [1]})
    assert len(slices.apply_to(optimizer, small).variables) == len(optimizer.variables)


def test_an_optimizer_that_was_not_built_stays_unbuilt():
    model = small_model()
    small, slices = reindex(model, {"a": [1]})
    assert not slices.apply_to(keras.optimizers.Adam(), small).built


def test_slots_of_another_shape_are_refused():
    model = small_model()
    optimizer = keras.optimizers.Adafactor()
    optimizer.build(model.trainable_variables)
    small, slices = reindex(model, {"a": [1]})
    with pytest.raises(BadInput, match="Adafactor does not have the shape of its variable"):
        slices.apply_to(optimizer, small)
