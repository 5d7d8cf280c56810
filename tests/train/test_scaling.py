"""Another batch: rules of the learning rate and their warm-up, the momentum of moving statistics."""

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


# ---------------------------------------------------------------- moving statistics


def grey(n=96):
    """Images of one grey, so that every batch has the same statistics."""
    return dataclasses.replace(images(n), images=np.full((n, 8, 8, 1), 128, "uint8"))


def left_of_mean(batch=96, methods=(), **settings):
    """How much of the moving mean is left after an epoch of `batch` and what momentum the model has.

    The kernel gives the grey, whose moving mean is 2 before.
    """
    model = convnet()
    model.get_layer("conv").set_weights([np.ones((3, 3, 1, 6)) / 9])
    norm = model.get_layer("norm")
    norm.moving_mean.assign(2 * np.ones(6))
    how = Settings(**{"epochs": 1, "batch_size": batch, "learning_rate": 1e-9} | settings)
    made = fit(model, grey(), settings=how, methods=methods, verbose=False).model.get_layer("norm")
    before = keras.Model(model.inputs, model.get_layer("conv").output)
    mean = np.array(before([grey(1).images.astype("float32") / 255]))[0].mean((0, 1))
    left = (np.array(made.moving_mean) - mean) / (2 - mean)
    assert np.ptp(left) < 1e-4
    return left[0], made.momentum


@pytest.mark.parametrize("fuse", [True, False])
def test_it_is_the_momentum_of_training_and_layers_keep_their_own(fuse):
    found = left_of_mean(batch_norm_momentum=0.4, fuse_batch_normalization=fuse)
    assert found == (pytest.approx(0.4, abs=1e-4), 0.7)
    assert left_of_mean(batch_norm_momentum=0.0)[0] == pytest.approx(0, abs=1e-4)
    assert left_of_mean(fuse_batch_normalization=fuse)[0] == pytest.approx(0.7, abs=1e-4)


@pytest.mark.parametrize("ghost", [None, 12, 24, 96])
def test_as_much_is_left_after_an_epoch_whatever_the_batch(ghost):
    """ρ^k after one step of k·B images, as after k steps of B, and in any number of ghost batches."""
    of_24 = {"reference_batch": 24}
    for batch in (24, 96):
        if ghost is None or ghost <= batch:
            left, _ = left_of_mean(
                batch, scale_learning_rate=of_24, ghost_batch=ghost, batch_norm_momentum=0.8
            )
            assert left == pytest.approx(0.8**4, abs=1e-3)
    assert left_of_mean(96, ghost_batch=ghost, batch_norm_momentum=0.8)[0] == pytest.approx(
        0.8, abs=1e-3
    )


def test_it_follows_a_batch_that_grows():
    """Two epochs are 8 steps of 12 and 4 of 24 images: as much is left as after 16 of 12."""
    schedule = {"name": "step", "milestones": (1,), "factor": 0.5}
    growth = methods.build("batch_growth", max_batch=24)
    left, _ = left_of_mean(12, [growth], epochs=2, schedule=schedule, batch_norm_momentum=0.9)
    assert left == pytest.approx(0.9**16, abs=1e-3)


@pytest.mark.parametrize("momentum", [1.0, -0.1, "0.9", float("nan")])
def test_a_momentum_that_is_none(momentum):
    with pytest.raises(BadInput, match=r"batch_norm_momentum=.*in \[0, 1\), or None"):
        Settings(batch_norm_momentum=momentum)
