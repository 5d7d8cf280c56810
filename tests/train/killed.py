"""A training run that something befalls: test_resume.py runs it here, or kills it in a process.

usage: python -m tests.train.killed WORKDIR STEP      (kills itself after that step)
"""

import os
import signal
import sys

import keras
import tensorflow as tf

import tfeffi
from tests.train.cases import convnet, images
from tfeffi.methods import Method
from tfeffi.train import Settings, fit, loop


class Counter(Method):
    """Counts epochs, pauses and steps, so that it has a state to keep.

    It narrows the model after the second epoch and after three steps of the fourth.
    """

    def __init__(self):
        self.epochs, self.paused, self.steps = 0, 0, tf.Variable(0, trainable=False)

    @property
    def variables(self):
        return (self.steps,)

    def on_gradients(self, run, gradients):
        self.steps.assign_add(1)
        return gradients

    def pauses(self, run):
        return (2, 3, 5)

    def on_pause(self, run):
        self.paused += 1
        if (run.epoch, run.epoch_step) == (3, 3):
            run.adopt(*tfeffi.reindex(run.model, {"conv": [0, 3]}))

    def on_epoch_end(self, run):
        self.epochs += 1
        run.scalars |= {"counted": self.epochs, "paused": self.paused, "steps": int(self.steps)}
        if self.epochs == 2:
            run.adopt(*tfeffi.reindex(run.model, {"conv": [0, 2, 3, 5]}))

    def state(self):
        return {"epochs": self.epochs, "paused": self.paused}

    def restore(self, state):
        self.epochs, self.paused = state["epochs"], state["paused"]


def train(workdir, befall=lambda step: None):
    """Four epochs of six steps; `befall` is called after each step and may end it all."""
    keras.utils.set_random_seed(0)
    original, look_seconds, taken = loop.CompiledStep.__call__, loop.LOOK_SECONDS, []

    def step_then_befall(self, *batch):
        original(self, *batch)
        taken.append(1)
        befall(len(taken))

    loop.CompiledStep.__call__, loop.LOOK_SECONDS = step_then_befall, 0.0
    settings = Settings(
        epochs=4, batch_size=16, checkpoint_seconds=0.0, augment={"crop": 2, "flip": True},
        precision="mixed_float16", early_stopping=9, l2=1e-3,
        optimizer={"name": "sgd", "momentum": 0.9},
    )  # fmt: skip
    try:
        return fit(
            convnet(dropout=0.2), images(96), images(48, seed=1), settings, methods=[Counter()],
            workdir=workdir, verbose=False,
        )  # fmt: skip
    finally:
        loop.CompiledStep.__call__, loop.LOOK_SECONDS = original, look_seconds


if __name__ == "__main__":
    last = int(sys.argv[2])
    train(sys.argv[1], lambda step: step == last and os.kill(os.getpid(), signal.SIGKILL))
