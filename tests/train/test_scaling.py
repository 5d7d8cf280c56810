"""The learning rate of another batch: its rules, the warm-up that goes with them, through Settings."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from tests.train.cases import convnet, images
from tfeffi.errors import BadInput
from tfeffi.train import Settings, fit
from tfeffi.train.loop import begin
from tfeffi.train.scaling import scaled_learning_rate


def rates(steps, **settings):
    """The learning rates of a run on 96 images."""
    run = begin(convnet(), images(), None, Settings(schedule=settings.pop("schedule"), **settings))
    return np.array([run.learning_rate_at(step) for step in range(steps)])


@given(k=st.integers(1, 64), reference=st.integers(1, 512), rate=st.floats(1e-4, 10))
def test_the_rules(k, reference, rate):
    assert scaled_learning_rate(rate, k * reference, reference) == pytest.approx(k * rate)
    root = scaled_learning_rate(rate, k * reference, reference, rule="sqrt")
    assert root == pytest.approx(k**0.5 * rate)
    assert scaled_learning_rate(k * rate, reference, k * reference) == pytest.approx(rate)


@pytest.mark.parametrize("k", [2, 5])
def test_k_small_steps_along_one_gradient_are_one_large_step(k):
    """A loss that is linear in the weights has the same gradient everywhere."""
    gradient = tf.constant([0.5, -2.0, 1.0])

    def after(steps, batch):
        w = tf.Variable(tf.ones(3))
        optimizer = keras.optimizers.SGD(scaled_learning_rate(0.1, batch, 4))
        for _ in range(steps):
            optimizer.apply([gradient], [w])
        return w.numpy()

    np.testing.assert_allclose(after(k, 4), after(1, 4 * k), rtol=1e-6)


def test_the_warm_up_begins_at_the_rate_before_scaling():
    """η_t = η + (k·η − η)·t/T, per step; 96 images are 3 steps of 32."""
    warm = rates(
        12, epochs=4, batch_size=32, learning_rate=0.1, scale_learning_rate={"reference_batch": 8},
        schedule={"name": "constant", "warmup_epochs": 2},
    )  # fmt: skip
    wanted = [0.1 + 0.3 * min(t, 6) / 6 for t in range(1, 13)]
    np.testing.assert_allclose(warm, wanted, rtol=1e-6)


def test_it_may_begin_elsewhere_and_a_smaller_batch_needs_none():
    small = {"epochs": 2, "learning_rate": 0.1}
    schedule = {"name": "constant", "warmup_epochs": 2}
    zero = rates(6, batch_size=32, scale_learning_rate={"reference_batch": 8},
                 schedule={**schedule, "warmup_from": 0.0}, **small)  # fmt: skip
    np.testing.assert_allclose(zero, 0.4 * np.arange(1, 7) / 6, rtol=1e-6)
    lower = rates(6, batch_size=32, scale_learning_rate={"reference_batch": 128, "rule": "sqrt"},
                  schedule=schedule, **small)  # fmt: skip
    np.testing.assert_allclose(lower, 0.05, rtol=1e-6)


def test_fit_takes_the_scaled_rate():
    settings = Settings(epochs=1, batch_size=32, learning_rate=0.01, schedule={"name": "constant"},
                        scale_learning_rate={"reference_batch": 16})  # fmt: skip
    row = fit(convnet(), images(), settings=settings, verbose=False).history[0]
    assert row["learning_rate"] == pytest.approx(0.02)


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"reference_batch": 256, "rule": "squareroot"}, 'rule "squareroot" .*"sqrt"'),
        ({"reference_batch": 0}, "reference_batch=0 must be a whole number"),
        ({"reference_batch": 2.5}, "reference_batch=2.5 must be a whole number"),
        ({"rule": "linear"}, 'needs a "reference_batch"'),
        ({"refrence_batch": 256}, 'unknown key "refrence_batch"; .*"reference_batch"'),
        (256, "scale_learning_rate=256 must be a mapping"),
    ],
)
def test_bad_wishes(wish, words):
    with pytest.raises(BadInput, match=words):
        Settings(scale_learning_rate=wish)


def test_a_schedule_shorter_than_its_warm_up():
    settings = Settings(epochs=2, batch_size=32, schedule={"name": "cosine", "warmup_epochs": 3})
    with pytest.raises(BadInput, match="warmup_epochs=3 must be within the 2 epochs"):
        fit(convnet(), images(), settings=settings, verbose=False)
