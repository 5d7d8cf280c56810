"""Look-ahead: slow weights that follow the fast ones, and to which the fast ones go back.

Every few steps slow ← slow + (1 − d)·(fast − slow), and the fast weights take that value. With `decay`
rising to 1 over the training the pull fades in, as in Jordan 2024.

Source: Zhang et al. 2019, arXiv 1907.08610, algorithm 1; Jordan 2024, arXiv 2404.00498, section 3.4.
"""

import numbers
import warnings

import tensorflow as tf

from tfeffi.errors import BadInput
from tfeffi.methods.method import Method, NoEffectWarning


def look_ahead(slow, fast, pull: float):
    """Both at slow + pull·(fast − slow).

    Args:
        slow, fast: arrays of one shape.
        pull: 0 goes all the way back, 1 keeps the fast weights.
    """
    return slow + pull * (fast - slow)


class LookAhead(Method):
    """`look_ahead` of every weight and moving statistic, every `interval` steps.

    The pull is 1 − decay·(t/T)^power; after the last epoch the weights are left at the slow ones.
    """

    def __init__(self, interval: int, decay: float, power: float):
        self.interval, self.decay, self.power = interval, decay, power

    def on_model(self, run) -> None:
        self.slow = [
            tf.Variable(tf.convert_to_tensor(v), trainable=False) for v in self._fast(run.model)
        ]
        self.steps = tf.Variable(0, trainable=False, dtype=tf.int64)
        self.last = run.settings.epochs * run.steps_per_epoch
        if self.interval > self.last:
            warnings.warn(
                f"look_ahead: interval={self.interval} is more than the {self.last} steps of the run, "
                "which ends on the weights that it began with",
                NoEffectWarning,
                stacklevel=2,
            )

    @staticmethod
    def _fast(model) -> list:
        return [v for v in model.variables if v.dtype.startswith(("float", "bfloat"))]

    def on_epoch_end(self, run) -> None:
        if [tuple(v.shape) for v in self._fast(run.model)] != [tuple(v.shape) for v in self.slow]:
            raise BadInput(
                "look_ahead: the model's shapes changed during training; leave out the method that "
                "changes its channels"
            )
        if run.epoch == run.settings.epochs and int(tf.convert_to_tensor(self.steps)):
            for slow, variable in zip(self.slow, self._fast(run.model), strict=True):
                variable.assign(slow)

    def excludes(self) -> dict[str, str]:
        why = "it changes the model's channels, and the slow weights would not follow"
        return {"prune_train": why, "net2net": why}

    def before_step(self, run) -> None:
        # now, not in on_model: what methods behind this one in the list have set is in, too
        tf.cond(self.steps == 0, lambda: self._begin(run.model), lambda: None)

    def after_step(self, run) -> None:
        fast = self._fast(run.model)
        self.steps.assign_add(1)
        tf.cond(self.steps % self.interval == 0, lambda: self._pull(fast), lambda: None)

    def _begin(self, model) -> None:
        for slow, variable in zip(self.slow, self._fast(model), strict=True):
            slow.assign(tf.convert_to_tensor(variable))

    def _pull(self, fast) -> None:
        done = tf.cast(self.steps, tf.float32) / self.last
        pull = 1.0 - self.decay * done**self.power
        for slow, variable in zip(self.slow, fast, strict=True):
            slow.assign(look_ahead(slow, tf.convert_to_tensor(variable), pull))
            variable.assign(slow)

    @property
    def variables(self) -> tuple:
        return (*self.slow, self.steps)

    def settings(self) -> dict:
        return dict(interval=self.interval, decay=self.decay, power=self.power)


def build(interval: int = 5, decay: float = 0.77, power: float = 3.0) -> LookAhead:
    """The method.

    Args:
        interval: steps between two looks.
        decay: how much of the slow weights stays at the end of training, in [0, 1).
        power: how late the slow weights come in; 0 holds `decay` all the time.

    Raises:
        BadInput: a value out of its range.
    """
    if not isinstance(interval, int) or interval < 1:
        raise BadInput(f"look_ahead: interval={interval!r} must be a whole number of at least 1")
    if not isinstance(decay, numbers.Real) or not 0 <= decay < 1:
        raise BadInput(f"look_ahead: decay={decay!r} must be in [0, 1)")
    if not isinstance(power, numbers.Real) or not power >= 0:
        raise BadInput(f"look_ahead: power={power!r} must be 0 or more")
    return LookAhead(interval, decay, power)
