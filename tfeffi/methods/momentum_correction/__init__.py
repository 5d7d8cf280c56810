"""Momentum correction: velocities that follow the learning rate when it changes.

Keras's SGD keeps v ← m·v − η·g and adds v to the weights: the learning rates of the past are in v. When
η changes, past gradients go on acting at the rates of their time. Multiplied by η_new/η_old whenever η
changes, v is what the other form, u ← m·u + g and w ← w − η·u, would have.

Source: Goyal et al. 2017, arXiv 1706.02677, section 3, remark 2 and equation 10.
"""

import warnings

import keras
import tensorflow as tf

from tfeffi.methods.method import Method, NoEffectWarning
from tfeffi.methods.switch_optimizer import SwitchOptimizer


def corrected(velocity, old_rate, new_rate):
    """The velocity in units of the new learning rate: v · η_new / η_old.

    Args:
        velocity: an array.
        old_rate, new_rate: learning rates, scalars. After a rate of 0 nothing is left to correct:
            the velocity stays as it is. A rate of 0 ends it: nothing moves then.
    """
    known = old_rate > 0
    return velocity * keras.ops.where(known, new_rate / keras.ops.where(known, old_rate, 1.0), 1.0)


class MomentumCorrection(Method):
    """`corrected`, before each step, whatever changed the rate: warm-up, schedule, batch size."""

    def on_model(self, run) -> None:
        optimizer = run.settings.optimizer
        self.rate = tf.Variable(0.0, trainable=False)  # that of the last step; 0: there was none
        later = [m.settings()["optimizer"] for m in run.methods if isinstance(m, SwitchOptimizer)]
        if not any(o.get("name") == "sgd" and o.get("momentum") for o in (optimizer, *later)):
            warnings.warn(
                f"momentum_correction: optimizer {dict(optimizer)} keeps no learning rate in a "
                'velocity; take {"name": "sgd", "momentum": ...}',
                NoEffectWarning,
                stacklevel=2,
            )

    def before_step(self, run) -> None:
        optimizer = run.optimizer  # not that of the settings: there may have been a switch
        if not isinstance(optimizer, keras.optimizers.SGD) or not optimizer.momentum:
            return
        rate = tf.cast(run.optimizer.learning_rate, tf.float32)
        for velocity in run.optimizer.momentums:
            velocity.assign(corrected(tf.convert_to_tensor(velocity), self.rate, rate))
        self.rate.assign(tf.where(rate > 0, rate, self.rate))

    @property
    def variables(self) -> tuple:
        return (self.rate,)

    def excludes(self) -> dict[str, str]:
        return {"momentum_correction": "the velocities would be corrected twice"}


def build() -> MomentumCorrection:
    """The method; it has no settings."""
    return MomentumCorrection()
