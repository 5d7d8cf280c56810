"""One optimizer for the first epochs, another for the rest.

Source: Keskar and Socher 2017, "Improving generalization performance by switching from Adam to SGD",
arXiv 1712.07628, with an epoch that is given in place of their criterion.
"""

import dataclasses
import numbers
from collections.abc import Mapping
from typing import Any

from tfeffi.errors import BadInput
from tfeffi.methods.method import Method


def switched(settings, optimizer: Mapping[str, Any], learning_rate: float, l2: float | None = None):
    """The `tfeffi.train.Settings` after the switch: the schedule keeps its shape, its peak is new.

    Args:
        settings: those before.
        optimizer: as `Settings.optimizer`.
        learning_rate: as `Settings.learning_rate`.
        l2: as `Settings.l2`; None keeps it.
    """
    kept = settings.l2 if l2 is None else l2
    return dataclasses.replace(
        settings, optimizer=dict(optimizer), learning_rate=learning_rate, l2=kept
    )


class SwitchOptimizer(Method):
    """`switched` after an epoch; the new optimizer's slots and steps begin at zero."""

    def __init__(self, epoch: int, optimizer: dict, learning_rate: float, l2: float | None):
        self.epoch, self.optimizer = epoch, optimizer
        self._after = (optimizer, learning_rate, l2)
        self._run, self._done = None, False

    def on_model(self, run) -> None:
        if self.epoch >= run.settings.epochs:
            raise BadInput(
                f"switch_optimizer: epoch={self.epoch} is not before the end of "
                f"{run.settings.epochs} epochs"
            )
        epochs = [m.epoch for m in run.methods if isinstance(m, SwitchOptimizer)]
        if epochs != sorted(set(epochs)):
            raise BadInput(
                f"switch_optimizer: several must be listed with rising epochs, not {epochs}"
            )
        self._run, self._done = run, False
        after = switched(run.settings, *self._after)
        dataclasses.replace(run, settings=after).new_optimizer()  # a bad one is told now

    def on_epoch_end(self, run) -> None:
        if run.epoch == self.epoch:
            self._switch(run)

    def _switch(self, run) -> None:
        run.pace.restart(run.updates)  # the new one counts from 0; the schedule goes on
        run.settings, self._done = switched(run.settings, *self._after), True
        with run.strategy.scope():
            run.optimizer = run.new_optimizer()

    def settings(self) -> dict:
        optimizer, learning_rate, l2 = self._after
        return dict(epoch=self.epoch, optimizer=optimizer, learning_rate=learning_rate, l2=l2)

    def state(self) -> dict:
        return {"done": self._done}

    def restore(self, state: dict) -> None:
        if state["done"]:
            self._switch(self._run)


def build(
    epoch: int, optimizer: Mapping[str, Any], learning_rate: float, l2: float | None = None
) -> SwitchOptimizer:
    """The method.

    Args:
        epoch: after which the other optimizer takes over, at least 1.
        optimizer: which, as `train.optimizer`: `{"name": "convolution_muon", ...}`.
        learning_rate: the peak of the schedule from then on; its shape and place stay, and what
            scales it with the batch.
        l2: from then on; None keeps what it was.

    Raises:
        BadInput: an epoch, optimizer or rate of no use.
    """
    if not isinstance(epoch, int) or isinstance(epoch, bool) or epoch < 1:
        raise BadInput(f"switch_optimizer: epoch={epoch!r} must be a whole number of at least 1")
    if not isinstance(optimizer, Mapping):
        raise BadInput(
            f'switch_optimizer: optimizer={optimizer!r} must be a mapping such as {{"name": "sgd"}}'
        )
    for name, value, least in (("learning_rate", learning_rate, None), ("l2", l2, 0)):
        number = isinstance(value, numbers.Real) and not isinstance(value, bool)
        if value is None and name == "l2":
            continue
        if not number or not (value > 0 if least is None else value >= least):
            what = "a number above 0" if least is None else "a number of 0 or more, or None"
            raise BadInput(f"switch_optimizer: {name}={value!r} must be {what}")
    return SwitchOptimizer(epoch, dict(optimizer), learning_rate, l2)
