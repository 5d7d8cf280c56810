"""A batch that changes between epochs: schedule, history, counts, and a kill in between."""

import keras
import numpy as np
import pytest

from tests.train.cases import convnet, images
from tests.train.test_resume import assert_same_run
from tfeffi.errors import BadInput
from tfeffi.methods import Method
from tfeffi.train import Settings, fit, loop, schedules

COSINE = {"name": "cosine", "warmup_epochs": 1.5}


class Doubling(Method):
    """Other batches after given epochs; notes every step's learning rate."""

    def __init__(self, changes):
        self.changes, self.rates = changes, []

    def on_epoch_end(self, run):
        before = len(self.rates)
        self.rates += [run.learning_rate_at(step) for step in range(before, run.step)]
        if run.epoch in self.changes:
            run.set_batch_size(*self.changes[run.epoch])


def trained(changes, epochs=4, start=None, **arguments):
    method = Doubling(changes)
    settings = Settings(
        epochs=epochs, batch_size=16, learning_rate=0.1, schedule=COSINE, checkpoint_seconds=0.0,
        augment={"flip": True}, optimizer={"name": "sgd", "momentum": 0.9},
    )  # fmt: skip
    keras.utils.set_random_seed(0)
    return fit(start or convnet(), images(96), settings=settings, methods=[method], verbose=False,
               **arguments), method  # fmt: skip


def scheduled(epochs, at):
    """The learning rates of the schedule at positions in steps of 16 images, 6 an epoch."""
    schedule = schedules.build(COSINE, 0.1, epochs, 6)
    return [float(schedule(np.float64(position))) for position in at]


def test_the_schedule_goes_on_by_epochs():
    _, method = trained({1: (32,), 3: (48, 2.0)})
    # Epochs of 6 steps of 16 images, then 3 of 32 which count twice, then 2 of 48, which count three.
    at = [*range(6), *range(6, 18, 2), 18, 21]
    factors = [1] * 12 + [2] * 2
    np.testing.assert_allclose(method.rates, np.multiply(scheduled(4, at), factors), rtol=1e-5)


def test_a_step_of_the_rate_waits_for_its_epoch_though_the_batch_is_smaller():
    steps = {"name": "step", "milestones": (2,), "factor": 0.5}
    method = Doubling({1: (4,)})
    settings = Settings(epochs=3, batch_size=16, learning_rate=0.1, schedule=steps)
    fit(convnet(), images(96), settings=settings, methods=[method], verbose=False)
    np.testing.assert_allclose(method.rates, [0.1] * (6 + 24) + [0.05] * 24, rtol=1e-6)


def test_back_to_the_first_batch_is_the_schedule_itself():
    _, method = trained({1: (32, 3.0), 2: (16,)}, epochs=3)
    np.testing.assert_allclose(method.rates[9:], scheduled(3, range(12, 18)), rtol=1e-5)


def test_history_steps_and_macs_count_what_was_done():
    made, method = trained({1: (32,), 3: (48, 2.0)})
    assert len(method.rates) == 6 + 3 + 3 + 2
    rows = made.history
    at_ends = scheduled(4, [5, 10, 16, 21])
    np.testing.assert_allclose(
        [row["learning_rate"] for row in rows], np.multiply(at_ends, [1, 1, 1, 2]), rtol=1e-5
    )
    macs = (
        3 * 96 * (8 * 8 * 9 * 6 + 8 * 8 * 6 * 4)
    )  # of an epoch: every batch divides the 96 images
    assert [row["train_macs"] for row in rows] == [macs, 2 * macs, 3 * macs, 4 * macs]
    assert made.train_macs == 4 * macs
    assert all(np.isfinite(row["loss"]) and 0 <= row["accuracy"] <= 1 for row in rows)


def test_a_batch_that_leaves_images_over_counts_those_it_took():
    made, method = trained({1: (40,)}, epochs=2)
    assert len(method.rates) == 6 + 2
    per_image = 3 * (8 * 8 * 9 * 6 + 8 * 8 * 6 * 4)
    assert made.train_macs == (96 + 80) * per_image


def test_the_loss_of_an_epoch_is_the_mean_over_its_own_steps():
    """With a rate of (almost) 0 the mean loss over all images does not depend on the batch."""
    start = convnet(norm=False)
    settings = Settings(epochs=3, batch_size=16, learning_rate=1e-12)
    rows = fit(start, images(96), settings=settings, methods=[Doubling({1: (48,), 2: (96,)})],
               verbose=False).history  # fmt: skip
    np.testing.assert_allclose([row["loss"] for row in rows], rows[0]["loss"], rtol=1e-5)
    assert {row["accuracy"] for row in rows} == {rows[0]["accuracy"]}


def test_a_run_stopped_anywhere_goes_on_bit_for_bit(tmp_path, monkeypatch):
    keras.utils.set_random_seed(3)
    start, changes = convnet(dropout=0.2), {1: (32,), 3: (48, 2.0)}
    whole, _ = trained(changes, start=start)
    original, left = loop.CompiledStep.__call__, []

    def step_then_stop(self, *batch):
        original(self, *batch)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    monkeypatch.setattr(loop, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(loop.CompiledStep, "__call__", step_then_stop)
    for steps in (3, 4, 1, 3, 2):  # in the first epoch, at the change, after it, ...
        left[:] = [steps]
        with pytest.raises(KeyboardInterrupt):
            trained(changes, start=start, workdir=tmp_path)
    left[:] = [1000]
    made, _ = trained(changes, start=start, workdir=tmp_path)
    assert_same_run(made, whole)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (97, "batch_size=97 is larger than the 96 training images"),
        (0, "batch_size=0 must be a whole number of at least 1"),
        (32.0, "batch_size=32.0 must be a whole number"),
    ],
)
def test_batches_that_cannot_be(size, words):
    with pytest.raises(BadInput, match=words):
        trained({1: (size,)})


def test_a_first_batch_larger_than_the_data():
    with pytest.raises(BadInput, match="batch_size=128 is larger than the 96 training images"):
        fit(convnet(), images(96), settings=Settings(batch_size=128), verbose=False)


def test_ghost_batches_must_divide_a_batch_that_grows():
    settings = Settings(epochs=2, batch_size=16, ghost_batch=8)
    with pytest.raises(BadInput, match="ghost_batch=8 does not divide a batch of 20"):
        fit(convnet(), images(96), settings=settings, methods=[Doubling({1: (20,)})], verbose=False)
