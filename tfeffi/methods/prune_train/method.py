"""The Method: group lasso in the loss or after the step, reconfigurations between epochs or within."""

import math
import numbers
import warnings

import tensorflow as tf

from tfeffi.analysis.cost import cost
from tfeffi.analysis.memory import TrainingMemory, largest_batch, training_memory
from tfeffi.errors import BadInput, near
from tfeffi.methods.method import Method, NoEffectWarning
from tfeffi.methods.prune_train.lasso import (
    GroupLasso,
    check_ratio,
    check_weighting,
    penalty_from_ratio,
)
from tfeffi.methods.prune_train.reconfiguration import check_threshold, reconfigure

VARIANTS = ("threshold", "proximal")


class PruneTrain(Method):
    """Prunes while it trains; see `build` for the settings.

    After each epoch the history has `lambda`, `channels` (sets of coupled channels that are left),
    `macs` of one image of the full size, `params`, and with `memory_bytes` the `batch_size` of the next
    epoch.
    """

    def __init__(self, **settings):
        self._settings = settings
        self.variant, self.ratio = settings["variant"], settings["ratio"]
        self.penalty, self._params, self._macs = None, 0, 0
        self._lasso, self._lasso_of = None, None

    def on_model(self, run) -> None:
        epochs, start = run.settings.epochs, self._settings["start"]
        if start > epochs:
            raise BadInput(f"prune_train: start={start} is after the last of {epochs} epochs")
        if round(1 / (interval := self._settings["interval"])) > run.steps_per_epoch:
            raise BadInput(
                f"prune_train: interval={interval!r} of an epoch of {run.steps_per_epoch} steps is less "
                "than one step"
            )
        self.penalty = tf.Variable(0.0, trainable=False, dtype=tf.float32)  # λ
        self._learn_penalty(run)
        self._params = run.model.count_params()
        if (budget := self._settings["memory_bytes"]) is not None:
            fits = self._largest_batch(run)  # a budget below one image is told now
            if fits < run.batch_size:
                warnings.warn(
                    f"prune_train: memory_bytes={budget:g} is for {fits} images of this model, but the "
                    f"batch begins with {run.batch_size}; give more, or a smaller batch_size",
                    NoEffectWarning,
                    stacklevel=2,
                )

    def extra_loss(self, run):
        if self.variant == "proximal":
            return None
        lasso = self._groups(run)
        return tf.cond(self.penalty > 0.0, lambda: self.penalty * lasso(), lambda: 0.0)

    def before_step(self, run) -> None:
        # Momentum moves a weight 1/(1 − m) times as far along a gradient that stays as the
        # learning rate says; this pull stays, too, and does not go through the momentum.
        momentum = getattr(run.optimizer, "momentum", 0.0)
        self._rate = tf.cast(run.optimizer.learning_rate, tf.float32) / (1.0 - momentum)

    def after_step(self, run) -> None:
        if self.variant == "proximal":
            lasso, hold = self._groups(run), self._settings["hold"]
            by = self._rate * self.penalty
            tf.cond(self.penalty > 0.0, lambda: lasso.shrink(by, hold), lambda: None)

    def pauses(self, run) -> list[int]:
        parts, until = round(1 / self._settings["interval"]), self._last(run)
        if not self._settings["start"] <= run.epoch < until or not self._lambda():
            return []
        steps = run.steps_per_epoch
        return sorted({round(part * steps / parts) for part in range(1, parts)} - {0, steps})

    def on_pause(self, run) -> None:
        before = run.model.count_params()
        self._reconfigure(run, grow=False)  # the batch grows between epochs only
        # not simply the present count: what another method has let grow is still to be seen
        self._params += run.model.count_params() - before
        if self._is_small(run):
            self.penalty.assign(0.0)

    def on_epoch_end(self, run) -> None:
        s = self._settings
        stop = self._last(run)
        has_grown = run.model.count_params() > self._params
        due = run.epoch % max(s["interval"], 1) == 0 or has_grown
        if (due and s["start"] <= run.epoch <= stop) or run.epoch == stop:
            self._reconfigure(run)
        if has_grown and run.epoch < stop:
            self._learn_penalty(run)  # another method has let the model grow: R is another one
        self._params = run.model.count_params()
        if has_grown and s["memory_bytes"] is not None:
            self._fill_memory(run, shrink=True)
        if run.epoch == s["stop"] or self._is_small(run):
            self.penalty.assign(0.0)
        counted = cost(run.model, run.train.images.shape[1:])  # also while they are smaller
        run.scalars |= {
            "lambda": self._lambda(), "channels": self._groups(run).channels,
            "macs": counted.macs, "params": counted.params,
        }  # fmt: skip
        if s["memory_bytes"] is not None:
            run.scalars["batch_size"] = run.batch_size

    @property
    def variables(self) -> tuple:
        return (self.penalty,)

    def excludes(self) -> dict[str, str]:
        has_budget = self._settings["memory_bytes"] is not None
        twice = {"prune_train": "each has a penalty of its own on the same channels"}
        return twice | ({"batch_growth": "each sets the batch size"} if has_budget else {})

    def settings(self) -> dict:
        return dict(self._settings)

    def state(self) -> dict:
        return {"params": self._params, "macs": self._macs}

    def restore(self, state: dict) -> None:
        self._params, self._macs = state["params"], state["macs"]

    def _groups(self, run) -> GroupLasso:
        if self._lasso_of is not run.model:
            weighting, shape = self._settings["weighting"], run.train.images.shape[1:]
            shape = shape if weighting == "macs" else None
            self._lasso = GroupLasso(run.model, weighting, shape, self._settings["coupled"])
            self._lasso_of = run.model
        return self._lasso

    def _learn_penalty(self, run) -> None:
        """λ from the loss of a first batch and the present weights."""
        lasso = float(self._groups(run)())
        self.penalty.assign(penalty_from_ratio(run.first_loss(), lasso, self.ratio))
        self._macs = self._count(run)

    def _lambda(self) -> float:
        """λ; 0 once the penalty has ended."""
        return float(tf.convert_to_tensor(self.penalty))

    def _last(self, run) -> int:
        """The epoch that ends with the last reconfiguration."""
        return min(self._settings["stop"] or run.settings.epochs, run.settings.epochs)

    def _is_small(self, run) -> bool:
        """Whether the target is reached."""
        target = self._settings["target"]
        return target is not None and self._count(run) <= target * self._macs

    @staticmethod
    def _count(run) -> int:
        """Multiply-adds of an image of the full size, also while they are smaller."""
        return cost(run.model, run.train.images.shape[1:]).macs

    def _reconfigure(self, run, grow: bool = True) -> None:
        s = self._settings
        model, slices, report = reconfigure(
            run.model, s["threshold"], relative=s["relative"], multiple_of=s["multiple_of"]
        )
        if report.changed:
            run.adopt(model, slices)
        if grow and s["memory_bytes"] is not None:
            self._fill_memory(run, shrink=False)  # pruning makes room only

    def _fill_memory(self, run, shrink: bool) -> None:
        """The largest batch that fits, and the learning rate in proportion."""
        s = self._settings
        limit = min(s["max_batch"] or len(run.train), len(run.train))
        least = run.strategy.num_replicas_in_sync * (run.settings.ghost_batch or 1)
        try:
            batch = min(self._largest_batch(run), limit)
            whole = math.lcm(least, s["granularity"])
            batch -= batch % (whole if batch >= whole else least)
        except BadInput:  # another method has let the model grow out of the budget
            batch = 0
        if shrink and not batch:
            batch = min(least, run.batch_size)
            warnings.warn(
                f"prune_train: memory_bytes={s['memory_bytes']:g} is too little for the model that has "
                f"grown before epoch {run.epoch}; the batch is {batch} from here on",
                NoEffectWarning,
                stacklevel=2,
            )
        if batch > run.batch_size or (shrink and 0 < batch < run.batch_size):
            run.set_batch_size(batch, float(run.pace.factor) * batch / run.batch_size)

    def _largest_batch(self, run) -> int:
        s = self._settings
        try:
            return largest_batch(self._memory(run), s["memory_bytes"], s["granularity"])
        except BadInput as error:
            raise BadInput(f"prune_train: memory_bytes={s['memory_bytes']!r}: {error}") from error

    @staticmethod
    def _memory(run) -> TrainingMemory:
        optimizer = run.settings.optimizer
        name = str(optimizer.get("name", ""))
        momentum = bool(optimizer.get("momentum")) or name == "convolution_muon"
        slots = 2 if name.startswith("adam") else int(momentum)
        # of images of the full size, also while they are smaller
        return training_memory(run.model, run.train.images.shape[1:], slots=slots)


def build(
    ratio: float = 0.2,
    interval: int | float = 10,
    threshold: float = 1e-4,
    relative: bool = False,
    variant: str = "threshold",
    weighting: str = "equal",
    coupled: bool = False,
    hold: bool = False,
    multiple_of: int = 1,
    start: int = 1,
    stop: int | None = None,
    target: float | None = None,
    memory_bytes: float | None = None,
    granularity: int = 32,
    max_batch: int | None = None,
) -> PruneTrain:
    """The method.

    Args:
        ratio: the penalty's share of the loss at the first batch, in (0, 1): sets λ once.
        interval: epochs between reconfigurations, or 1/n of one (from `start` on). The step is traced
            anew whenever something leaves. There is a reconfiguration after growth, too.
        threshold: channels whose weights are all smaller leave, see `reconfigure`.
        relative: whether the threshold is a share of a kernel's largest weight.
        variant: "threshold": λR(W) is added to the loss, and weights come near zero. "proximal":
            after each step every group becomes shorter by λ·learning rate/(1 − momentum), and
            weights become exactly zero.
        weighting: what a group's norm counts in the penalty: "equal" (once), "size" (√(number of its
            weights) times) or "macs" (as many times as its channel costs million multiply-adds), see
            `GroupLasso`.
        coupled: whether all kernels that make or read channels which live and die together shrink in
            proportion, as one group, see `GroupLasso`; else inner channels go before residual paths.
        hold: whether kernels ahead of a batch normalization keep their norm in the proximal step, see
            `GroupLasso.shrink`; the pull then moves weight from some channels to others.
        multiple_of: widths are rounded up to multiples of this.
        start: epochs before which there is no reconfiguration; 0 for parts of the first one.
        stop: the epoch that ends with the last one; from then on there is no penalty, and what is
            left is trained on. None: the last epoch, as in the paper.
        target: share of the multiply-adds of the model that λ was learned for, which is the first one or,
            after growth, the grown one without what was dead in it, in (0, 1); where a reconfiguration
            or an epoch leaves no more the penalty ends, and reconfigurations within epochs with it.
            What is left can be less: a reconfiguration takes whatever is dead. None: no such end.
        memory_bytes: for a training step; with it the batch grows to the largest that fits, between
            epochs, and the learning rate in proportion. None: the batch stays.
        granularity: the batch is a multiple of this.
        max_batch: a limit to its growth.

    Raises:
        BadInput: a ratio or target outside of (0, 1), a wrong interval, an unknown variant or weighting.
    """
    settings = dict(locals())
    check_ratio(ratio)
    check_threshold(threshold, relative)
    check_weighting(weighting)
    if variant not in VARIANTS:
        raise BadInput(f'prune_train: variant="{variant}" is not known; {near(variant, VARIANTS)}')
    if hold and variant != "proximal":
        raise BadInput(
            f'prune_train: hold is of variant="proximal"; variant="{variant}" has no step to hold'
        )
    _check_interval(interval)
    for name in ("multiple_of", "granularity"):
        value = settings[name]
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadInput(f"prune_train: {name}={value!r} must be a whole number of at least 1")
    for name, kind in (("memory_bytes", int | float), ("max_batch", int)):
        value = settings[name]
        number = isinstance(value, kind) and not isinstance(value, bool)
        if value is not None and not (number and 1 <= value < math.inf):
            what = "a whole number" if kind is int else "a number"
            raise BadInput(f"prune_train: {name}={value!r} must be {what} of at least 1, or None")
    ends = [start] if stop is None else [start, stop]
    whole = all(isinstance(epoch, int) and not isinstance(epoch, bool) for epoch in ends)
    if not whole or not 0 <= start <= ends[-1] or stop == 0:
        raise BadInput(
            f"prune_train: start={start!r} and stop={stop!r} must be whole epochs, 0 <= start <= stop "
            "and stop at least 1"
        )
    is_share = isinstance(target, numbers.Real) and not isinstance(target, bool) and 0 < target < 1
    if target is not None and not is_share:
        raise BadInput(
            f"prune_train: target={target!r} is the share of the multiply-adds that is to be left and "
            "must be between 0 and 1, such as 0.4"
        )
    return PruneTrain(**settings)


def _check_interval(interval) -> None:
    """Raises BadInput for what is neither whole epochs nor a part of one that divides it."""
    number = isinstance(interval, int | float) and not isinstance(interval, bool)
    whole = number and 1 <= interval < math.inf and interval == round(interval)
    part = number and 1e-9 < interval < 1 and abs(1 / interval - round(1 / interval)) < 1e-6
    if not whole and not part:
        raise BadInput(
            f"prune_train: interval={interval!r} must be a whole number of epochs, at least 1, or 1/n of "
            "one, such as 0.25 or 1/3"
        )
