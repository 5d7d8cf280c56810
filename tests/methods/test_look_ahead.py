"""Look-ahead: the slow weights by hand, and that nothing else happens between two looks."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.train.cases import convnet, images
from tfeffi import methods
from tfeffi.errors import BadInput
from tfeffi.methods.look_ahead import look_ahead
from tfeffi.train import Settings, fit

SGD = {"name": "sgd", "momentum": 0.0}
SIX = Settings(epochs=2, batch_size=32, learning_rate=0.1, optimizer=SGD)  # six steps


@given(st.floats(-5, 5), st.floats(-5, 5), st.floats(0, 1))
def test_it_lies_between_slow_and_fast(slow, fast, pull):
    found = look_ahead(slow, fast, pull)
    assert min(slow, fast) - 1e-9 <= found <= max(slow, fast) + 1e-9
    assert look_ahead(slow, fast, 0.0) == slow
    assert look_ahead(slow, fast, 1.0) == pytest.approx(fast)


def weights_after(model, steps, how=SIX, **arguments):
    """The weights after so many steps, taken by a method that looks on."""
    seen = []

    class Watch(methods.Method):
        def on_epoch_end(self, run):
            seen.append([np.array(v) for v in run.model.variables])

    chosen = [methods.build("look_ahead", **arguments)] if arguments else []
    made = fit(model, images(), settings=how, methods=[*chosen, Watch()], verbose=False)
    return seen, [np.array(v) for v in made.model.variables]


def test_every_third_step_goes_back_by_hand():
    model = convnet(norm=False)
    start = [np.array(v) for v in model.variables]
    plain, _ = weights_after(model, 3)
    slow, _ = weights_after(model, 3, interval=3, decay=0.5, power=0)
    for before, fast, found in zip(start, plain[0], slow[0], strict=True):
        np.testing.assert_allclose(found, before + 0.5 * (fast - before), atol=1e-6)


def test_decay_zero_changes_nothing():
    model = convnet()
    for plain, slow in zip(
        weights_after(model, 6)[1], weights_after(model, 6, interval=2, decay=0.0)[1], strict=True
    ):
        np.testing.assert_allclose(plain, slow, atol=1e-6)


def test_the_pull_back_grows_with_the_training():
    model = convnet(norm=False)
    start = [np.array(v) for v in model.variables]
    plain, _ = weights_after(model, 3)
    slow, _ = weights_after(model, 3, interval=3, decay=0.8, power=2)
    for before, fast, found in zip(start, plain[0], slow[0], strict=True):
        np.testing.assert_allclose(found, before + (1 - 0.8 / 4) * (fast - before), atol=1e-6)


def test_training_ends_on_the_slow_weights():
    model = convnet(norm=False)
    start = [np.array(v) for v in model.variables]
    with pytest.warns(methods.NoEffectWarning, match="interval=7 is more than the 6 steps"):
        _, end = weights_after(model, 6, interval=7, decay=0.5)  # no look before the end
    for before, found in zip(start, end, strict=True):
        np.testing.assert_array_equal(before, found)


def test_training_ends_on_the_slow_weights_also_where_a_step_is_skipped():
    class Overflow(methods.Method):
        def on_gradients(self, run, gradients):
            skipped = run.loss_scale.skipped_steps
            worse = tf.where(skipped < 1, float("inf"), 1.0)
            return [worse * gradient for gradient in gradients]

    how = dataclasses.replace(SIX, precision="mixed_float16")
    chosen = [methods.build("look_ahead", interval=7, decay=0.5)]
    model = convnet(norm=False)
    start = [np.array(v) for v in model.variables]
    made = fit(model, images(), settings=how, methods=[Overflow(), *chosen], verbose=False)
    plain = fit(model, images(), settings=how, methods=[Overflow()], verbose=False)
    assert made.history[-1]["skipped_steps"] == 1
    for before, found in zip(start, made.model.variables, strict=True):
        np.testing.assert_array_equal(before, np.array(found))
    assert np.abs(start[0] - np.array(plain.model.variables[0])).max() > 1e-3


def test_slow_weights_begin_where_all_methods_have_left_the_model():
    class Behind(methods.Method):
        def on_model(self, run):
            for variable in run.model.trainable_variables:
                variable.assign(2.0 * variable)

    model = convnet(norm=False)
    start = [2.0 * np.array(v) for v in model.variables]
    chosen = [methods.build("look_ahead", interval=7, decay=0.5), Behind()]
    made = fit(model, images(), settings=SIX, methods=chosen, verbose=False)
    for before, found in zip(start, made.model.variables, strict=True):
        np.testing.assert_array_equal(before, np.array(found))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"interval": 0}, "interval=0 must be a whole number of at least 1"),
        ({"decay": 1.0}, r"decay=1.0 must be in \[0, 1\)"),
        ({"power": -1}, "power=-1 must be 0 or more"),
        ({"decay": "0.5"}, "decay='0.5' must be"),
        ({"power": "3"}, "power='3' must be"),
    ],
)
def test_bad_input(arguments, message):
    with pytest.raises(BadInput, match=message):
        methods.build("look_ahead", **arguments)


def test_a_model_that_changes_is_refused():
    from tfeffi import reindex

    class Prune(methods.Method):
        def on_epoch_end(self, run):
            run.adopt(*reindex(run.model, {"conv": [0, 1]}))

    keras.utils.set_random_seed(0)
    chosen = [Prune(), methods.build("look_ahead")]
    with pytest.raises(BadInput, match="look_ahead: the model's shapes changed"):
        fit(convnet(), images(), settings=SIX, methods=chosen, verbose=False)
