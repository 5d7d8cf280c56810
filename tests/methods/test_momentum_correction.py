"""The corrected velocity is that of v ← m·v + g, w ← w − η·v, whatever moves the learning rate."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.train.cases import convnet, images
from tfeffi import methods
from tfeffi.data import pipeline
from tfeffi.methods import Method, NoEffectWarning
from tfeffi.methods.momentum_correction import corrected
from tfeffi.train import Settings, fit, schedules

WARM = {"name": "step", "milestones": (2,), "factor": 0.1, "warmup_epochs": 1}


@given(
    steps=st.lists(st.tuples(st.floats(1e-3, 10), st.floats(-5, 5)), min_size=2, max_size=20),
    momentum=st.floats(0, 0.99),
)
def test_keras_s_form_corrected_is_the_other_form(steps, momentum):
    w = other = v = u = np.float64(0)
    last = np.float64(0)
    for rate, gradient in steps:
        v = np.asarray(corrected(v, last, np.float64(rate)), np.float64)
        v, last = momentum * v - rate * gradient, np.float64(rate)
        w = w + v
        u = momentum * u + gradient
        other = other - rate * u
        np.testing.assert_allclose([w, v], [other, -rate * u], rtol=1e-9, atol=1e-9)


def test_a_rate_of_zero_leaves_nothing_to_correct():
    assert corrected(np.float64(0.3), np.float64(0), np.float64(0.1)) == 0.3
    assert corrected(np.float64(0.3), np.float64(0.1), np.float64(0)) == 0


class Halving(Method):
    """A smaller batch at a third of the rate after the second epoch."""

    def on_epoch_end(self, run):
        if run.epoch == 2:
            run.set_batch_size(16, 1 / 3)


def reference(start, nesterov):
    """The other form, step by step: two epochs of 32, one of 16 at a third of the schedule."""
    model = keras.models.clone_model(start)
    model.set_weights(start.get_weights())
    schedule = schedules.build(WARM, 0.1, 3, 3)
    at = [*range(6), *np.arange(6, 9, 0.5)]
    rates = [float(schedule(np.float64(p))) / (1 if p < 6 else 3) for p in at]
    weights = [v.value for v in model.trainable_variables]
    velocities = [tf.zeros_like(w) for w in weights]
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    for epoch, batch in enumerate((32, 32, 16)):
        for x, y in pipeline(images(), batch, training=True, seed=0, epoch=epoch):
            rate = rates.pop(0)
            with tf.GradientTape() as tape:
                loss = loss_of(y, model(x, training=True))
            gradients = tape.gradient(loss, weights)
            velocities = [0.9 * u + g for u, g in zip(velocities, gradients, strict=True)]
            for w, u, g in zip(weights, velocities, gradients, strict=True):
                w.assign_sub(rate * (0.9 * u + g if nesterov else u))
    assert not rates
    return model


@pytest.mark.parametrize("nesterov", [False, True])
def test_through_a_warm_up_a_decay_and_a_change_of_the_batch(nesterov):
    start, plain = convnet(), []
    settings = Settings(
        epochs=3, batch_size=32, learning_rate=0.1, schedule=WARM,
        optimizer={"name": "sgd", "momentum": 0.9, "nesterov": nesterov},
    )  # fmt: skip
    wanted = reference(start, nesterov)
    correction = methods.build("momentum_correction")
    for chosen in ([Halving(), correction], [correction, Halving()], [Halving()]):
        made = fit(start, images(), settings=settings, methods=chosen, verbose=False).model
        plain.append(
            max(
                np.abs(a - b).max()
                for a, b in zip(made.get_weights(), wanted.get_weights(), strict=True)
            )
        )
    assert max(plain[:2]) < 1e-5  # in either order
    assert plain[2] > 1e-3  # without the correction it is another training


@pytest.mark.parametrize("optimizer", [{"name": "adam"}, {"name": "sgd"}])
def test_an_optimizer_without_a_velocity_is_noticed(optimizer):
    start, made = convnet(), []
    settings = Settings(epochs=1, batch_size=32, optimizer=optimizer)
    with pytest.warns(NoEffectWarning, match="momentum_correction: optimizer .* keeps no learning"):
        correction = methods.build("momentum_correction")
        made.append(fit(start, images(), settings=settings, methods=[correction], verbose=False))
    made.append(fit(start, images(), settings=settings, verbose=False))
    for a, b in zip(*(each.model.get_weights() for each in made), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_optimizer_that_gets_a_velocity_later_is_none_without(recwarn):
    sgd = {"name": "sgd", "momentum": 0.9}
    switch = methods.build("switch_optimizer", epoch=1, optimizer=sgd, learning_rate=0.01)
    settings = Settings(epochs=2, batch_size=32, optimizer={"name": "adam"})
    both = [switch, methods.build("momentum_correction")]
    fit(convnet(), images(), settings=settings, methods=both, verbose=False)
    assert not [w for w in recwarn if issubclass(w.category, NoEffectWarning)]
