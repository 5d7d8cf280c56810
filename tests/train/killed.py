"""A training run in a process of its own, for test_resume.py to kill.

usage: python -m tests.train.killed WORKDIR [kill at this step]
"""

import os
import signal
import sys

import keras

from tests.train.cases import convnet, images
from tfeffi.methods import Method
from tfeffi.train import Settings, fit, loop


class KillAt(Method):
    """Counts epochs (so that it has a state to keep)."""

    epochs = 0

    def on_epoch_end(self, run):
        self.epochs += 1
        run.scalars["counted"] = self.epochs

    def state(self):
        return {"epochs": self.epochs}

    def restore(self, state):
        self.epochs = state["epochs"]


def main(workdir, kill_at=None):
    keras.utils.set_random_seed(0)
    if kill_at is not None:
        original = loop._CompiledStep.__call__
        taken = []

        def step_then_die(self, *batch):
            original(self, *batch)
            taken.append(1)
            if len(taken) == int(kill_at):
                os.kill(os.getpid(), signal.SIGKILL)

        loop._CompiledStep.__call__ = step_then_die
    loop.LOOK_SECONDS = 0.0
    settings = Settings(
        epochs=4, batch_size=16, checkpoint_seconds=0.0, augment={"crop": 2, "flip": True},
        precision="mixed_float16", early_stopping=9, l2=1e-3,
        optimizer={"name": "sgd", "momentum": 0.9},
    )  # fmt: skip
    data = images(96), images(48, seed=1)
    fit(convnet(dropout=0.2), *data, settings, methods=[KillAt()], workdir=workdir, verbose=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
