"""Learning-rate schedules, all of them Keras schedules: a function of the optimizer's step.

Epochs are turned into steps here and nowhere else. Keras's own classes are used where they exist;
`LinearWarmup` and `Triangular` are the two it lacks, `Paced` walks any of them while the batch grows.
"""

import inspect
import math
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf
from keras import ops
from keras.optimizers.schedules import (
    CosineDecay,
    CosineDecayRestarts,
    LearningRateSchedule,
    PiecewiseConstantDecay,
)

from tfeffi.errors import BadInput, check_keys, near


@keras.saving.register_keras_serializable("tfeffi")
class LinearWarmup(LearningRateSchedule):
    """Multiplies a schedule by a ramp that reaches 1 after `warmup_steps` (Goyal et al. 2017, §2.2).

    Args:
        schedule: the schedule that is ramped; it counts its steps from the start of training.
        warmup_steps: step s < warmup_steps is multiplied by start + (1 − start)·(s + 1)/warmup_steps.
        start: the factor that the ramp begins at.
    """

    def __init__(self, schedule: LearningRateSchedule, warmup_steps: int, start: float = 0.0):
        self.schedule, self.warmup_steps, self.start = schedule, warmup_steps, start

    def __call__(self, step):
        done = (ops.cast(step, "float32") + 1.0) / self.warmup_steps
        ramp = self.start + (1.0 - self.start) * ops.minimum(done, 1.0)
        return self.schedule(step) * ramp

    def get_config(self):
        inner = keras.saving.serialize_keras_object(self.schedule)
        return {"schedule": inner, "warmup_steps": self.warmup_steps, "start": self.start}

    @classmethod
    def from_config(cls, config):
        inner = keras.saving.deserialize_keras_object(config["schedule"])
        return cls(inner, config["warmup_steps"], config["start"])


@keras.saving.register_keras_serializable("tfeffi")
class Triangular(LearningRateSchedule):
    """Up in a straight line, down in a straight line (Smith 2015, "Cyclical learning rates").

    Args:
        learning_rate: the peak.
        steps: length of one triangle; it repeats (Smith's cycle) unless training ends before.
        peak_at: where in the triangle the peak lies, in (0, 1].
        start, final: the first and last value, as fractions of the peak.
    """

    def __init__(self, learning_rate, steps, peak_at=0.5, start=0.0, final=0.0):
        self.learning_rate, self.steps = learning_rate, steps
        self.peak_at, self.start, self.final = peak_at, start, final

    def __call__(self, step):
        position = ops.cast(step % self.steps, "float32") / self.steps
        up = self.start + (1.0 - self.start) * position / self.peak_at
        down = 1.0 - (1.0 - self.final) * (position - self.peak_at) / max(1.0 - self.peak_at, 1e-12)
        return self.learning_rate * ops.where(position < self.peak_at, up, down)

    def get_config(self):
        return dict(vars(self))


class Pace:
    """Where in a schedule a run is whose batch size, and so whose steps an epoch, changes.

    The schedule counts steps of the first batch size; `rate` of them pass in a step. Variables, so
    that a traced step follows, and a checkpoint keeps them.
    """

    def __init__(self):
        self.since = tf.Variable(0, trainable=False, dtype=tf.int64)  # step of the last change
        self.done = tf.Variable(0.0, trainable=False, dtype=tf.float64)  # position at that step
        self.rate = tf.Variable(1.0, trainable=False, dtype=tf.float64)
        self.factor = tf.Variable(1.0, trainable=False, dtype=tf.float32)  # of the learning rate

    @property
    def variables(self) -> list[tf.Variable]:
        return [self.since, self.done, self.rate, self.factor]

    def position(self, step):
        """The step of the schedule that the optimizer's `step` stands for; float64."""
        passed = tf.cast(step, tf.int64) - self.since
        return self.done + self.rate * tf.cast(passed, tf.float64)

    def restart(self, step: int) -> None:
        """Goes on from `step`, which an optimizer that begins now calls 0."""
        self.done.assign(self.position(step))
        self.since.assign(0)

    def change(self, step: int, rate: float, factor: float, position: float) -> None:
        """From `step` on, which is at `position`, `rate` of its steps pass in one, times `factor`."""
        self.done.assign(position)
        self.since.assign(step)
        self.rate.assign(rate)
        self.factor.assign(factor)


class Paced(LearningRateSchedule):
    """A schedule at the pace of a run; it lives as long as the run and is not saved."""

    def __init__(self, schedule: LearningRateSchedule, pace: Pace):
        self.schedule, self.pace = schedule, pace

    def __call__(self, step):
        return self.schedule(self.pace.position(step)) * self.pace.factor

    def get_config(self):
        return {}


def constant(learning_rate: float, steps: int, per_epoch: int) -> LearningRateSchedule:
    """The same learning rate at every step."""
    return PiecewiseConstantDecay([steps], [learning_rate, learning_rate])


def step(
    learning_rate: float, steps: int, per_epoch: int, milestones=(), factor: float = 0.1
) -> LearningRateSchedule:
    """Multiplies by `factor` at the start of each epoch in `milestones` (counted from 0)."""
    if not milestones or list(milestones) != sorted(set(milestones)) or milestones[0] <= 0:
        raise BadInput(
            f"schedule step: milestones={tuple(milestones)} must be rising epochs above 0"
        )
    values = [learning_rate * factor**i for i in range(len(milestones) + 1)]
    # Keras changes the value after its boundary; a step of a smaller batch is a part of one here.
    return PiecewiseConstantDecay([round(m * per_epoch) - 0.125 for m in milestones], values)


def cosine(
    learning_rate: float, steps: int, per_epoch: int, final: float = 0.0
) -> LearningRateSchedule:
    """Half a cosine from the peak to `final`·peak at the last step (Loshchilov & Hutter 2016)."""
    return CosineDecay(learning_rate, steps, alpha=final)


def warm_restarts(
    learning_rate: float, steps: int, per_epoch: int, first_epochs: float = 10,
    multiply: float = 2.0, decay: float = 1.0, final: float = 0.0,
) -> LearningRateSchedule:  # fmt: skip
    """SGDR (Loshchilov & Hutter 2016): cosines of first_epochs·multiplyⁱ, peaks times decayⁱ."""
    if first_epochs <= 0:
        raise BadInput(f"schedule warm_restarts: first_epochs={first_epochs} must be above 0")
    if multiply < 1:
        raise BadInput(f"schedule warm_restarts: multiply={multiply} must be at least 1")
    first = max(1, round(first_epochs * per_epoch))
    return CosineDecayRestarts(learning_rate, first, t_mul=multiply, m_mul=decay, alpha=final)


def triangular(
    learning_rate: float, steps: int, per_epoch: int, peak_at: float = 0.2, start: float = 0.0,
    final: float = 0.0, cycles: int = 1,
) -> LearningRateSchedule:  # fmt: skip
    """`cycles` triangles over the whole training; see `Triangular`."""
    if not 0 < peak_at <= 1 or cycles < 1:
        raise BadInput(
            f"schedule triangular: peak_at={peak_at} must be in (0, 1], cycles={cycles} >= 1"
        )
    return Triangular(learning_rate, max(1, steps // cycles), peak_at, start, final)


SHAPES: dict[str, Callable[..., LearningRateSchedule]] = {
    f.__name__: f for f in (constant, step, cosine, warm_restarts, triangular)
}


def build(
    schedule: Mapping[str, Any], learning_rate: float, epochs: int, steps_per_epoch: int
) -> LearningRateSchedule:
    """Builds a schedule from `{"name": …, "warmup_epochs": …, "warmup_from": …, ...}`.

    Args:
        schedule: the name of a function of this file, its keywords, and optionally a linear warm-up
            of `warmup_epochs` epochs (may be a fraction) beginning at `warmup_from`·learning rate.
        learning_rate: the peak.
        epochs, steps_per_epoch: length of the training.

    Raises:
        BadInput: an unknown name or keyword, or a warm-up longer than the training.
    """
    rest = dict(schedule)
    name, warmup_epochs = rest.pop("name", "constant"), rest.pop("warmup_epochs", 0)
    start = rest.pop("warmup_from", 0.0)
    if name not in SHAPES:
        raise BadInput(f'schedule "{name}" is not known; {near(name, SHAPES)}')
    keywords = list(inspect.signature(SHAPES[name]).parameters)[3:]
    check_keys(f"schedule {name}", rest, [*keywords, "warmup_epochs", "warmup_from"])
    if not isinstance(warmup_epochs, numbers.Real) or not 0 <= warmup_epochs <= epochs:
        raise BadInput(
            f"schedule: warmup_epochs={warmup_epochs} must be within the {epochs} epochs"
        )
    if not isinstance(start, numbers.Real) or not 0 <= start < math.inf:
        raise BadInput(f"schedule: warmup_from={start!r} must be a share of the learning rate")
    try:
        made = SHAPES[name](learning_rate, epochs * steps_per_epoch, steps_per_epoch, **rest)
        made(0)
    except (TypeError, tf.errors.OpError) as error:
        raise BadInput(f"schedule {name}: {rest} is of no use ({_first_line(error)})") from error
    steps = round(warmup_epochs * steps_per_epoch)
    return LinearWarmup(made, steps, start) if steps else made


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
